//! What is, in the form of a file.

use serde_json::{Map, Value, json};

use super::{
    Declaration, DocumentFormat,
    file::{DeclaredContacts, DeclaredProfile, DeclaredSla, DeclaredTier},
};
use crate::{
    error::{Context as _, Result},
    tenancy::Tenant,
};

impl Declaration {
    /// Writes a tenant in the same form.
    pub fn export(tenant: &Tenant, format: DocumentFormat) -> Result<String> {
        let document = json!({ "tenant": Value::Object(describe(tenant)?) });
        match format {
            DocumentFormat::Yaml => serde_norway::to_string(&document).context("write YAML"),
            DocumentFormat::Toml => toml::to_string_pretty(&document).context("write TOML"),
        }
    }
}

/// A tenant as its file would say it.
pub(super) fn describe(tenant: &Tenant) -> Result<Map<String, Value>> {
    let profile = &tenant.profile;
    let contacts = DeclaredContacts {
        technical: profile.technical_contacts.clone(),
        billing: profile.billing_contacts.clone(),
        security: profile.security_contacts.clone(),
    };
    let declared = DeclaredProfile {
        legal_name: profile.legal_name.clone(),
        display_name: profile.display_name.clone(),
        billing_address: profile.billing_address.clone().map(Into::into),
        locale: profile.locale.clone(),
        time_zone: profile.time_zone.clone(),
        crm_id: profile.crm_id.clone(),
        partner: profile.partner.clone(),
    };
    let sla = DeclaredSla {
        uptime: tenant.sla.uptime,
        support_hours: tenant.sla.support_hours.clone(),
        support_response: tenant.sla.support_response.clone(),
        credits: tenant.sla.credits.clone(),
    };
    let mut described = Map::new();
    described.insert("id".into(), tenant.external_id.clone().map_or(Value::Null, Value::from));
    described.insert("name".into(), tenant.name.clone().into());
    described.insert("slug".into(), tenant.slug.clone().into());
    described.insert("plan".into(), tenant.plan.clone().into());
    described.insert(
        "tier".into(),
        serde_json::to_value(DeclaredTier::from(tenant.isolation_tier)).context("write the tier")?,
    );
    described.insert("region".into(), tenant.region.clone().into());
    described.insert("labels".into(), serde_json::to_value(&tenant.labels).context("write the labels")?);
    described.insert("contacts".into(), serde_json::to_value(contacts).context("write the contacts")?);
    described.insert("profile".into(), serde_json::to_value(declared).context("write the profile")?);
    described.insert("sla".into(), serde_json::to_value(sla).context("write the SLA")?);
    described.extend(tenant.sections.0.clone());
    described.retain(|_, value| !value.is_null() && value.as_object().is_none_or(|object| !object.is_empty()));
    Ok(described)
}
