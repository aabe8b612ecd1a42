//! What attributes are called, and how directories of a kind have them.

use async_graphql::Enum;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Which names of attributes, filters and rules hold where none are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Enum)]
#[graphql(name = "DirectoryPreset")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Preset {
    /// OpenLDAP, 389 Directory Server and others with `inetOrgPerson` (RFC 2798), `groupOfNames` (RFC 4519) and `entryUUID` (RFC 4530).
    Standard,
    /// Active Directory: `sAMAccountName`, `objectGUID`, groups in groups by its matching rule in chain. Disabled accounts are left out.
    ActiveDirectory,
}

/// How groups in groups count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Enum)]
#[graphql(name = "NestedGroups")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum NestedGroups {
    /// They do not.
    None,
    /// Group by group, at most 20 levels up; circles end where they close.
    Walk,
    /// The server follows them: LDAP_MATCHING_RULE_IN_CHAIN (1.2.840.113556.1.4.1941) of Active Directory.
    Chain,
}

/// Names of attributes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attributes {
    pub email: String,
    pub name: String,
    /// What stays when an entry is renamed.
    pub external_id: String,
    /// Of groups: the DNs of those in them.
    pub member: String,
}

/// Names to be; those of the preset where there are none.
#[derive(Clone, Debug, Default)]
pub struct NewAttributes {
    pub email: Option<String>,
    pub name: Option<String>,
    pub external_id: Option<String>,
    pub member: Option<String>,
}

/// What holds where nothing is given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Defaults {
    pub(super) user_filter: &'static str,
    pub(super) group_filter: &'static str,
    pub(super) nested_groups: NestedGroups,
    name: &'static str,
    external_id: &'static str,
}

impl Preset {
    pub(super) fn defaults(self) -> Defaults {
        match self {
            Self::Standard => Defaults {
                user_filter: "(&(objectClass=inetOrgPerson)(uid={login}))",
                group_filter: "(objectClass=groupOfNames)",
                nested_groups: NestedGroups::Walk,
                name: "cn",
                external_id: "entryUUID",
            },
            Self::ActiveDirectory => Defaults {
                // Bit 2 of userAccountControl: the account is disabled.
                user_filter: "(&(objectCategory=person)(objectClass=user)(sAMAccountName={login})\
                              (!(userAccountControl:1.2.840.113556.1.4.803:=2)))",
                group_filter: "(objectClass=group)",
                nested_groups: NestedGroups::Chain,
                name: "displayName",
                external_id: "objectGUID",
            },
        }
    }
}

impl NewAttributes {
    pub(super) fn check(self, defaults: &Defaults) -> Result<Attributes> {
        let named = |sent: Option<String>, default: &str, field: &str| {
            let name = sent.unwrap_or_else(|| default.to_owned());
            if is_description(&name) { Ok(name) } else { Err(Error::invalid(format!("attributes.{field}"), RULE)) }
        };
        Ok(Attributes {
            email: named(self.email, "mail", "email")?,
            name: named(self.name, defaults.name, "name")?,
            external_id: named(self.external_id, defaults.external_id, "externalId")?,
            member: named(self.member, "member", "member")?,
        })
    }
}

const RULE: &str =
    "must be the name of an attribute (RFC 4512, section 2.5): a letter, then letters, digits and '-', at most 100";

fn is_description(name: &str) -> bool {
    (1..=100).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
