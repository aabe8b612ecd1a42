//! From groups of the directory to roles of the tenant.

use serde::{Deserialize, Serialize};

use super::dn::{Dn, DnKey};
use crate::error::{Error, Result};

const MOST_MAPPINGS: usize = 200;
const MOST_ROLES: usize = 20;

/// Who is in the group has the roles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleMapping {
    pub group: Dn,
    pub roles: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct NewMapping {
    pub group: String,
    pub roles: Vec<String>,
}

pub(super) fn check(sent: Vec<NewMapping>) -> Result<Vec<RoleMapping>> {
    if sent.len() > MOST_MAPPINGS {
        return Err(Error::invalid("roleMappings", format!("has at most {MOST_MAPPINGS} groups")));
    }
    let mut mappings: Vec<RoleMapping> = Vec::with_capacity(sent.len());
    for (place, sent) in sent.into_iter().enumerate() {
        let group = Dn::parse(&sent.group, &format!("roleMappings.{place}.group"))?;
        if mappings.iter().any(|known| known.group == group) {
            return Err(Error::invalid(format!("roleMappings.{place}.group"), "is there twice"));
        }
        let field = format!("roleMappings.{place}.roles");
        let roles = check_roles(sent.roles, &field)?;
        if roles.is_empty() {
            return Err(Error::invalid(field, "names a role"));
        }
        mappings.push(RoleMapping { group, roles });
    }
    Ok(mappings)
}

pub(super) fn check_roles(mut roles: Vec<String>, field: &str) -> Result<Vec<String>> {
    if roles.len() > MOST_ROLES {
        return Err(Error::invalid(field, format!("has at most {MOST_ROLES} roles")));
    }
    let is_key = |role: &String| {
        (1..=63).contains(&role.len())
            && role.starts_with(|first: char| first.is_ascii_lowercase())
            && role.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte))
    };
    if let Some(place) = roles.iter().position(|role| !is_key(role)) {
        return Err(Error::invalid(format!("{field}.{place}"), "must be the key of a role"));
    }
    roles.sort_unstable();
    roles.dedup();
    Ok(roles)
}

/// The roles of who is in these groups, those of everybody included; sorted, each once.
pub(in crate::directory) fn roles_of<'a>(
    mappings: &[RoleMapping],
    defaults: &[String],
    groups: impl Iterator<Item = &'a DnKey>,
) -> Vec<String> {
    let mut roles = defaults.to_vec();
    for group in groups {
        let mapped = mappings.iter().filter(|mapping| mapping.group.key() == group);
        roles.extend(mapped.flat_map(|mapping| mapping.roles.iter().cloned()));
    }
    roles.sort_unstable();
    roles.dedup();
    roles
}
