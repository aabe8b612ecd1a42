//! People and groups, as a directory has them.

use serde::{Deserialize, Serialize};

use super::{ldap::Entry, settings::Settings};

/// Somebody of the directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Person {
    /// What stays when the entry is renamed, by the attribute `externalId`.
    pub external_id: String,
    pub dn: String,
    pub email: String,
    /// For people; the e-mail address where the directory has no name.
    pub name: String,
    /// DNs of the groups that it is in, those above them included as `nestedGroups` says.
    pub groups: Vec<String>,
    /// Of `roleMappings` and `defaultRoles`; sorted.
    pub roles: Vec<String>,
}

/// Why an entry is nobody who could be a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Lacking {
    Dn,
    ExternalId,
    Email,
}

impl Lacking {
    /// The attribute that is missing, or has no value that could be used.
    pub(super) fn attribute(self, settings: &Settings) -> &str {
        match self {
            Self::Dn => "a name",
            Self::ExternalId => &settings.attributes.external_id,
            Self::Email => &settings.attributes.email,
        }
    }
}

const LONGEST_EXTERNAL_ID: usize = 512;
const LONGEST_NAME: usize = 200;

impl Person {
    /// Whom an entry is; groups and roles come later.
    pub(super) fn read(entry: &Entry, settings: &Settings) -> Result<Self, Lacking> {
        if entry.dn.is_empty() {
            return Err(Lacking::Dn); // binding with it would be a bind of nobody
        }
        let attributes = &settings.attributes;
        let external_id = entry
            .identifier(&attributes.external_id)
            .filter(|id| id.chars().count() <= LONGEST_EXTERNAL_ID)
            .ok_or(Lacking::ExternalId)?;
        let email = entry.text(&attributes.email).map(str::trim).filter(|text| is_email(text)).ok_or(Lacking::Email)?;
        let name = entry.text(&attributes.name).unwrap_or(email);
        let name: String = name.chars().filter(|letter| !letter.is_control()).take(LONGEST_NAME).collect();
        Ok(Self {
            external_id,
            dn: entry.dn.clone(),
            email: email.to_owned(),
            name: name.trim().to_owned(),
            groups: Vec::new(),
            roles: Vec::new(),
        })
    }
}

/// What of an entry is asked for.
pub(super) fn attributes(settings: &Settings) -> [&str; 3] {
    [&settings.attributes.email, &settings.attributes.name, &settings.attributes.external_id]
}

/// Near enough that members can be asked: they have the last word.
fn is_email(text: &str) -> bool {
    (3..=254).contains(&text.len())
        && !text.contains(|letter: char| letter.is_whitespace() || letter.is_control())
        && text.split_once('@').is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty())
}
