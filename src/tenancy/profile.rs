//! The account behind a tenant: names, address, contacts, locale. All optional, each part checked.

use std::collections::BTreeMap;

use async_graphql::{InputObject, SimpleObject};
use sea_orm::FromJsonQueryResult;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

const TEXT_LENGTH: usize = 200;
const CONTACTS: usize = 20;
const LABELS: usize = 64;

/// Who a tenant is in business terms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult, SimpleObject)]
#[serde(rename_all = "camelCase", default)]
#[graphql(name = "Profile")]
pub struct Profile {
    /// Name of the legal entity.
    pub legal_name: Option<String>,
    /// Name as shown to people; the tenant's `name` where none is set.
    pub display_name: Option<String>,
    pub billing_address: Option<Address>,
    pub technical_contacts: Vec<Contact>,
    pub billing_contacts: Vec<Contact>,
    pub security_contacts: Vec<Contact>,
    /// BCP 47 language tag, e.g. `de-AT`.
    pub locale: Option<String>,
    /// IANA time zone, e.g. `Europe/Vienna`.
    pub time_zone: Option<String>,
    /// Key of the account in the customer relationship system.
    pub crm_id: Option<String>,
    /// Systems integrator that looks after this tenant.
    pub partner: Option<String>,
}

/// Replaces the whole profile.
#[derive(Clone, Debug, Default, InputObject)]
pub struct ProfileInput {
    pub legal_name: Option<String>,
    pub display_name: Option<String>,
    pub billing_address: Option<AddressInput>,
    #[graphql(default)]
    pub technical_contacts: Vec<ContactInput>,
    #[graphql(default)]
    pub billing_contacts: Vec<ContactInput>,
    #[graphql(default)]
    pub security_contacts: Vec<ContactInput>,
    pub locale: Option<String>,
    pub time_zone: Option<String>,
    pub crm_id: Option<String>,
    pub partner: Option<String>,
}

/// A postal address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, SimpleObject, InputObject)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[graphql(name = "Address", input_name = "AddressInput")]
pub struct Address {
    pub lines: Vec<String>,
    pub city: Option<String>,
    pub postal_code: Option<String>,
    pub region: Option<String>,
    /// ISO 3166-1 alpha-2, e.g. `AT`.
    pub country: String,
}

pub type AddressInput = Address;

/// A person or a desk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, SimpleObject, InputObject)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[graphql(name = "Contact", input_name = "ContactInput")]
pub struct Contact {
    pub name: String,
    pub email: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
}

pub type ContactInput = Contact;

impl From<ProfileInput> for Profile {
    fn from(input: ProfileInput) -> Self {
        Self {
            legal_name: input.legal_name,
            display_name: input.display_name,
            billing_address: input.billing_address,
            technical_contacts: input.technical_contacts,
            billing_contacts: input.billing_contacts,
            security_contacts: input.security_contacts,
            locale: input.locale,
            time_zone: input.time_zone,
            crm_id: input.crm_id,
            partner: input.partner,
        }
    }
}

impl Profile {
    /// Checks every part; an error names it below `field`.
    pub fn check(&self, field: &str) -> Result<()> {
        let texts = [
            ("legalName", &self.legal_name),
            ("displayName", &self.display_name),
            ("crmId", &self.crm_id),
            ("partner", &self.partner),
        ];
        for (name, text) in texts {
            optional_text(&format!("{field}.{name}"), text.as_deref())?;
        }
        if let Some(address) = &self.billing_address {
            address.check(&format!("{field}.billingAddress"))?;
        }
        let contacts = [
            ("technicalContacts", &self.technical_contacts),
            ("billingContacts", &self.billing_contacts),
            ("securityContacts", &self.security_contacts),
        ];
        for (name, contacts) in contacts {
            if contacts.len() > CONTACTS {
                return Err(Error::invalid(
                    format!("{field}.{name}"),
                    format!("has {} contacts; at most {CONTACTS} are kept", contacts.len()),
                ));
            }
            for (index, contact) in contacts.iter().enumerate() {
                contact.check(&format!("{field}.{name}[{index}]"))?;
            }
        }
        if let Some(locale) = &self.locale {
            let tag =
                |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
            if locale.len() > 35
                || !locale.split('-').all(tag)
                || !(2..=8).contains(&locale.split('-').next().map_or(0, str::len))
            {
                return Err(Error::invalid(format!("{field}.locale"), "must be a BCP 47 language tag such as de-AT"));
            }
        }
        if let Some(zone) = &self.time_zone
            && zone.parse::<chrono_tz::Tz>().is_err()
        {
            return Err(Error::invalid(format!("{field}.timeZone"), "must be an IANA time zone such as Europe/Vienna"));
        }
        Ok(())
    }
}

impl Address {
    fn check(&self, field: &str) -> Result<()> {
        if self.lines.len() > 5 {
            return Err(Error::invalid(format!("{field}.lines"), "has at most 5 lines"));
        }
        for (index, line) in self.lines.iter().enumerate() {
            text(&format!("{field}.lines[{index}]"), line)?;
        }
        for (name, part) in [("city", &self.city), ("postalCode", &self.postal_code), ("region", &self.region)] {
            optional_text(&format!("{field}.{name}"), part.as_deref())?;
        }
        if self.country.len() != 2 || !self.country.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Err(Error::invalid(
                format!("{field}.country"),
                "must be two capital letters (ISO 3166-1), such as AT",
            ));
        }
        Ok(())
    }
}

impl Contact {
    fn check(&self, field: &str) -> Result<()> {
        text(&format!("{field}.name"), &self.name)?;
        optional_text(&format!("{field}.phone"), self.phone.as_deref())?;
        let well_formed = self.email.len() <= 254
            && self.email.split_once('@').is_some_and(|(local, domain)| {
                (1..=64).contains(&local.len())
                    && domain.contains('.')
                    && !domain.contains('@')
                    && !domain.starts_with('.')
                    && !domain.ends_with('.')
            })
            && !self.email.chars().any(|character| character.is_whitespace() || character.is_control());
        if well_formed {
            Ok(())
        } else {
            Err(Error::invalid(format!("{field}.email"), "must be an e-mail address such as it@example.com"))
        }
    }
}

/// Text that a person wrote: not empty, not too long, nothing that PostgreSQL or a log cannot hold.
pub(super) fn text(field: &str, text: &str) -> Result<()> {
    if text.trim().is_empty() {
        return Err(Error::invalid(field, "must not be empty"));
    }
    if text.chars().count() > TEXT_LENGTH {
        return Err(Error::invalid(field, format!("must have at most {TEXT_LENGTH} characters")));
    }
    if text.chars().any(char::is_control) {
        return Err(Error::invalid(field, "must not hold control characters"));
    }
    Ok(())
}

fn optional_text(field: &str, value: Option<&str>) -> Result<()> {
    value.map_or(Ok(()), |value| text(field, value))
}

/// Labels: up to 64, keys of letters, digits, `_ - . /`, values of up to 200 characters.
pub(super) fn check_labels(field: &str, labels: &BTreeMap<String, String>) -> Result<()> {
    if labels.len() > LABELS {
        return Err(Error::invalid(field, format!("has {} labels; at most {LABELS} are kept", labels.len())));
    }
    for (key, value) in labels {
        let allowed = |character: char| character.is_ascii_alphanumeric() || "_-./".contains(character);
        if key.is_empty() || key.len() > 63 || !key.chars().all(allowed) {
            return Err(Error::invalid(field, "a label's key has 1 to 63 letters, digits, '_', '-', '.' or '/'"));
        }
        text(&format!("{field}.{key}"), value)?;
    }
    Ok(())
}
