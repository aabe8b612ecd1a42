//! Who it is that a certificate names: rules of the tenant, tried in order.

use async_graphql::Enum;
use serde::{Deserialize, Serialize};

use super::{
    certificate::Certificate,
    name::Name,
    path::Path,
    refusal::{Reason, Refusal},
};
use crate::error::{Error, Result};

const MOST_RULES: usize = 10;
const LONGEST: usize = 255;

/// Where a rule looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "CertificateName")]
pub enum Source {
    /// Subject alternative name, rfc822Name.
    SanEmail,
    /// Subject alternative name, the Microsoft user principal name.
    SanUpn,
    /// Subject alternative name, dNSName.
    SanDns,
    /// Subject alternative name, uniformResourceIdentifier, such as a SPIFFE ID.
    SanUri,
    /// The subject's commonName.
    SubjectCommonName,
    /// The subject's emailAddress.
    SubjectEmail,
}

/// What of a member is found by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "MemberAttribute")]
pub enum Target {
    Email,
    ExternalId,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    pub source: Source,
    pub target: Target,
    /// What a name must begin with; it is taken off.
    #[serde(default)]
    pub prefix: String,
    /// What a name must end with; it is taken off.
    #[serde(default)]
    pub suffix: String,
    /// What is put at the end of the rest.
    #[serde(default)]
    pub append: String,
}

/// Who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub target: Target,
    /// An e-mail address in small letters, or an external id as it stands.
    pub value: String,
    /// The name that it was taken from.
    pub source: Source,
}

/// Where a tenant has none of its own: the e-mail address among the alternative names.
pub fn default_rules() -> Vec<Rule> {
    vec![Rule {
        source: Source::SanEmail,
        target: Target::Email,
        prefix: String::new(),
        suffix: String::new(),
        append: String::new(),
    }]
}

/// Checks rules as they were sent.
pub(super) fn check(rules: &[Rule]) -> Result<()> {
    if rules.is_empty() || rules.len() > MOST_RULES {
        return Err(Error::invalid("mapping", format!("must have 1 to {MOST_RULES} rules")));
    }
    for (place, rule) in rules.iter().enumerate() {
        for (name, text) in [("prefix", &rule.prefix), ("suffix", &rule.suffix), ("append", &rule.append)] {
            if text.len() > LONGEST || text.chars().any(char::is_control) {
                let field = format!("mapping[{place}].{name}");
                return Err(Error::invalid(
                    field,
                    format!("must have at most {LONGEST} bytes and no control characters"),
                ));
            }
        }
        if rules[..place].contains(rule) {
            return Err(Error::invalid(format!("mapping[{place}]"), "is there already"));
        }
    }
    Ok(())
}

/// The first rule that finds somebody decides. One that finds two is refused rather than passed over: who is meant is not to depend on an order
/// that the issuer chose.
pub(super) fn map(path: &Path, rules: &[Rule]) -> Result<Identity, Refusal> {
    for rule in rules {
        let mut found: Vec<String> =
            values(&path.leaf, rule.source).into_iter().filter_map(|name| apply(rule, name)).collect();
        found.sort();
        found.dedup();
        match found.len() {
            0 => {}
            1 => {
                let value = found.remove(0);
                if rule.target == Target::Email && !path.allows_email(&value) {
                    let message = format!("an authority of its path may not give the e-mail address {value:?}");
                    return Err(Refusal::of(&path.leaf, Reason::NameConstraints, message));
                }
                return Ok(Identity { target: rule.target, value, source: rule.source });
            }
            _ => {
                let message = format!("has several names that mean somebody: {}", found.join(", "));
                return Err(Refusal::of(&path.leaf, Reason::NotMapped, message));
            }
        }
    }
    Err(Refusal::of(&path.leaf, Reason::NotMapped, "has no name that a rule of the tenant takes"))
}

fn values(leaf: &Certificate, source: Source) -> Vec<&str> {
    let alternative = leaf.names.iter().filter_map(|name| match (source, name) {
        (Source::SanEmail, Name::Email(text))
        | (Source::SanUpn, Name::Upn(text))
        | (Source::SanDns, Name::Dns(text))
        | (Source::SanUri, Name::Uri(text)) => Some(text.as_str()),
        _ => None,
    });
    match source {
        Source::SubjectCommonName => leaf.common_names.iter().map(String::as_str).collect(),
        Source::SubjectEmail => leaf.subject_emails.iter().map(String::as_str).collect(),
        _ => alternative.collect(),
    }
}

/// `None` where the rule does not take this name.
fn apply(rule: &Rule, name: &str) -> Option<String> {
    let rest = strip(name, &rule.prefix, str::get(name, ..rule.prefix.len())?, rule.prefix.len())?;
    let begin = rest.len().checked_sub(rule.suffix.len())?;
    let end = rest.get(begin..)?;
    if !end.eq_ignore_ascii_case(&rule.suffix) || begin == 0 {
        return None;
    }
    let value = format!("{}{}", &rest[..begin], rule.append);
    let is_fit = value.len() <= LONGEST && !value.chars().any(char::is_control) && value.trim() == value;
    match rule.target {
        _ if !is_fit => None,
        Target::Email => is_address(&value).then(|| value.to_ascii_lowercase()),
        Target::ExternalId => Some(value),
    }
}

fn strip<'a>(name: &'a str, wanted: &str, begin: &str, length: usize) -> Option<&'a str> {
    begin.eq_ignore_ascii_case(wanted).then(|| &name[length..])
}

/// One `@` with something on both sides, and no white space: members' addresses are no more than that, either.
fn is_address(text: &str) -> bool {
    let parts = text.split_once('@').filter(|(local, host)| !local.is_empty() && !host.is_empty());
    parts.is_some_and(|(_, host)| !host.contains('@')) && !text.contains(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(target: Target, prefix: &str, suffix: &str, append: &str) -> Rule {
        let [prefix, suffix, append] = [prefix, suffix, append].map(str::to_owned);
        Rule { source: Source::SanEmail, target, prefix, suffix, append }
    }

    #[test]
    fn a_name_is_taken_between_its_ends() {
        let (email, id) = (Target::Email, Target::ExternalId);
        for (rule, name, found) in [
            (rule(email, "", "", ""), "Alice@Acme.example", Some("alice@acme.example")),
            (rule(email, "", "@acme.example", "@corp.example"), "alice@ACME.example", Some("alice@corp.example")),
            (rule(email, "", "@acme.example", ""), "alice@acme.example", None),
            (rule(email, "", "@acme.example", "@acme.example"), "alice@evil.example", None),
            (rule(email, "", "@acme.example", "@acme.example"), "@acme.example", None),
            (rule(id, "spiffe://acme.example/user/", "", ""), "spiffe://acme.example/user/alice", Some("alice")),
            (rule(id, "spiffe://acme.example/user/", "", ""), "spiffe://acme.example/user/", None),
            (rule(id, "spiffe://acme.example/user/", "", ""), "spiffe://evil.example/user/alice", None),
            (rule(email, "", "", "@acme.example"), "alice", Some("alice@acme.example")),
            (rule(email, "", "", "@acme.example"), "alice@evil.example", None),
            (rule(email, "", "", ""), "a b@acme.example", None),
            (rule(id, "", "", ""), "a\0b", None),
            (rule(id, "", "", ""), " alice", None),
            (rule(id, "ü", "", ""), "üalice", Some("alice")),
            (rule(id, "aü", "", ""), "aé", None),
        ] {
            assert_eq!(apply(&rule, name).as_deref(), found, "{rule:?} of {name:?}");
        }
    }

    #[test]
    fn rules_are_checked() {
        assert!(check(&default_rules()).is_ok());
        assert!(check(&[]).is_err());
        assert_eq!(check(&[default_rules(), default_rules()].concat()).unwrap_err().field(), Some("mapping[1]"));
        let long = Rule { prefix: "x".repeat(256), ..default_rules().remove(0) };
        assert_eq!(check(&[long]).unwrap_err().field(), Some("mapping[0].prefix"));
        assert!(check(&vec![default_rules().remove(0); 11]).is_err());
    }
}
