//! Authorities are taken with everything that they say, or refused with the reason.

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, GeneralSubtree, IsCa, KeyUsagePurpose, NameConstraints, SanType,
    date_time_ymd,
};
use serde_json::{Value, json};

use super::{
    ADD, POLICY, check,
    made::{Made, authority, authority_by_openssl, email, extension, upn, usual},
    outcome, service, trust,
};
use crate::support::TestApp;

const LIST: &str = "query($first: Int! = 100, $after: String) { trustAnchors(first: $first, after: $after) {
    edges { node { id subject } } pageInfo { hasNextPage endCursor } } }";
const REMOVE: &str = "mutation($id: ID!) { removeTrustAnchor(input: {id: $id}) { trustAnchor { subject } } }";
const AUDIT: &str = "{ audit(first: 50) { edges { node { event after before } } } }";

#[tokio::test]
async fn everything_that_an_authority_says_is_shown() {
    let app = TestApp::start().await;
    let client = service(&app, &app.tenant("shown").await).await;
    let root = authority("root", usual);
    let made = root.authority("sub", |params: &mut CertificateParams| {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![
                GeneralSubtree::Rfc822Name("acme.example".to_owned()),
                GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([10, 0, 0, 0], 8)),
            ],
            excluded_subtrees: vec![GeneralSubtree::DnsName("evil.example".to_owned())],
        });
        params.custom_extensions = vec![extension(&[2, 5, 29, 32], b"\x30\x06\x30\x04\x06\x02\x2a\x03", false)];
    });
    trust(&client, &[&made]).await;
    let query = "{ trustAnchors { edges { node { role subject issuer serial fingerprint notBefore notAfter keyAlgorithm keySize signatureAlgorithm
        pathLength keyUsage extendedKeyUsage nameConstraints { permitted { form value } excluded { form value } } subjectKeyId authorityKeyId
        policies addedBy pem } } } }";
    let found = client.ok(query, json!({})).await["trustAnchors"]["edges"][0]["node"].clone();
    let expected = [
        ("role", json!("ANCHOR")),
        ("subject", json!("CN=sub,O=Acme")),
        ("issuer", json!("CN=root,O=Acme")),
        ("notBefore", json!("2025-01-01T00:00:00+00:00")),
        ("notAfter", json!("2095-01-01T00:00:00+00:00")),
        ("keyAlgorithm", json!("EC P-256")),
        ("keySize", json!(256)),
        ("signatureAlgorithm", json!("ECDSA with SHA-256")),
        ("pathLength", json!(1)),
        ("keyUsage", json!(["keyCertSign", "cRLSign"])),
        ("extendedKeyUsage", Value::Null),
        ("policies", json!(["1.2.3"])),
        (
            "nameConstraints",
            json!({
                "permitted": [{ "form": "rfc822Name", "value": "acme.example" }, { "form": "iPAddress", "value": "10.0.0.0/255.0.0.0" }],
                "excluded": [{ "form": "dNSName", "value": "evil.example" }],
            }),
        ),
    ];
    for (field, value) in expected {
        assert_eq!(found[field], value, "{field}");
    }
    // OpenSSL says the same of what cannot be known before.
    let place = super::made::place();
    std::fs::write(place.join("ca.pem"), found["pem"].as_str().unwrap()).unwrap();
    let (_, told) = super::made::openssl(
        &place,
        "x509 -in ca.pem -noout -serial -fingerprint -sha256 -ext subjectKeyIdentifier,authorityKeyIdentifier",
    );
    let told = told.replace(':', "").to_lowercase();
    for field in ["serial", "fingerprint", "subjectKeyId", "authorityKeyId"] {
        let value = found[field].as_str().unwrap();
        assert!(value.len() >= 4 && told.contains(value.trim_start_matches('0')), "{field} {value}: {told}");
    }
}

#[tokio::test]
async fn what_cannot_be_trusted_is_refused_with_the_reason_and_nothing_is_kept() {
    let app = TestApp::start().await;
    let client = service(&app, &app.tenant("strict").await).await;
    let root = authority("root", usual);
    let good = root.pem();
    let key = root.key.serialize_pem();
    let garbage = |body: &str| format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
    let edited = |edit: fn(&mut CertificateParams)| authority("edited", edit).pem();
    let mut broken = root.der();
    *broken.last_mut().unwrap() ^= 1;
    let broken = {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        garbage(&STANDARD.encode(&broken))
    };
    let many: String = (0..101).map(|_| good.as_str()).collect();
    let cases = [
        (key.clone(), "private key"),
        (format!("{good}{key}"), "private key"),
        (key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"), "private key"),
        ("rubbish".to_owned(), "has no block"),
        (String::new(), "has no block"),
        (garbage("AQID"), "is no X.509 certificate"),
        (garbage("%%%"), "no base64"),
        ("-----BEGIN CERTIFICATE-----\nAQID\n".to_owned(), "does not end"),
        (good.replace("CERTIFICATE", "CERTIFICATE REQUEST"), "only CERTIFICATE is taken"),
        (broken, "does not fit its key"),
        (root.leaf("alice", usual).pem(), "is no authority's"),
        (edited(|made| made.key_usages = vec![KeyUsagePurpose::DigitalSignature]), "keyCertSign"),
        (edited(|made| made.not_after = date_time_ymd(2025, 2, 1)), "has expired"),
        (edited(|made| made.not_before = date_time_ymd(2094, 1, 1)), "not yet valid"),
        (
            edited(|made| made.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth]),
            "not for signing in",
        ),
        (edited(|made| made.custom_extensions = vec![extension(&[1, 2, 3], &[5, 0], true)]), "critical extension"),
        (authority_by_openssl("rsa:1024", "sha256"), "weak key, RSA of 1024 bits"),
        (authority_by_openssl("rsa:2048", "sha1"), "weak signature, RSA with SHA-1"),
        (authority_by_openssl("rsa:2048", "md5"), "weak signature, RSA with MD5"),
        (authority_by_openssl("ec -pkeyopt ec_paramgen_curve:secp224r1", "sha256"), "weak key, EC 1.3.132.0.33"),
        (format!("{good}{good}"), "certificate 2, in line"),
        (format!("{good}{}", root.leaf("alice", usual).pem()), "certificate 2, in line"),
        (many, "more than 100 blocks"),
        ("x".repeat(1_000_001), "must have at most 1000000 bytes"),
    ];
    for (pem, reason) in cases {
        let answer = client.graphql(ADD, json!({ "input": { "pem": pem } })).await;
        let error = &answer.body["errors"][0];
        assert_eq!(
            (answer.code(), &error["extensions"]["field"]),
            ("invalid_input", &json!("pem")),
            "{reason}: {}",
            answer.text
        );
        assert!(error["message"].as_str().unwrap().contains(reason), "{reason}: {}", answer.text);
        let secret = key.lines().nth(1).unwrap();
        assert!(!answer.text.contains(secret), "the key is told");
    }
    assert_eq!(client.ok(LIST, json!({})).await["trustAnchors"]["edges"], json!([]));
    let audit = client.ok(AUDIT, json!({})).await.to_string();
    assert!(!audit.contains("TrustAnchor") && !audit.contains(key.lines().nth(1).unwrap()), "{audit}");
}

#[tokio::test]
async fn authorities_are_added_together_once_and_taken_away() {
    let app = TestApp::start().await;
    let (tenant, other) = (app.tenant("one").await, app.tenant("other").await);
    let (client, neighbour) = (service(&app, &tenant).await, service(&app, &other).await);
    let made: Vec<_> = (0..3).map(|number| authority(&format!("root{number}"), usual)).collect();
    let pem: String = made.iter().map(|made| format!("Subject: {}\n{}\n", "explained", made.pem())).collect();
    let input = json!({ "input": { "pem": pem } });
    let first = client.graphql_once("key-1", ADD, input.clone()).await;
    assert_eq!(first.code(), "none", "{}", first.text);
    let again = client.graphql_once("key-1", ADD, input.clone()).await;
    assert_eq!(first.data(), again.data());
    let answer = client.graphql(ADD, input.clone()).await;
    assert!(answer.code() == "conflict" && answer.text.contains("there already"), "{}", answer.text);
    // The same authority of another tenant is another matter.
    trust(&neighbour, &[&made[0]]).await;
    let page = client.ok(LIST, json!({ "first": 2 })).await["trustAnchors"].clone();
    assert_eq!(page["pageInfo"]["hasNextPage"], true);
    let rest =
        client.ok(LIST, json!({ "first": 2, "after": page["pageInfo"]["endCursor"] })).await["trustAnchors"].clone();
    assert_eq!(rest["edges"][0]["node"]["subject"], "CN=root2,O=Acme");
    let id = &rest["edges"][0]["node"]["id"];
    assert_eq!(neighbour.refused(REMOVE, json!({ "id": id })).await, "not_found");
    assert_eq!(
        client.ok(REMOVE, json!({ "id": id })).await["removeTrustAnchor"]["trustAnchor"]["subject"],
        "CN=root2,O=Acme"
    );
    assert_eq!(client.refused(REMOVE, json!({ "id": id })).await, "not_found");
    let reader = app.service(&tenant, "auth:pki:read").await;
    assert_eq!(reader.refused(REMOVE, json!({ "id": id })).await, "forbidden");
    let audit = client.ok(AUDIT, json!({})).await;
    let events = |name: &str| {
        audit["audit"]["edges"].as_array().unwrap().iter().filter(|edge| edge["node"]["event"] == name).count()
    };
    assert_eq!((events("TrustAnchorAdded"), events("TrustAnchorRemoved")), (3, 1));
}

#[tokio::test]
async fn there_are_at_most_a_hundred_authorities_however_many_are_added_at_once() {
    let app = TestApp::start().await;
    let client = service(&app, &app.tenant("many").await).await;
    let made: Vec<_> = (0..105).map(|number| authority(&format!("root{number}"), usual)).collect();
    let adding = made.chunks(15).map(|some| {
        let (client, pem): (_, String) = (client.clone(), some.iter().map(Made::pem).collect());
        async move { client.graphql(ADD, json!({ "input": { "pem": pem } })).await.code().to_owned() }
    });
    let mut codes = futures::future::join_all(adding).await;
    codes.sort();
    assert_eq!(codes, ["conflict", "none", "none", "none", "none", "none", "none"]);
    assert_eq!(client.ok(LIST, json!({ "first": 100 })).await["trustAnchors"]["edges"].as_array().unwrap().len(), 90);
}

#[tokio::test]
async fn a_tenant_believes_its_own_authorities_alone() {
    let app = TestApp::start().await;
    let (acme, other) = (app.tenant("acme").await, app.tenant("other").await);
    let (acme, other) = (service(&app, &acme).await, service(&app, &other).await);
    let (root, theirs) = (authority("root", usual), authority("theirs", usual));
    let sub = root.authority("sub", usual);
    let anchor = trust(&acme, &[&root]).await.remove(0);
    trust(&other, &[&theirs]).await;
    let alice = sub.leaf("alice", usual);
    let checked = check(&acme, &[&alice, &sub]).await;
    let certificate = &checked["certificate"];
    assert_eq!((&checked["accepted"], &checked["origin"]), (&json!(true), &json!("INPUT")), "{checked}");
    assert_eq!(certificate["path"], json!(["CN=alice,O=Acme", "CN=sub,O=Acme", "CN=root,O=Acme"]));
    assert_eq!(certificate["anchorId"], anchor["id"]);
    assert_eq!(
        certificate["identity"],
        json!({ "target": "EMAIL", "value": "alice@acme.example", "source": "SAN_EMAIL" })
    );
    assert_eq!(outcome(&other, &[&alice, &sub]).await, "UNTRUSTED");
    assert_eq!(outcome(&acme, &[&alice]).await, "UNTRUSTED");
    // A link that is kept need not be presented, and is not trusted by itself.
    other.ok(ADD, json!({ "input": { "pem": sub.pem(), "role": "INTERMEDIATE" } })).await;
    assert_eq!(outcome(&other, &[&alice]).await, "UNTRUSTED");
    acme.ok(ADD, json!({ "input": { "pem": sub.pem(), "role": "INTERMEDIATE" } })).await;
    assert_eq!(outcome(&acme, &[&alice]).await, "alice@acme.example");
    acme.ok(REMOVE, json!({ "id": anchor["id"] })).await;
    assert_eq!(outcome(&acme, &[&alice]).await, "UNTRUSTED");
}

#[tokio::test]
async fn a_policy_says_who_it_is() {
    let app = TestApp::start().await;
    let client = service(&app, &app.tenant("mapped").await).await;
    let root = authority("root", usual);
    let limited = root.authority("limited", |made| {
        let permitted_subtrees = vec![GeneralSubtree::Rfc822Name("acme.example".to_owned())];
        made.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: vec![] });
    });
    trust(&client, &[&root]).await;
    let rules = json!([
        { "source": "SAN_UPN", "target": "EMAIL", "suffix": "@corp.example", "append": "@acme.example" },
        { "source": "SAN_URI", "target": "EXTERNAL_ID", "prefix": "spiffe://acme.example/user/" },
        { "source": "SUBJECT_COMMON_NAME", "target": "EMAIL" },
    ]);
    let set =
        client.ok(POLICY, json!({ "input": { "revocation": "OFF", "mapping": rules, "expectedVersion": 0 } })).await;
    assert_eq!(set["setCertificatePolicy"]["policy"]["version"], 1);
    let again = client.refused(POLICY, json!({ "input": { "revocation": "OFF", "expectedVersion": 0 } })).await;
    assert_eq!(again, "conflict");
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    let named = |names: Vec<SanType>| root.leaf("somebody", |made| made.subject_alt_names = names);
    let common = |by: &Made, name: &'static str| by.leaf(name, |made| made.subject_alt_names.clear());
    for (leaf, found) in [
        (named(vec![upn("Alice@corp.example")]), "alice@acme.example"),
        (named(vec![upn("alice@evil.example")]), "NOT_MAPPED"),
        (named(vec![uri("spiffe://acme.example/user/Bob"), email("x@y.example")]), "Bob"),
        (named(vec![uri("spiffe://acme.example/user/a"), uri("spiffe://acme.example/user/b")]), "NOT_MAPPED"),
        (named(vec![email("x@y.example")]), "NOT_MAPPED"),
        (common(&root, "carol@acme.example"), "carol@acme.example"),
    ] {
        assert_eq!(outcome(&client, &[&leaf]).await, found);
    }
    // An authority that may give addresses of one host alone gives no other one by way of a common name.
    assert_eq!(outcome(&client, &[&common(&limited, "dave@acme.example"), &limited]).await, "dave@acme.example");
    assert_eq!(outcome(&client, &[&common(&limited, "boss@evil.example"), &limited]).await, "NAME_CONSTRAINTS");
    for (rules, field) in [
        (json!([]), "mapping"),
        (json!([{ "source": "SAN_DNS", "target": "EMAIL", "prefix": "x".repeat(256) }]), "mapping[0].prefix"),
    ] {
        let answer = client.graphql(POLICY, json!({ "input": { "revocation": "OFF", "mapping": rules } })).await;
        assert_eq!(answer.body["errors"][0]["extensions"]["field"], field, "{}", answer.text);
    }
}

#[tokio::test]
async fn gateways_get_what_is_trusted_and_only_when_it_has_changed() {
    let app = TestApp::start().await;
    let tenant = app.tenant("gateway").await;
    let client = service(&app, &tenant).await;
    let (root, link) = (authority("root", usual), authority("link", usual));
    trust(&client, &[&root]).await;
    client.ok(ADD, json!({ "input": { "pem": link.pem(), "role": "INTERMEDIATE" } })).await;
    let path = "/api/v1/pki/bundle.pem";
    let first = client.get(path).await;
    let tag = first.headers["etag"].to_str().unwrap().to_owned();
    let bundle = client.ok("{ trustBundle { pem tag certificates } }", json!({})).await["trustBundle"].clone();
    assert_eq!((first.status, &first.text), (200, &bundle["pem"].as_str().unwrap().to_owned()));
    assert_eq!((&bundle["certificates"], format!("\"{}\"", bundle["tag"].as_str().unwrap())), (&json!(1), tag.clone()));
    // OpenSSL takes it as it is.
    let place = super::made::place();
    std::fs::write(place.join("bundle.pem"), &first.text).unwrap();
    std::fs::write(place.join("leaf.pem"), root.leaf("alice", usual).pem()).unwrap();
    assert!(super::made::openssl(&place, "verify -CAfile bundle.pem leaf.pem").0);
    let conditional =
        |tag: String| client.send(client.request(reqwest::Method::GET, path).header("if-none-match", tag));
    let unchanged = conditional(format!("\"x\", W/{tag}")).await;
    assert_eq!((unchanged.status, unchanged.text.as_str()), (304, ""));
    trust(&client, &[&authority("second", usual)]).await;
    let changed = conditional(tag.clone()).await;
    assert!(changed.status == 200 && changed.headers["etag"] != tag.as_str());
    let admin = app.admin().await;
    assert_eq!(admin.get(path).await.status, 400);
    assert_eq!(admin.get(&format!("{path}?tenant_id={}", tenant.id)).await.text, changed.text);
    assert_eq!(app.service(&tenant, "auth:tenant:read").await.get(path).await.status, 403);
    assert_eq!(app.anonymous().get(path).await.status, 401);
    let other = service(&app, &app.tenant("other").await).await;
    assert_eq!(other.get(&format!("{path}?tenant_id={}", tenant.id)).await.status, 404);
    assert_eq!(other.get(path).await.text, "");
}
