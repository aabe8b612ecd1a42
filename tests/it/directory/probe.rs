//! `testDirectory`: what works, what does not, and why.

use serde_json::json;

use super::{
    app, configure, hasty, input,
    servers::{Manner, Server},
    service, steps, tenant_of, test,
};
use crate::support::slapd::{Authority, BASE, READER_SECRET, Slapd, uuid_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_step_is_told_up_to_groups_and_roles() {
    let (app, authority) = (app().await, Authority::new("suite"));
    let slapd = Slapd::start(&authority);
    let (_, client) = tenant_of(&app, "tests", &slapd, &authority).await;
    let report = test(&client, Some("ada")).await;
    let all = ["NAME_LOOKUP ok", "CONNECTION ok", "TLS ok", "BIND ok", "SEARCH ok", "USER ok", "GROUPS ok"];
    assert_eq!((steps(&report), &report["ok"]), (all.map(str::to_owned).to_vec(), &json!(true)));
    assert_eq!(
        (&report["person"]["externalId"], &report["person"]["roles"]),
        (&json!(uuid_of("ada")), &json!(["admin", "member"]))
    );
    assert_eq!(report["person"]["groups"].as_array().unwrap().len(), 4);
    let of = |place: usize| report["steps"][place].clone();
    assert_eq!((of(0)["server"].as_str().unwrap(), &of(5)["server"]), (slapd.ldaps().as_str(), &json!(null)));
    assert_eq!(of(2)["certificates"][0]["isAuthority"], false);
    assert!(report["steps"].as_array().unwrap().iter().all(|step| step["milliseconds"].as_i64().unwrap() < 20_000));
    // Without a login, what there is to try without one.
    assert_eq!(steps(&test(&client, None).await).len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_fails_says_why_and_the_secret_is_nowhere() {
    let (app, authority) = (hasty().await, Authority::new("suite"));
    let slapd = Slapd::start(&authority);
    let (hanging, tenant) = (Server::start(Manner::Hang).await, app.tenant("fails").await);
    let client = service(&app, &tenant).await;
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let cases = [
        (vec![format!("ldaps://{gone}")], json!({}), "CONNECTION no connection: refused"),
        (
            vec!["ldaps://name.that.is.nowhere.invalid".to_owned()],
            json!({}),
            "NAME_LOOKUP the server's name cannot be resolved",
        ),
        (vec![hanging.ldaps()], json!({}), "TLS no answer in time: TLS"),
        (vec![hanging.ldap()], json!({}), "TLS no answer in time: StartTLS"),
        (
            vec![slapd.ldaps()],
            json!({ "bindSecret": "wrong-one" }),
            "BIND the server answers with result code 49 (invalidCredentials)",
        ),
        (
            vec![slapd.ldaps()],
            json!({ "baseDn": format!("ou=gone,{BASE}") }),
            "SEARCH the server answers with result code 32 (noSuchObject)",
        ),
        (
            vec![slapd.ldaps()],
            json!({ "userFilter": "(title={login})" }),
            "SEARCH nobody is found by userFilter below baseDn",
        ),
        (
            vec![slapd.ldaps()],
            json!({ "userFilter": "(&(objectClass=*)(!(uid=x{login})))" }),
            "USER several entries have this login, so none of them can sign in; narrow userFilter",
        ),
        (
            vec![slapd.ldaps()],
            json!({ "attributes": { "email": "mobile" } }),
            "USER the entry uid=ada,ou=people,dc=example,dc=org lacks mobile",
        ),
    ];
    for (servers, more, last) in cases {
        configure(&client, input(&servers, &authority, more)).await;
        let report = test(&client, Some("ada")).await;
        assert_eq!((steps(&report).last().map(String::as_str), &report["ok"]), (Some(last), &json!(false)));
        let text = report.to_string();
        assert!(!text.contains(READER_SECRET) && !text.contains("wrong-one"), "{text}");
    }
    configure(&client, input(&[slapd.ldaps()], &authority, json!({}))).await;
    assert_eq!(steps(&test(&client, Some("nobody")).await).last().unwrap(), "USER nobody has this login");
    // One server that fails does not keep the next from being shown.
    configure(&client, input(&[hanging.ldaps(), slapd.ldaps()], &authority, json!({}))).await;
    let report = test(&client, Some("ada")).await;
    assert_eq!((&report["ok"], &report["person"]["roles"]), (&json!(false), &json!(["admin", "member"])));
    let without = service(&app, &app.tenant("has-none").await).await;
    assert_eq!(without.refused(super::TEST, json!({})).await, "not_found");
}
