//! Certificates of servers, and why one is not trusted.

use serde_json::json;
use tenantry::error::Kind;

use super::{app, configure, input, refused, service, sign_in, steps, test};
use crate::support::slapd::{Authority, Made, Slapd, company};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_not_good_is_told_with_its_reason_and_nothing_is_said_to_its_server() {
    let (app, authority, other) = (app().await, Authority::new("suite"), Authority::new("another"));
    let tenant = app.tenant("careful").await;
    let client = service(&app, &tenant).await;
    let good = ["127.0.0.1"];
    let cases = [
        (authority.certificate(&["ldap.example.org", "127.0.0.2"], true), "for another host"),
        (authority.certificate(&good, false), "has expired"),
        (other.certificate(&good, true), "issuer is not among"),
    ];
    for (certificate, reason) in cases {
        let slapd = Slapd::with(Made { certificate, settings: "", entries: &company() });
        for servers in [[slapd.ldaps()], [slapd.ldap()]] {
            configure(&client, input(&servers, &authority, json!({}))).await;
            assert_eq!(refused(&app, &tenant, "ada", "of-ada").await, Kind::Unavailable, "{reason}");
            let report = test(&client, None).await;
            let told = steps(&report);
            assert_eq!(told[..2], ["NAME_LOOKUP ok", "CONNECTION ok"], "{told:?}");
            assert!(told.len() == 3 && told[2].starts_with("TLS TLS: ") && told[2].contains(reason), "{told:?}");
            let shown = &report["steps"][2]["certificates"][0];
            assert!(shown["subject"].as_str().unwrap().contains("directory of the suite"), "{shown}");
        }
    }
    let slapd =
        Slapd::with(Made { certificate: authority.certificate(&good, true), settings: "", entries: &company() });
    for servers in [[slapd.ldaps()], [slapd.ldap()]] {
        configure(&client, input(&servers, &authority, json!({}))).await;
        sign_in(&app, &tenant, "ada", "of-ada").await.unwrap();
    }
    // Of the system's authorities none has signed it.
    configure(&client, input(&[slapd.ldaps()], &authority, json!({ "certificateAuthorities": null }))).await;
    assert_eq!(refused(&app, &tenant, "ada", "of-ada").await, Kind::Unavailable);
    // Any of several will do.
    let both = format!("{}{}", other.pem, authority.pem);
    let shown =
        configure(&client, input(&[slapd.ldaps()], &authority, json!({ "certificateAuthorities": both }))).await;
    assert_eq!(shown["certificateAuthorities"].as_array().unwrap().len(), 2);
    sign_in(&app, &tenant, "ada", "of-ada").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authorities_that_are_none_are_refused_with_the_reason() {
    let (app, authority) = (app().await, Authority::new("suite"));
    let tenant = app.tenant("pastes").await;
    let client = service(&app, &tenant).await;
    let (certificate, key) = authority.certificate(&["127.0.0.1"], true);
    let long = format!("{}{}", authority.pem, "x".repeat(70_000));
    for (pem, reason) in [
        (key, "private key"),
        (certificate, "is not an authority's"),
        ("garbage".to_owned(), "1 to 20 certificates"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(), "cannot be read"),
        ("-----BEGIN CERTIFICATE-----\n!!!!\n".to_owned(), "must be certificates in PEM"),
        (authority.pem.repeat(21), "1 to 20 certificates"),
        (long, "64 KiB"),
    ] {
        let sent =
            input(&["ldaps://ldap.example.org".to_owned()], &authority, json!({ "certificateAuthorities": pem }));
        let answer = client.graphql(super::CONFIGURE, json!({ "input": sent })).await;
        let error = &answer.body["errors"][0];
        assert_eq!(error["extensions"]["field"], "certificateAuthorities", "{}", answer.text);
        assert!(error["message"].as_str().unwrap().contains(reason), "{reason}: {}", answer.text);
    }
}
