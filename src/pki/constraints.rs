//! Name constraints (RFC 5280, section 4.2.1.10): which names an authority may give.

use super::{
    certificate::{Certificate, NameConstraints},
    name::{DirectoryName, Name},
};

/// Names that are compared with constraints along one path: more is refused rather than worked off.
pub(super) const MOST_COMPARISONS: usize = 100_000;

/// Whether all names of the certificate are such as `constraints` let it have; else which is not.
pub(super) fn check(constraints: &NameConstraints, certificate: &Certificate) -> Result<(), String> {
    for name in names_of(certificate) {
        check_name(constraints, &name).map_err(|()| format!("{} {:?}", name.form(), name.text()))?;
    }
    Ok(())
}

/// Whether this e-mail address is one that the authority may give. What stands in a common name or in a user principal name is held to it
/// where somebody is recognised by it.
pub(super) fn allows_email(constraints: &NameConstraints, address: &str) -> bool {
    check_name(constraints, &Name::Email(address.to_owned())).is_ok()
}

/// Alternative names, the subject, its e-mail addresses, and a common name that looks like a host where no alternative name has one.
fn names_of(certificate: &Certificate) -> Vec<Name> {
    let mut names = certificate.names.clone();
    if !certificate.subject.parts.is_empty() {
        names.push(Name::Directory(certificate.subject.clone()));
    }
    names.extend(certificate.subject_emails.iter().cloned().map(Name::Email));
    let has_host = names.iter().any(|name| matches!(name, Name::Dns(_)));
    if !has_host && !certificate.is_ca() {
        let hosts = certificate.common_names.iter().filter(|name| looks_like_host(name));
        names.extend(hosts.cloned().map(Name::Dns));
    }
    names
}

fn looks_like_host(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.contains('.') && text.split('.').all(is_label)
}

fn check_name(constraints: &NameConstraints, name: &Name) -> Result<(), ()> {
    for base in constraints.excluded.iter().filter(|base| same_form(name, base)) {
        if matches(name, base).unwrap_or(true) {
            return Err(());
        }
    }
    let mut permitted = constraints.permitted.iter().filter(|base| same_form(name, base)).peekable();
    if permitted.peek().is_none() {
        return Ok(());
    }
    let is_permitted = permitted.any(|base| matches(name, base).unwrap_or(false));
    if is_permitted { Ok(()) } else { Err(()) }
}

/// A user principal name is an otherName: which one a constraint means is not read, so every constraint on otherName is one on it.
fn same_form(name: &Name, base: &Name) -> bool {
    let form = |name: &Name| if matches!(name, Name::Upn(_)) { "otherName" } else { name.form() };
    form(name) == form(base)
}

/// `None` where it cannot be told: then an excluded name is refused, and a permitted one is not found.
fn matches(name: &Name, base: &Name) -> Option<bool> {
    match (name, base) {
        (Name::Email(address), Name::Email(base)) => email_matches(address, base),
        (Name::Dns(host), Name::Dns(base)) => Some(host_is_below(host, base)),
        (Name::Uri(uri), Name::Uri(base)) => uri_matches(uri, base),
        (Name::Address(address), Name::Address(base)) => address_matches(address, base),
        (Name::Directory(name), Name::Directory(base)) => Some(DirectoryName::is_within(name, base)),
        _ => None,
    }
}

/// A mailbox, all of a host, or all of the hosts below a domain.
fn email_matches(address: &str, base: &str) -> Option<bool> {
    let (local, host) = address.rsplit_once('@')?;
    match base.rsplit_once('@') {
        Some((base_local, base_host)) => Some(local == base_local && host.eq_ignore_ascii_case(base_host)),
        None if base.starts_with('.') => Some(ends_with(host, base)),
        None => Some(base.is_empty() || host.eq_ignore_ascii_case(base)),
    }
}

/// The host itself, or labels to its left. A leading dot, which the RFC does not have, leaves out the host itself.
fn host_is_below(host: &str, base: &str) -> bool {
    // A wildcard stands for hosts on both sides of a constraint below it.
    let host = host.strip_prefix("*.").unwrap_or(host);
    if base.is_empty() || host.eq_ignore_ascii_case(base) {
        return true;
    }
    if base.starts_with('.') { ends_with(host, base) } else { ends_with(host, &format!(".{base}")) }
}

fn ends_with(text: &str, end: &str) -> bool {
    let begin = text.len().checked_sub(end.len());
    begin.and_then(|begin| text.get(begin..)).is_some_and(|tail| begin != Some(0) && tail.eq_ignore_ascii_case(end))
}

/// Of the host of a URI with an authority; one without, or with an address for a host, cannot be told.
fn uri_matches(uri: &str, base: &str) -> Option<bool> {
    let (_, rest) = uri.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    if host.is_empty() || host.starts_with('[') || host.parse::<std::net::IpAddr>().is_ok() {
        return None;
    }
    Some(if base.starts_with('.') { ends_with(host, base) } else { host.eq_ignore_ascii_case(base) })
}

fn address_matches(address: &[u8], base: &[u8]) -> Option<bool> {
    if !matches!(address.len(), 4 | 16) || !matches!(base.len(), 8 | 32) {
        return None;
    }
    if base.len() != address.len() * 2 {
        return Some(false);
    }
    let (network, mask) = base.split_at(address.len());
    let same = |((own, network), mask): ((&u8, &u8), &u8)| own & mask == network & mask;
    Some(address.iter().zip(network).zip(mask).all(same))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permitted(base: Name) -> NameConstraints {
        NameConstraints { permitted: vec![base], excluded: Vec::new() }
    }

    fn excluded(base: Name) -> NameConstraints {
        NameConstraints { permitted: Vec::new(), excluded: vec![base] }
    }

    fn email(text: &str) -> Name {
        Name::Email(text.to_owned())
    }

    fn dns(text: &str) -> Name {
        Name::Dns(text.to_owned())
    }

    #[test]
    fn mailboxes_are_held_to_mailbox_host_and_domain() {
        for (address, base, is_within) in [
            ("a@acme.example", "acme.example", true),
            ("a@ACME.example", "acme.example", true),
            ("a@sub.acme.example", "acme.example", false),
            ("a@sub.acme.example", ".acme.example", true),
            ("a@acme.example", ".acme.example", false),
            ("a@notacme.example", "acme.example", false),
            ("a@notacme.example", ".acme.example", false),
            ("a@acme.example", "a@acme.example", true),
            ("A@acme.example", "a@acme.example", false),
            ("boss@evil.example@acme.example", "evil.example", false),
            ("no address", "acme.example", false),
        ] {
            let told = check_name(&permitted(email(base)), &email(address)).is_ok();
            assert_eq!(told, is_within, "{address} within {base}");
        }
        assert!(check_name(&excluded(email("acme.example")), &email("no address")).is_err(), "what cannot be told");
        assert!(check_name(&permitted(dns("acme.example")), &email("a@evil.example")).is_ok(), "another form");
    }

    #[test]
    fn hosts_are_held_to_their_domain() {
        for (host, base, is_below) in [
            ("acme.example", "acme.example", true),
            ("a.b.acme.example", "acme.example", true),
            ("notacme.example", "acme.example", false),
            ("*.acme.example", "acme.example", true),
            ("acme.example", ".acme.example", false),
            ("a.acme.example", ".acme.example", true),
            ("anything", "", true),
        ] {
            assert_eq!(host_is_below(host, base), is_below, "{host} below {base}");
        }
    }

    #[test]
    fn uris_are_held_to_their_host() {
        for (uri, base, told) in [
            ("spiffe://acme.example/user/a", "acme.example", Some(true)),
            ("https://x@acme.example:8443/a?b", "acme.example", Some(true)),
            ("https://evil.example/@acme.example", "acme.example", Some(false)),
            ("https://a.acme.example/", ".acme.example", Some(true)),
            ("https://a.acme.example/", "acme.example", Some(false)),
            ("urn:uuid:1", "acme.example", None),
            ("https://10.0.0.1/", "acme.example", None),
        ] {
            assert_eq!(uri_matches(uri, base), told, "{uri} at {base}");
        }
    }

    #[test]
    fn addresses_are_held_to_their_network() {
        let base = Name::Address(vec![10, 1, 0, 0, 255, 255, 0, 0]);
        let address = |octets: &[u8]| Name::Address(octets.to_vec());
        assert!(check_name(&permitted(base.clone()), &address(&[10, 1, 2, 3])).is_ok());
        assert!(check_name(&permitted(base.clone()), &address(&[10, 2, 2, 3])).is_err());
        assert!(check_name(&permitted(base.clone()), &address(&[0; 16])).is_err());
        assert!(check_name(&excluded(base.clone()), &address(&[0; 16])).is_ok());
        assert!(check_name(&excluded(base), &address(&[1, 2, 3])).is_err(), "what cannot be told");
    }

    #[test]
    fn forms_that_are_not_read_are_refused_where_they_are_constrained() {
        for constraints in [permitted(Name::Other("otherName")), excluded(Name::Other("otherName"))] {
            assert!(check_name(&constraints, &Name::Upn("a@acme.example".to_owned())).is_err());
            assert!(check_name(&constraints, &Name::Other("otherName")).is_err());
            assert!(check_name(&constraints, &Name::Other("registeredID")).is_ok());
        }
    }
}
