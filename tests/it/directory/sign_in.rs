//! Signing in with the password of the directory.

use std::time::{Duration, Instant};

use serde_json::json;
use tenantry::error::Kind;

use super::{app, configure, input, permit, refused, service, sign_in, tenant_of};
use crate::support::slapd::{Authority, BASE, Slapd, company, entry_of, uuid_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_knows_the_password_has_groups_and_roles_and_who_does_not_is_nobody() {
    let (app, authority) = (app().await, Authority::new("suite"));
    let slapd = Slapd::start(&authority);
    let (tenant, _) = tenant_of(&app, "signs-in", &slapd, &authority).await;
    let ada = sign_in(&app, &tenant, "ada", "of-ada").await.unwrap();
    assert_eq!((ada.email.as_str(), ada.name.as_str()), ("ada@example.org", "Ada Example"));
    assert_eq!((ada.external_id, ada.dn), (uuid_of("ada"), format!("uid=ada,ou=people,{BASE}")));
    let group = |name: &str| format!("cn={name},ou=groups,{BASE}");
    // Admin by a group in a group; the circle of groups has an end.
    assert_eq!(ada.groups, ["admins", "circle", "engineers", "staff"].map(group));
    assert_eq!(ada.roles, ["admin", "member"]);
    assert_eq!(sign_in(&app, &tenant, "BOB", "of-bob").await.unwrap().roles, ["member"]);
    assert!(sign_in(&app, &tenant, "eve", "of-eve").await.unwrap().roles.is_empty());
    for (login, password) in [("ada", "of-bob"), ("ada", "OF-ADA"), ("nobody", "of-ada"), ("ada ", "x"), ("", "of-ada")]
    {
        assert_eq!(refused(&app, &tenant, login, password).await, Kind::Unauthenticated, "{login} {password}");
    }
    let other = app.tenant("has-none").await;
    assert_eq!(refused(&app, &other, "ada", "of-ada").await, Kind::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_count_as_they_are_configured_to() {
    let (app, authority) = (app().await, Authority::new("suite"));
    let slapd = Slapd::start(&authority);
    let (tenant, client) = tenant_of(&app, "flat", &slapd, &authority).await;
    configure(
        &client,
        input(&[slapd.ldaps()], &authority, json!({ "nestedGroups": "NONE", "defaultRoles": ["viewer"] })),
    )
    .await;
    assert_eq!(sign_in(&app, &tenant, "ada", "of-ada").await.unwrap().roles, ["member", "viewer"]);
    let elsewhere = json!({ "groupBaseDn": format!("ou=people,{BASE}") });
    configure(&client, input(&[slapd.ldaps()], &authority, elsewhere)).await;
    assert!(sign_in(&app, &tenant, "ada", "of-ada").await.unwrap().groups.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_of_several_people_is_nobodys_and_who_lacks_an_address_is_told() {
    let (app, authority) = (app().await, Authority::new("suite"));
    let twins =
        [entry_of("cn=one", "twin", "One", "one@example.org"), entry_of("cn=two", "Twin", "Two", "two@example.org")];
    let twins = twins.concat().replacen(&uuid_of("Twin"), &uuid_of("two"), 1);
    let lost = entry_of("uid=lost", "lost", "Lost", "lost@example.org").replace("mail: lost@example.org\n", "");
    let slapd = Slapd::with_entries(&authority, &format!("{}{twins}{lost}", company()));
    let (tenant, _) = tenant_of(&app, "twins", &slapd, &authority).await;
    assert_eq!(refused(&app, &tenant, "twin", "of-twin").await, Kind::Unauthenticated);
    // Only who knows the password learns what is missing.
    assert_eq!(refused(&app, &tenant, "lost", "of-ada").await, Kind::Unauthenticated);
    let error = sign_in(&app, &tenant, "lost", "of-lost").await.unwrap_err();
    assert_eq!((error.kind(), error.details().unwrap()["lacking"].as_str()), (Kind::Forbidden, Some("EMAIL")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_server_takes_over_and_the_first_is_tried_again_after_its_rest() {
    let (app, authority) = (app().await, Authority::new("suite"));
    let (mut first, mut second) = (Slapd::start(&authority), Slapd::start(&authority));
    let tenant = app.tenant("two-servers").await;
    let client = service(&app, &tenant).await;
    configure(&client, input(&[first.ldaps(), second.ldaps()], &authority, json!({}))).await;
    sign_in(&app, &tenant, "ada", "of-ada").await.unwrap();
    first.stop();
    // A connection that was kept has ended meanwhile.
    sign_in(&app, &tenant, "ada", "of-ada").await.unwrap();
    second.stop();
    for _ in 0..4 {
        assert_eq!(refused(&app, &tenant, "ada", "of-ada").await, Kind::Unavailable);
    }
    first.start_again();
    assert_eq!(refused(&app, &tenant, "ada", "of-ada").await, Kind::Unavailable, "both rest");
    app.advance(chrono::TimeDelta::seconds(31));
    sign_in(&app, &tenant, "ada", "of-ada").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_text_and_unverified_servers_are_for_whom_an_operator_permits_them() {
    let (app, authority) = (app().await, Authority::new("suite"));
    let slapd = Slapd::start(&authority);
    let tenant = app.tenant("permitted").await;
    let client = service(&app, &tenant).await;
    let plain = input(&[slapd.ldap()], &authority, json!({ "startTls": false }));
    let answer = client.graphql(super::CONFIGURE, json!({ "input": plain })).await;
    assert_eq!(
        (answer.code(), answer.body["errors"][0]["extensions"]["field"].as_str()),
        ("invalid_input", Some("servers"))
    );
    // No tenant permits it to itself.
    let own = json!({ "input": { "tenantId": tenant.id, "plainText": true, "unverified": true, "reason": "mine" } });
    assert_eq!(client.refused(super::PERMIT, own).await, "forbidden");
    permit(&app, &tenant, true, false).await;
    let shown = configure(&client, plain).await;
    assert_eq!((&shown["plainTextPermitted"], &shown["startTls"]), (&json!(true), &json!(false)));
    sign_in(&app, &tenant, "ada", "of-ada").await.unwrap();
    permit(&app, &tenant, false, false).await;
    assert_eq!(refused(&app, &tenant, "ada", "of-ada").await, Kind::Unavailable, "it is taken back");
    let other = Authority::new("another");
    configure(&client, input(&[slapd.ldaps()], &other, json!({}))).await;
    assert_eq!(refused(&app, &tenant, "ada", "of-ada").await, Kind::Unavailable, "an unknown issuer");
    permit(&app, &tenant, false, true).await;
    sign_in(&app, &tenant, "ada", "of-ada").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_in_takes_little_time() {
    let (app, authority) = (app().await, Authority::new("suite"));
    let slapd = Slapd::start(&authority);
    let (tenant, _) = tenant_of(&app, "in-time", &slapd, &authority).await;
    sign_in(&app, &tenant, "bob", "of-bob").await.unwrap();
    let mut times = Vec::new();
    for _ in 0..50 {
        let began = Instant::now();
        sign_in(&app, &tenant, "bob", "of-bob").await.unwrap();
        times.push(began.elapsed());
    }
    times.sort();
    println!("sign-in by a directory: median {:?}, longest {:?}", times[25], times[49]);
    assert!(times[25] < Duration::from_secs(1), "{times:?}");
}
