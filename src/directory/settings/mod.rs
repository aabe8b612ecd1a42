//! How a tenant's directory is reached and read: what was sent, checked, and then what holds.

mod attributes;
mod certificate;
mod dn;
mod filter;
mod mapping;
mod server;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use self::{
    attributes::{Attributes, NestedGroups, NewAttributes, Preset},
    certificate::Certificate,
    dn::Dn,
    filter::Filter,
    mapping::{NewMapping, RoleMapping},
    server::Server,
};
pub(super) use self::{
    certificate::certificates,
    dn::{DnKey, key_of},
    filter::and_equal,
    mapping::roles_of,
    server::Protection,
};
use crate::{
    error::{Error, Result},
    platform::reach::Reach,
};

const MOST_SERVERS: usize = 8;

/// How a tenant's directory is reached and read. The bind secret is beside it, sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    pub preset: Preset,
    /// In the order in which they are tried.
    pub servers: Vec<Server>,
    /// PEM; the system's where there are none.
    pub certificate_authorities: Option<String>,
    pub certificates: Vec<Certificate>,
    pub base_dn: Dn,
    pub bind_dn: Dn,
    pub user_filter: Filter,
    pub attributes: Attributes,
    pub group_base_dn: Dn,
    pub group_filter: Filter,
    pub nested_groups: NestedGroups,
    pub role_mappings: Vec<RoleMapping>,
    /// Of everybody who is found.
    pub default_roles: Vec<String>,
    /// Entries in a page (RFC 2696).
    pub page_size: u16,
    pub deactivations: Cap,
    /// None: synchronised when somebody asks.
    pub sync_interval_minutes: Option<u32>,
}

/// How many members one synchronisation may deactivate unless it is forced: both hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cap {
    pub most: u32,
    /// Of the members that came from the directory.
    pub percent: u32,
}

/// Settings to be, as they were sent.
#[derive(Clone, Debug)]
pub struct NewSettings {
    pub preset: Preset,
    pub servers: Vec<String>,
    pub start_tls: bool,
    pub certificate_authorities: Option<String>,
    pub base_dn: String,
    pub bind_dn: String,
    pub user_filter: Option<String>,
    pub attributes: NewAttributes,
    pub group_base_dn: Option<String>,
    pub group_filter: Option<String>,
    pub nested_groups: Option<NestedGroups>,
    pub role_mappings: Vec<NewMapping>,
    pub default_roles: Vec<String>,
    pub page_size: i32,
    pub most_deactivations: i32,
    pub most_deactivations_percent: i32,
    pub sync_interval_minutes: Option<i32>,
}

impl NewSettings {
    /// Checks each field by itself, and what they are together. Nobody is asked over the network.
    pub(super) fn check(self, reach: &Reach, now: DateTime<Utc>) -> Result<Settings> {
        let defaults = self.preset.defaults();
        let servers = servers(&self.servers, self.start_tls, reach)?;
        let authorities = self.certificate_authorities.filter(|pem| !pem.trim().is_empty());
        let certificates =
            authorities.as_deref().map(|pem| certificate::check(pem, now)).transpose()?.unwrap_or_default();
        let base_dn = Dn::parse(&self.base_dn, "baseDn")?;
        let group_base_dn = match &self.group_base_dn {
            Some(text) => Dn::parse(text, "groupBaseDn")?,
            None => base_dn.clone(),
        };
        let user_filter = self.user_filter.as_deref().unwrap_or(defaults.user_filter);
        let group_filter = self.group_filter.as_deref().unwrap_or(defaults.group_filter);
        Ok(Settings {
            preset: self.preset,
            servers,
            certificate_authorities: authorities,
            certificates,
            base_dn,
            bind_dn: Dn::parse(&self.bind_dn, "bindDn")?,
            user_filter: Filter::of_people(user_filter, "userFilter")?,
            attributes: self.attributes.check(&defaults)?,
            group_base_dn,
            group_filter: Filter::of_groups(group_filter, "groupFilter")?,
            nested_groups: self.nested_groups.unwrap_or(defaults.nested_groups),
            role_mappings: mapping::check(self.role_mappings)?,
            default_roles: mapping::check_roles(self.default_roles, "defaultRoles")?,
            page_size: within(self.page_size, 10, 10_000, "pageSize")? as u16,
            deactivations: Cap {
                most: within(self.most_deactivations, 0, 1_000_000, "mostDeactivations")?,
                percent: within(self.most_deactivations_percent, 0, 100, "mostDeactivationsPercent")?,
            },
            sync_interval_minutes: self
                .sync_interval_minutes
                .map(|minutes| within(minutes, 5, 7 * 24 * 60, "syncIntervalMinutes"))
                .transpose()?,
        })
    }
}

impl Settings {
    /// Whether what was sent to `before` would now go to somebody else, or be seen by somebody else: then the bind secret has to be sent
    /// again, so that who may change addresses cannot have the secret sent to one of their own.
    pub(super) fn leads_elsewhere(&self, before: &Self) -> bool {
        (&self.servers, &self.certificate_authorities, &self.bind_dn)
            != (&before.servers, &before.certificate_authorities, &before.bind_dn)
    }

    /// Roles that are given, by the fields that name them.
    pub(super) fn roles(&self) -> impl Iterator<Item = (String, &Vec<String>)> {
        let mapped = self.role_mappings.iter().enumerate();
        let mapped = mapped.map(|(place, mapping)| (format!("roleMappings.{place}.roles"), &mapping.roles));
        std::iter::once(("defaultRoles".to_owned(), &self.default_roles)).chain(mapped)
    }

    pub(super) fn is_plain_text(&self) -> bool {
        self.servers.iter().any(|server| server.protection() == Protection::PlainText)
    }
}

fn servers(sent: &[String], start_tls: bool, reach: &Reach) -> Result<Vec<Server>> {
    if !(1..=MOST_SERVERS).contains(&sent.len()) {
        return Err(Error::invalid("servers", format!("has 1 to {MOST_SERVERS} addresses")));
    }
    let mut servers = Vec::with_capacity(sent.len());
    for (place, text) in sent.iter().enumerate() {
        let field = format!("servers.{place}");
        let server = Server::parse(text, start_tls, &field)?;
        server.check_reach(reach, &field)?;
        if servers.contains(&server) {
            return Err(Error::invalid(field, "is there twice"));
        }
        servers.push(server);
    }
    Ok(servers)
}

fn within(number: i32, least: u32, most: u32, field: &str) -> Result<u32> {
    let found = u32::try_from(number).ok().filter(|number| (least..=most).contains(number));
    found.ok_or_else(|| Error::invalid(field, format!("must be between {least} and {most}")))
}
