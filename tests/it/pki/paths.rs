//! Paths to anchors are judged as OpenSSL judges them, or more strictly where a reason is given.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
    time::Duration,
};

use chrono::{DateTime, Datelike as _, TimeDelta, Utc};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose, NameConstraints, SanType, date_time_ymd,
};
use tenantry::{
    pki::{Certificate, Known, Reason, find},
    platform::clock::Clock,
};

use super::made::{Made, authority, email, extension, openssl, place, upn, usual};
use crate::support::pace;

/// Everything that one path is looked for in.
struct Case {
    name: &'static str,
    leaf: Vec<u8>,
    between: Vec<Vec<u8>>,
    anchors: Vec<Vec<u8>>,
    /// What Tenantry says; none where it is good.
    refused: Option<Reason>,
}

impl Case {
    fn judged(&self) -> Option<Reason> {
        let read = |der: &Vec<u8>| Arc::new(Certificate::read(der).unwrap());
        let known = Known {
            anchors: self.anchors.iter().map(read).collect(),
            between: self.between.iter().map(read).collect(),
        };
        find(&read(&self.leaf), &known, now()).err().map(|refusal| refusal.reason)
    }

    /// Whether OpenSSL takes it for a client's, with keys and hashes of 112 bits of security and anchors that need not be roots.
    fn is_good_for_openssl(&self) -> (bool, String) {
        let place = place();
        let write = |name: &str, all: &[Vec<u8>]| {
            let text: String = all.iter().map(|der| pem(der)).collect();
            std::fs::write(place.join(name), text).unwrap();
        };
        write("leaf.pem", std::slice::from_ref(&self.leaf));
        write("anchors.pem", &self.anchors);
        write("between.pem", &self.between);
        let untrusted = if self.between.is_empty() { "" } else { " -untrusted between.pem" };
        let at = now().timestamp();
        openssl(
            &place,
            &format!(
                "verify -purpose sslclient -auth_level 2 -partial_chain -attime {at} -no-CApath -no-CAstore -CAfile anchors.pem{untrusted} leaf.pem"
            ),
        )
    }
}

/// Tomorrow: what OpenSSL makes in these tests is valid by then.
fn now() -> DateTime<Utc> {
    static NOW: LazyLock<DateTime<Utc>> = LazyLock::new(|| Clock::default().now() + TimeDelta::days(1));
    *NOW
}

/// Year, month and day, so many days after [`now`].
fn day(after: i64) -> (i32, u8, u8) {
    let day = now() + TimeDelta::days(after);
    (day.year(), u8::try_from(day.month()).unwrap(), u8::try_from(day.day()).unwrap())
}

fn ends(made: &mut CertificateParams, after: i64) {
    let (year, month, day) = day(after);
    made.not_after = date_time_ymd(year, month, day);
}

fn begins(made: &mut CertificateParams, after: i64) {
    let (year, month, day) = day(after);
    made.not_before = date_time_ymd(year, month, day);
}

fn pem(der: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let body = STANDARD.encode(der);
    let lines: Vec<_> = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn case(name: &'static str, leaf: &Made, between: &[&Made], anchors: &[&Made], refused: Option<Reason>) -> Case {
    let ders = |all: &[&Made]| all.iter().map(|made| made.der()).collect();
    Case { name, leaf: leaf.der(), between: ders(between), anchors: ders(anchors), refused }
}

fn below(limit: u8) -> impl FnOnce(&mut CertificateParams) {
    move |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(limit))
}

fn only(permitted: Vec<GeneralSubtree>) -> impl FnOnce(&mut CertificateParams) {
    move |params| {
        params.name_constraints = Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: vec![] })
    }
}

fn none_of(excluded: Vec<GeneralSubtree>) -> impl FnOnce(&mut CertificateParams) {
    move |params| {
        params.name_constraints = Some(NameConstraints { permitted_subtrees: vec![], excluded_subtrees: excluded })
    }
}

fn of_acme() -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "ACME"); // letters of any case
    name
}

/// Paths of plain shapes, keys and times.
fn plain() -> Vec<Case> {
    let root = authority("root", usual);
    let (first, leaf) = (root.authority("first", usual), root.leaf("direct", usual));
    let second = first.authority("second", usual);
    let below_first = first.leaf("alice", usual);
    let other = authority("root", usual);
    let mut tampered = below_first.der();
    *tampered.last_mut().unwrap() ^= 1;
    let keyed = |algorithm| {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let mut params = root.params.clone();
        params.distinguished_name.push(DnType::OrganizationalUnitName, "keyed");
        let certificate = params.self_signed(&key).unwrap();
        Made { certificate, params, key }
    };
    let mut cases = vec![
        case("under a root", &leaf, &[], &[&root], None),
        case("under one authority", &below_first, &[&first], &[&root], None),
        case("under two authorities", &second.leaf("bob", usual), &[&second, &first], &[&root], None),
        case("in another order, with others", &second.leaf("bob", usual), &[&first, &other, &second], &[&root], None),
        case("an anchor that is no root", &below_first, &[], &[&first], None),
        case("no authority between", &below_first, &[], &[&root], Some(Reason::Untrusted)),
        case("another root", &leaf, &[], &[&authority("elsewhere", usual)], Some(Reason::Untrusted)),
        case("a root of the same name", &leaf, &[], &[&other], Some(Reason::Untrusted)),
        case("a root that was only presented", &leaf, &[&root], &[&other], Some(Reason::BadSignature)),
        Case {
            leaf: tampered,
            ..case("a signature of another", &below_first, &[&first], &[&root], Some(Reason::BadSignature))
        },
        case("expired", &root.leaf("old", |made| ends(made, -1)), &[], &[&root], Some(Reason::Expired)),
        case("not yet valid", &root.leaf("new", |made| begins(made, 2)), &[], &[&root], Some(Reason::NotYetValid)),
    ];
    for (name, algorithm) in [
        ("P-384", &rcgen::PKCS_ECDSA_P384_SHA384),
        ("P-521", &rcgen::PKCS_ECDSA_P521_SHA512),
        ("Ed25519", &rcgen::PKCS_ED25519),
        ("RSA", &rcgen::PKCS_RSA_SHA256),
        ("RSA with SHA-512", &rcgen::PKCS_RSA_SHA512),
    ] {
        let root = keyed(algorithm);
        cases.push(case(name, &root.leaf("keyed", usual), &[], &[&root], None));
    }
    let old = root.authority("old", |made| ends(made, -1));
    cases.push(case("an expired authority", &old.leaf("a", usual), &[&old], &[&root], Some(Reason::Expired)));
    let gone = authority("gone", |made| ends(made, -1));
    cases.push(case("an expired anchor", &gone.leaf("a", usual), &[], &[&gone], Some(Reason::Expired)));
    // Two ways lead up from the same key, one of which has ended.
    let renewed = root.cross_sign(&old, |made| made.not_after = date_time_ymd(2050, 1, 1));
    cases.push(case("a good way beside one that has ended", &old.leaf("a", usual), &[&old, &renewed], &[&root], None));
    let (one, two) = (authority("one", usual), authority("two", usual));
    let (one_by_two, two_by_one) = (two.cross_sign(&one, usual), one.cross_sign(&two, usual));
    cases.push(case("a loop", &one.leaf("a", usual), &[&one_by_two, &two_by_one], &[&root], Some(Reason::Untrusted)));
    cases
}

/// Paths whose authorities or certificates may not do what is asked of them.
fn usages() -> Vec<Case> {
    use ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
    let root = authority("root", usual);
    let purposes = |purposes: Vec<ExtendedKeyUsagePurpose>| root.leaf("a", |made| made.extended_key_usages = purposes);
    let usage = |usages: Vec<KeyUsagePurpose>| root.leaf("a", |made| made.key_usages = usages);
    let no_authority = root.leaf("no-authority", |made| made.key_usages.push(KeyUsagePurpose::KeyCertSign));
    let no_signer = root.authority("no-signer", |made| made.key_usages = vec![KeyUsagePurpose::CrlSign]);
    let of_servers = root.authority("of-servers", |made| made.extended_key_usages = vec![ServerAuth]);
    let of_both = root.authority("of-both", |made| made.extended_key_usages = vec![ServerAuth, ClientAuth]);
    let of_servers_alone = authority("servers", |made| made.extended_key_usages = vec![ServerAuth]);
    let silent = root.authority("silent", |made| made.key_usages.clear());
    let lowest = root.authority("lowest", below(0));
    let under_lowest = lowest.authority("under", usual);
    let short = authority("short", below(0));
    let under_short = short.authority("under-short", usual);
    let (unknown, null) = ([1, 3, 6, 1, 4, 1, 55555, 1], [5, 0]);
    let strange = root.leaf("a", |made| made.custom_extensions = vec![extension(&unknown, &null, true)]);
    let harmless = root.leaf("a", |made| made.custom_extensions = vec![extension(&unknown, &null, false)]);
    let strange_authority =
        root.authority("strange", |made| made.custom_extensions = vec![extension(&unknown, &null, true)]);
    vec![
        case("without extendedKeyUsage", &purposes(vec![]), &[], &[&root], None),
        case("clientAuth beside serverAuth", &purposes(vec![ServerAuth, ClientAuth]), &[], &[&root], None),
        case("serverAuth alone", &purposes(vec![ServerAuth]), &[], &[&root], Some(Reason::ExtendedKeyUsage)),
        case("any purpose", &purposes(vec![Any]), &[], &[&root], Some(Reason::ExtendedKeyUsage)),
        case("without keyUsage", &usage(vec![]), &[], &[&root], None),
        case(
            "keyEncipherment alone",
            &usage(vec![KeyUsagePurpose::KeyEncipherment]),
            &[],
            &[&root],
            Some(Reason::KeyUsage),
        ),
        case(
            "issued by who is no authority",
            &no_authority.leaf("a", usual),
            &[&no_authority],
            &[&root],
            Some(Reason::Untrusted),
        ),
        case(
            "issued without keyCertSign",
            &no_signer.leaf("a", usual),
            &[&no_signer],
            &[&root],
            Some(Reason::NotAnAuthority),
        ),
        case("issued by who does not say what for", &silent.leaf("a", usual), &[&silent], &[&root], None),
        case(
            "an authority for servers",
            &of_servers.leaf("a", usual),
            &[&of_servers],
            &[&root],
            Some(Reason::ExtendedKeyUsage),
        ),
        case("an authority for both", &of_both.leaf("a", usual), &[&of_both], &[&root], None),
        case(
            "an anchor for servers",
            &of_servers_alone.leaf("a", usual),
            &[],
            &[&of_servers_alone],
            Some(Reason::ExtendedKeyUsage),
        ),
        case("as long as allowed", &lowest.leaf("a", usual), &[&lowest], &[&root], None),
        case(
            "longer than allowed",
            &under_lowest.leaf("a", usual),
            &[&lowest, &under_lowest],
            &[&root],
            Some(Reason::PathTooLong),
        ),
        case(
            "longer than the anchor allows",
            &under_short.leaf("a", usual),
            &[&under_short],
            &[&short],
            Some(Reason::PathTooLong),
        ),
        case("an unknown critical extension", &strange, &[], &[&root], Some(Reason::UnknownExtension)),
        case("an unknown extension", &harmless, &[], &[&root], None),
        case(
            "an unknown critical extension above",
            &strange_authority.leaf("a", usual),
            &[&strange_authority],
            &[&root],
            Some(Reason::UnknownExtension),
        ),
    ]
}

/// Names that authorities may give, and may not.
fn names() -> Vec<Case> {
    use GeneralSubtree::{DirectoryName, DnsName, IpAddress, Rfc822Name};
    let root = authority("root", usual);
    let mut cases = Vec::new();
    let mut add = |name, edit: Box<dyn FnOnce(&mut CertificateParams)>, names: Vec<SanType>, is_good: bool| {
        let limited = root.authority("limited", edit);
        let leaf = limited.leaf("alice", |made| made.subject_alt_names = names);
        let refused = (!is_good).then_some(Reason::NameConstraints);
        cases.push(case(name, &leaf, &[&limited], &[&root], refused));
    };
    let mail = |address: &str| vec![email(address)];
    let dns = |host: &str| vec![SanType::DnsName(host.try_into().unwrap())];
    let acme = || vec![Rfc822Name("acme.example".to_owned())];
    add("a permitted mailbox", Box::new(only(acme())), mail("alice@acme.example"), true);
    add("a mailbox of another host", Box::new(only(acme())), mail("alice@evil.example"), false);
    add("a mailbox of a host below", Box::new(only(acme())), mail("alice@sub.acme.example"), false);
    add(
        "one good mailbox and one bad",
        Box::new(only(acme())),
        vec![email("a@acme.example"), email("a@evil.example")],
        false,
    );
    add("an excluded mailbox", Box::new(none_of(acme())), mail("alice@acme.example"), false);
    add("a mailbox that is not excluded", Box::new(none_of(acme())), mail("alice@other.example"), true);
    let domain = || vec![Rfc822Name(".acme.example".to_owned())];
    add("a mailbox within a domain", Box::new(only(domain())), mail("alice@sub.acme.example"), true);
    add("a mailbox of the domain itself", Box::new(only(domain())), mail("alice@acme.example"), false);
    add(
        "a single mailbox",
        Box::new(only(vec![Rfc822Name("alice@acme.example".to_owned())])),
        mail("alice@acme.example"),
        true,
    );
    add(
        "not that mailbox",
        Box::new(only(vec![Rfc822Name("bob@acme.example".to_owned())])),
        mail("alice@acme.example"),
        false,
    );
    let host = || vec![DnsName("acme.example".to_owned())];
    add("a permitted host", Box::new(only(host())), dns("laptop.acme.example"), true);
    add("another host", Box::new(only(host())), dns("acme.example.evil.example"), false);
    add("an excluded host", Box::new(none_of(host())), dns("laptop.acme.example"), false);
    add("a constraint of another form", Box::new(only(host())), mail("alice@evil.example"), true);
    let network = || vec![IpAddress(CidrSubnet::from_v4_prefix([10, 1, 0, 0], 16))];
    let address = |text: &str| vec![SanType::IpAddress(text.parse().unwrap())];
    add("a permitted address", Box::new(only(network())), address("10.1.2.3"), true);
    add("another address", Box::new(only(network())), address("10.2.2.3"), false);
    add("an excluded address", Box::new(none_of(network())), address("10.1.2.3"), false);
    add("a subject within", Box::new(only(vec![DirectoryName(of_acme())])), mail("alice@acme.example"), true);
    add("an excluded subject", Box::new(none_of(vec![DirectoryName(of_acme())])), mail("alice@acme.example"), false);
    let mut elsewhere = DistinguishedName::new();
    elsewhere.push(DnType::OrganizationName, "Elsewhere");
    add("a subject elsewhere", Box::new(only(vec![DirectoryName(elsewhere)])), mail("alice@acme.example"), false);
    add("a user principal name, unconstrained", Box::new(only(acme())), vec![upn("alice@evil.example")], true);
    // permittedSubtrees: one uniformResourceIdentifier, `acme.example`.
    let at_acme = b"\x30\x12\xa0\x10\x30\x0e\x86\x0cacme.example";
    let uris: fn(&mut CertificateParams) = |made| {
        made.custom_extensions = vec![extension(&[2, 5, 29, 30], b"\x30\x12\xa0\x10\x30\x0e\x86\x0cacme.example", true)]
    };
    assert_eq!(at_acme.len(), 20);
    let uri = |text: &str| vec![SanType::URI(text.try_into().unwrap())];
    add("a permitted URI", Box::new(uris), uri("spiffe://acme.example/user/alice"), true);
    add("a URI elsewhere", Box::new(uris), uri("spiffe://evil.example/user/alice"), false);
    cases
}

/// What rcgen does not make.
fn old() -> Vec<Case> {
    let root = authority("root", usual);
    let place = place();
    std::fs::write(place.join("ca.pem"), root.pem()).unwrap();
    std::fs::write(place.join("ca.key"), root.key.serialize_pem()).unwrap();
    std::fs::write(place.join("ext"), "basicConstraints=CA:FALSE\nsubjectAltName=email:a@acme.example\n").unwrap();
    let leaf = |key: &str, hash: &str| {
        let (made, told) =
            openssl(&place, &format!("req -newkey {key} -nodes -keyout leaf.key -out leaf.csr -subj /CN=old"));
        assert!(made, "{told}");
        let sign = format!(
            "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 -{hash} -extfile ext -outform DER -out leaf.der"
        );
        let (made, told) = openssl(&place, &sign);
        assert!(made, "{told}");
        std::fs::read(place.join("leaf.der")).unwrap()
    };
    let (sha1, short, sound) = (leaf("rsa:2048", "sha1"), leaf("rsa:1024", "sha256"), leaf("rsa:2048", "sha256"));
    let of = |name, leaf, refused| Case { name, leaf, between: vec![], anchors: vec![root.der()], refused };
    vec![
        of("SHA-1", sha1, Some(Reason::WeakSignature)),
        of("RSA of 1024 bits", short, Some(Reason::WeakKey)),
        of("as OpenSSL makes them", sound, None),
    ]
}

/// Where Tenantry is stricter than OpenSSL, and why.
fn stricter() -> Vec<(Case, &'static str)> {
    let root = authority("root", usual);
    let signing = root.authority("signing", |made| made.key_usages.push(KeyUsagePurpose::DigitalSignature));
    let agreement = root.leaf("a", |made| made.key_usages = vec![KeyUsagePurpose::KeyAgreement]);
    // requireExplicitPolicy: 0, and one policy.
    let policies = root.authority("policies", |made| {
        made.custom_extensions = vec![extension(&[2, 5, 29, 36], b"\x30\x03\x80\x01\x00", true)]
    });
    let critical = root.leaf("a", |made| {
        made.custom_extensions = vec![extension(&[2, 5, 29, 32], b"\x30\x06\x30\x04\x06\x02\x2a\x03", true)];
    });
    let mut renamed = root.params.clone();
    renamed.distinguished_name = DistinguishedName::new();
    renamed.distinguished_name.push(DnType::OrganizationName, "ACME");
    renamed.distinguished_name.push(DnType::CommonName, "Root");
    let same = Made {
        certificate: renamed.self_signed(&root.key).unwrap(),
        params: renamed,
        key: KeyPair::from_pem(&root.key.serialize_pem()).unwrap(),
    };
    vec![
        (
            case("an authority's own certificate", &signing, &[], &[&root], Some(Reason::KeyUsage)),
            "an authority's key is not for signing in",
        ),
        (
            case("keyAgreement alone", &agreement, &[], &[&root], Some(Reason::KeyUsage)),
            "a client signs in TLS 1.3 (RFC 8446, section 4.4.3), so a key that may not sign proves nothing",
        ),
        (
            case(
                "policyConstraints",
                &policies.leaf("a", usual),
                &[&policies],
                &[&root],
                Some(Reason::UnknownExtension),
            ),
            "policies are not processed, and what demands that they are is refused (RFC 5280, section 4.2)",
        ),
        (case("critical certificatePolicies", &critical, &[], &[&root], Some(Reason::UnknownExtension)), "the same"),
        (
            case("a name in other letters", &root.leaf("a", usual), &[], &[&same], Some(Reason::Untrusted)),
            "issuers are found by the bytes of their names, as the library has it",
        ),
    ]
}

#[test]
fn paths_are_judged_as_openssl_judges_them() {
    let cases: Vec<_> = [plain(), usages(), names(), old()].into_iter().flatten().collect();
    let (mut wrong, mut told) = (Vec::new(), BTreeMap::new());
    for case in &cases {
        let (ours, (is_good, theirs)) = (case.judged(), case.is_good_for_openssl());
        *told.entry(is_good).or_insert(0) += 1;
        if ours != case.refused || ours.is_none() != is_good {
            wrong.push(format!("{}: {ours:?}, not {:?}; OpenSSL: {theirs}", case.name, case.refused));
        }
    }
    println!("{} paths: {told:?}", cases.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(told[&true] >= 20 && told[&false] >= 25, "{told:?}");
}

#[test]
fn where_we_are_stricter_than_openssl_there_is_a_reason() {
    for (case, reason) in stricter() {
        assert_eq!(case.judged(), case.refused, "{}", case.name);
        let (is_good, theirs) = case.is_good_for_openssl();
        assert!(is_good, "{}: OpenSSL agrees now, so {reason:?} is no deviation: {theirs}", case.name);
    }
}

#[test]
fn a_way_out_of_a_loop_is_found_where_openssl_does_not_go_back() {
    let (root, one, two) = (authority("root", usual), authority("one", usual), authority("two", usual));
    let (one_by_two, two_by_one) = (two.cross_sign(&one, usual), one.cross_sign(&two, usual));
    let by_root = root.cross_sign(&two, usual);
    let loop_with_way = case("", &one.leaf("a", usual), &[&one_by_two, &two_by_one, &by_root], &[&root], None);
    assert_eq!(loop_with_way.judged(), None);
    // OpenSSL follows the first issuer that fits (openssl-verification-options(1), "Certification path building").
    assert!(!loop_with_way.is_good_for_openssl().0);
    let straight = case("", &one.leaf("a", usual), &[&one_by_two, &by_root], &[&root], None);
    assert!(straight.judged().is_none() && straight.is_good_for_openssl().0);
}

#[test]
fn a_hundred_authorities_that_have_all_signed_each_other_take_no_time() {
    // Each has signed each other one, and none leads to the anchor: as many ways as there are orders of them.
    let all: Vec<_> = (0..10).map(|number| authority(&format!("a{number}"), usual)).collect();
    let mut between = Vec::new();
    for issuer in &all {
        for subject in
            all.iter().filter(|subject| subject.params.distinguished_name != issuer.params.distinguished_name)
        {
            between.push(issuer.cross_sign(subject, usual).read());
        }
    }
    between.extend(all.iter().map(Made::read));
    assert_eq!(between.len(), 100);
    let leaf = all[0].leaf("alice", usual).read();
    let anchors = vec![authority("elsewhere", usual).read()];
    let spent = spent(|| find(&leaf, &Known { anchors, between }, now()).unwrap_err().reason);
    assert!([Reason::TooComplex, Reason::Untrusted].contains(&spent.0), "{:?}", spent.0);
    println!("a maze of 100 took {:?} of a processor", spent.1);
    assert!(spent.1 < Duration::from_millis(300).mul_f64(pace::slowness()), "{:?}", spent.1);
}

#[test]
fn a_hundred_authorities_of_one_name_take_no_time() {
    let root = authority("root", usual);
    let all: Vec<_> = (0..100)
        .map(|_| {
            root.authority("same", |made| made.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(vec![1; 20]))
        })
        .collect();
    let between: Vec<_> = all.iter().map(Made::read).collect();
    let known = Known { anchors: vec![root.read()], between };
    let alice = all[50].leaf("alice", usual).read();
    let (path, took) = spent(|| find(&alice, &known, now()));
    assert_eq!(path.unwrap().certificates().count(), 3);
    let stranger = authority("same", |made| made.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(vec![1; 20]));
    let mallory = stranger.leaf("mallory", usual).read();
    let (refused, longest) = spent(|| find(&mallory, &known, now()).unwrap_err().reason);
    assert!([Reason::TooComplex, Reason::BadSignature].contains(&refused), "{refused:?}");
    println!("among 100 of one name: {took:?} to find, {longest:?} to refuse");
    assert!(took.max(longest) < Duration::from_millis(300).mul_f64(pace::slowness()), "{took:?} {longest:?}");
}

#[test]
fn rubbish_is_no_certificate() {
    let good = authority("root", usual).leaf("alice", usual).der();
    for end in 0..good.len() {
        assert!(Certificate::read(&good[..end]).is_err(), "{end} bytes");
    }
    assert!(Certificate::read(&[good.clone(), vec![0]].concat()).is_err());
    for (place, bit) in (0..good.len()).flat_map(|place| [(place, 1), (place, 0x80)]) {
        let mut other = good.clone();
        other[place] ^= bit;
        drop(Certificate::read(&other)); // says something, and does not panic
    }
}

fn spent<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = pace::busy();
    let done = work();
    (done, pace::busy() - began)
}
