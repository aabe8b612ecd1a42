//! The form of a file: reading it, and what it means for a new tenant and for one that is there.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    Declaration, DocumentFormat,
    mapping::{self, Mapping},
};
use crate::{
    error::{Error, Result},
    tenancy::{
        IsolationTier, NewTenant, Profile, SlaOverrides, Tenant, Update, profile,
        sla::{Credit, SupportResponse},
    },
};

const DOCUMENT_BYTES: usize = 262_144;
const DOCUMENT_BRACKETS: usize = 4_000;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(deserialize_with = "mapping::one")]
    tenant: Declared,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Declared {
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) slug: Option<String>,
    pub(super) plan: Option<String>,
    pub(super) tier: Option<DeclaredTier>,
    pub(super) region: Option<String>,
    pub(super) labels: Option<BTreeMap<String, String>>,
    #[serde(default, deserialize_with = "mapping::optional")]
    pub(super) contacts: Option<DeclaredContacts>,
    #[serde(default, deserialize_with = "mapping::optional")]
    pub(super) profile: Option<DeclaredProfile>,
    #[serde(default, deserialize_with = "mapping::optional")]
    pub(super) sla: Option<DeclaredSla>,
    pub(super) ai: Option<Value>,
    pub(super) branding: Option<Value>,
    pub(super) compliance: Option<Value>,
    pub(super) directory: Option<Value>,
    pub(super) features: Option<Value>,
    pub(super) integrations: Option<Value>,
    pub(super) quotas: Option<Value>,
    pub(super) settings: Option<Value>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum DeclaredTier {
    Standard,
    Enterprise,
    Premium,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DeclaredContacts {
    #[serde(deserialize_with = "mapping::list", skip_serializing_if = "Vec::is_empty")]
    pub(super) technical: Vec<profile::Contact>,
    #[serde(deserialize_with = "mapping::list", skip_serializing_if = "Vec::is_empty")]
    pub(super) billing: Vec<profile::Contact>,
    #[serde(deserialize_with = "mapping::list", skip_serializing_if = "Vec::is_empty")]
    pub(super) security: Vec<profile::Contact>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DeclaredProfile {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) legal_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) display_name: Option<String>,
    #[serde(deserialize_with = "mapping::optional", skip_serializing_if = "Option::is_none")]
    pub(super) billing_address: Option<DeclaredAddress>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) locale: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) time_zone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) crm_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) partner: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DeclaredAddress {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) lines: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) city: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) postal_code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) region: Option<String>,
    pub(super) country: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DeclaredSla {
    #[serde(with = "rust_decimal::serde::float_option", skip_serializing_if = "Option::is_none")]
    pub(super) uptime: Option<Decimal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) support_hours: Option<String>,
    #[serde(deserialize_with = "mapping::optional", skip_serializing_if = "Option::is_none")]
    pub(super) support_response: Option<SupportResponse>,
    #[serde(deserialize_with = "mapping::optional_list", skip_serializing_if = "Option::is_none")]
    pub(super) credits: Option<Vec<Credit>>,
}

impl Declaration {
    /// Reads a file. Errors name line or field.
    pub fn parse(document: &str, format: DocumentFormat) -> Result<Self> {
        if document.len() > DOCUMENT_BYTES {
            return Err(Error::invalid(
                "document",
                format!("has {} bytes; at most {DOCUMENT_BYTES} are read", document.len()),
            ));
        }
        // The YAML parser looks at every open bracket again for each token: 100,000 of them are minutes of work.
        let brackets = document.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count();
        if brackets > DOCUMENT_BRACKETS {
            return Err(Error::invalid(
                "document",
                format!("has {brackets} times '[' or '{{'; at most {DOCUMENT_BRACKETS} are read"),
            ));
        }
        let value: Value = match format {
            DocumentFormat::Yaml => serde_norway::from_str(document)
                .map_err(|error| Error::invalid("document", format!("is no YAML: {error}")))?,
            DocumentFormat::Toml => toml::from_str(document)
                .map_err(|error| Error::invalid("document", format!("is no TOML: {}", error.message())))?,
        };
        let Mapping(document): Mapping<Document> = typed(&value)?;
        let values = value.get("tenant").and_then(Value::as_object).cloned().unwrap_or_default();
        if document.tenant.id.is_none() && document.tenant.slug.is_none() {
            return Err(Error::invalid("tenant.id", "is needed to find the tenant again (or `slug`)"));
        }
        Ok(Self { tenant: document.tenant, values })
    }

    pub(super) fn slug(&self) -> Option<&str> {
        self.tenant.slug.as_deref().or(self.tenant.id.as_deref())
    }

    pub(super) fn into_new(self) -> Result<NewTenant> {
        let slug = self
            .slug()
            .map(str::to_owned)
            .ok_or_else(|| Error::invalid("tenant.slug", "is needed for a new tenant"))?;
        let sections = self.sections();
        let declared = self.tenant;
        let profile = merged_profile(Profile::default(), declared.profile, declared.contacts);
        Ok(NewTenant {
            name: declared.name.unwrap_or_else(|| slug.clone()),
            slug,
            external_id: declared.id,
            plan: declared.plan,
            isolation_tier: declared.tier.map(Into::into),
            region: declared.region,
            profile,
            labels: declared.labels.unwrap_or_default(),
            sla: declared.sla.map(Into::into).unwrap_or_default(),
            sections,
        })
    }

    /// The change that brings `present` to what the file says, and the plan that it names.
    pub(super) fn into_update(self, present: &Tenant) -> (Update, Option<String>) {
        let mut sections = present.sections.0.clone();
        sections.extend(self.sections());
        let declared = self.tenant;
        let profile = merged_profile(present.profile.clone(), declared.profile, declared.contacts);
        let update = Update {
            name: declared.name,
            profile: Some(profile),
            labels: declared.labels,
            slug: declared.slug,
            external_id: declared.id,
            region: declared.region,
            isolation_tier: declared.tier.map(Into::into),
            sla: declared.sla.map(Into::into),
            sections: Some(sections),
        };
        (update, declared.plan)
    }

    fn sections(&self) -> BTreeMap<String, Value> {
        let declared = &self.tenant;
        let all = [
            ("ai", &declared.ai),
            ("branding", &declared.branding),
            ("compliance", &declared.compliance),
            ("directory", &declared.directory),
            ("features", &declared.features),
            ("integrations", &declared.integrations),
            ("quotas", &declared.quotas),
            ("settings", &declared.settings),
        ];
        all.into_iter().filter_map(|(name, section)| Some((name.to_owned(), section.clone()?))).collect()
    }
}

fn typed<T: DeserializeOwned>(value: &Value) -> Result<T> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        Error::invalid(if path == "." { "document".to_owned() } else { path }, error.into_inner().to_string())
    })
}

fn merged_profile(
    mut profile: Profile,
    declared: Option<DeclaredProfile>,
    contacts: Option<DeclaredContacts>,
) -> Profile {
    if let Some(declared) = declared {
        profile.legal_name = declared.legal_name.or(profile.legal_name);
        profile.display_name = declared.display_name.or(profile.display_name);
        profile.billing_address = declared.billing_address.map(Into::into).or(profile.billing_address);
        profile.locale = declared.locale.or(profile.locale);
        profile.time_zone = declared.time_zone.or(profile.time_zone);
        profile.crm_id = declared.crm_id.or(profile.crm_id);
        profile.partner = declared.partner.or(profile.partner);
    }
    if let Some(contacts) = contacts {
        profile.technical_contacts = contacts.technical;
        profile.billing_contacts = contacts.billing;
        profile.security_contacts = contacts.security;
    }
    profile
}

impl From<DeclaredTier> for IsolationTier {
    fn from(tier: DeclaredTier) -> Self {
        match tier {
            DeclaredTier::Standard => Self::Standard,
            DeclaredTier::Enterprise => Self::Enterprise,
            DeclaredTier::Premium => Self::Premium,
        }
    }
}

impl From<IsolationTier> for DeclaredTier {
    fn from(tier: IsolationTier) -> Self {
        match tier {
            IsolationTier::Standard => Self::Standard,
            IsolationTier::Enterprise => Self::Enterprise,
            IsolationTier::Premium => Self::Premium,
        }
    }
}

impl From<DeclaredAddress> for profile::Address {
    fn from(address: DeclaredAddress) -> Self {
        let DeclaredAddress { lines, city, postal_code, region, country } = address;
        Self { lines, city, postal_code, region, country }
    }
}

impl From<profile::Address> for DeclaredAddress {
    fn from(address: profile::Address) -> Self {
        let profile::Address { lines, city, postal_code, region, country } = address;
        Self { lines, city, postal_code, region, country }
    }
}

impl From<DeclaredSla> for SlaOverrides {
    fn from(sla: DeclaredSla) -> Self {
        Self {
            uptime: sla.uptime,
            support_hours: sla.support_hours,
            support_response: sla.support_response,
            credits: sla.credits,
        }
    }
}
