//! What somebody might try who has no password, or is on the way.

use ldap3::LdapConnAsync;
use serde_json::json;
use tenantry::error::Kind;

use super::{
    app, configure, hasty, input, permit, refused,
    servers::{Manner, Server, extended},
    service, sign_in, tenant_of,
};
use crate::support::slapd::{Authority, BASE, Made, READER_SECRET, Slapd, company, group, person, uuid_of};

/// OpenLDAP that answers a bind without a password with success.
fn trusting(authority: &Authority) -> Slapd {
    let certificate = authority.certificate(&["127.0.0.1"], true);
    Slapd::with(Made { certificate, settings: "allow bind_anon_dn bind_anon_cred", entries: &company() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_password_is_no_password_where_the_server_takes_it_for_one() {
    let (app, authority) = (app().await, Authority::new("suite"));
    let slapd = trusting(&authority);
    let (connection, mut ldap) = LdapConnAsync::new(&slapd.ldap()).await.unwrap();
    tokio::spawn(connection.drive());
    let bound = ldap.simple_bind(&format!("uid=ada,ou=people,{BASE}"), "").await.unwrap();
    assert_eq!(bound.rc, 0, "this server does say success");
    let tenant = app.tenant("trusting").await;
    let client = service(&app, &tenant).await;
    // In front of it somebody who counts.
    let counted = Server::start(Manner::StripTls { target: slapd.plain, answer: Vec::new() }).await;
    permit(&app, &tenant, true, false).await;
    configure(&client, input(&[counted.ldap()], &authority, json!({ "startTls": false }))).await;
    for password in ["", "\0", "\0of-ada", "of-ada\0", &"x".repeat(5000)] {
        assert_eq!(refused(&app, &tenant, "ada", password).await, Kind::Unauthenticated, "{password:?}");
    }
    assert_eq!((counted.connections(), counted.bytes_heard()), (0, 0), "nothing was sent");
    sign_in(&app, &tenant, "ada", "of-ada").await.unwrap();
    assert!(counted.connections() > 0);
    for secret in ["", "a\0b"] {
        let sent = input(&[slapd.ldaps()], &authority, json!({ "bindSecret": secret }));
        let answer = client.graphql(super::CONFIGURE, json!({ "input": sent })).await;
        assert_eq!(answer.body["errors"][0]["extensions"]["field"], "bindSecret", "{}", answer.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_typed_is_one_value_and_names_are_what_they_are() {
    let (app, authority) = (app().await, Authority::new("suite"));
    let rdn = "cn=Smith\\, John+sn=x\\\\y (ops)*";
    let smith = format!(
        "dn: {rdn},ou=people,{BASE}\nobjectClass: inetOrgPerson\nuid: smith\ncn: Smith, John\nsn: x\\y (ops)*\n\
         mail: smith@example.org\nuserPassword: of-smith\n\n"
    );
    let odd = format!("{smith}{}{}", person("o(d)d*", "Odd"), group("odd", &[&format!("{rdn},ou=people")]));
    let slapd = Slapd::with_entries(&authority, &format!("{}{odd}", company()));
    let (tenant, client) = tenant_of(&app, "typed", &slapd, &authority).await;
    for login in [
        "*",
        "a*",
        "ada)(uid=*",
        "*)(|(uid=*",
        "ada)(objectClass=*)",
        "ada\\",
        "ad\\61",
        "\\2a",
        "ada\0",
        "ada\n",
        "(ada)",
        "&",
        "!",
        "*)(userPassword=of-ada",
        "uid=ada",
        "o(d)*",
    ] {
        assert_eq!(refused(&app, &tenant, login, "of-ada").await, Kind::Unauthenticated, "{login:?}");
    }
    assert_eq!(sign_in(&app, &tenant, "o(d)d*", "of-o(d)d*").await.unwrap().external_id, uuid_of("o(d)d*"));
    let mapped = json!({ "roleMappings": [{ "group": format!("cn=odd,ou=groups,{BASE}"), "roles": ["billing"] }] });
    configure(&client, input(&[slapd.ldaps()], &authority, mapped)).await;
    let smith = sign_in(&app, &tenant, "smith", "of-smith").await.unwrap();
    assert_eq!(smith.roles, ["billing"], "{}", smith.dn);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_that_somebody_on_the_way_takes_away_ends_the_sign_in_before_a_secret_is_said() {
    let (app, authority) = (hasty().await, Authority::new("suite"));
    let slapd = Slapd::start(&authority);
    let tenant = app.tenant("stripped").await;
    let client = service(&app, &tenant).await;
    configure(&client, input(&[slapd.ldap()], &authority, json!({}))).await;
    sign_in(&app, &tenant, "ada", "of-ada").await.unwrap();
    // Refused, answered with success without TLS behind it, a result of another kind, more than was asked for, nothing.
    let bind_response = vec![0x30, 0x0c, 2, 1, 1, 0x61, 7, 0x0a, 1, 0, 4, 0, 4, 0];
    for answer in [
        extended(2),
        extended(53),
        extended(0),
        bind_response.clone(),
        [extended(0), bind_response].concat(),
        Vec::new(),
    ] {
        let proxy = Server::start(Manner::StripTls { target: slapd.plain, answer: answer.clone() }).await;
        configure(&client, input(&[proxy.ldap()], &authority, json!({}))).await;
        assert_eq!(refused(&app, &tenant, "ada", "of-ada").await, Kind::Unavailable, "{answer:?}");
        assert!(proxy.connections() == 1 && proxy.bytes_heard() >= 31, "{answer:?}");
        for said in [READER_SECRET, "of-ada", "reader", "ada"] {
            assert!(!proxy.has_heard(said), "{said} was said after {answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn referrals_lead_nowhere() {
    let (app, authority) = (app().await, Authority::new("suite"));
    let elsewhere = Server::start(Manner::Hang).await;
    let address = elsewhere.address;
    let reference = format!(
        "dn: ou=elsewhere,{BASE}\nobjectClass: referral\nobjectClass: extensibleObject\nou: elsewhere\n\
         ref: ldap://{address}/ou=elsewhere,dc=other\n\n"
    );
    let settings = format!("referral ldap://{address}/");
    let certificate = authority.certificate(&["127.0.0.1"], true);
    let entries = format!("{}{reference}", company());
    let slapd = Slapd::with(Made { certificate, settings: &settings, entries: &entries });
    let (tenant, client) = tenant_of(&app, "referred", &slapd, &authority).await;
    // A reference on the way of a search is left out.
    assert_eq!(sign_in(&app, &tenant, "ada", "of-ada").await.unwrap().roles, ["admin", "member"]);
    for base in ["dc=other", &format!("ou=x,ou=elsewhere,{BASE}")] {
        configure(&client, input(&[slapd.ldaps()], &authority, json!({ "baseDn": base }))).await;
        assert_eq!(refused(&app, &tenant, "ada", "of-ada").await, Kind::Unavailable, "{base}");
    }
    assert_eq!(elsewhere.connections(), 0, "nobody went there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_secret_is_not_sent_to_servers_that_somebody_else_names() {
    let (app, authority) = (app().await, Authority::new("suite"));
    let (slapd, other) = (Slapd::start(&authority), Server::start(Manner::Hang).await);
    let (_, client) = tenant_of(&app, "led-away", &slapd, &authority).await;
    let (another, without) = (Authority::new("another"), json!({ "bindSecret": null }));
    for sent in [
        input(&[other.ldaps()], &authority, without.clone()),
        input(&[slapd.ldap()], &authority, without.clone()),
        input(&[slapd.ldaps(), other.ldaps()], &authority, without.clone()),
        input(&[slapd.ldaps()], &another, without.clone()),
        input(&[slapd.ldaps()], &authority, json!({ "bindSecret": null, "bindDn": format!("cn=root,{BASE}") })),
    ] {
        let answer = client.graphql(super::CONFIGURE, json!({ "input": sent })).await;
        assert_eq!(answer.body["errors"][0]["extensions"]["field"], "bindSecret", "{}", answer.text);
    }
    let same = json!({ "bindSecret": null, "pageSize": 100 });
    assert_eq!(configure(&client, input(&[slapd.ldaps()], &authority, same)).await["version"], 2);
    assert_eq!(other.connections(), 0);
}
