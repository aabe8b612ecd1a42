//! A tenant as one declarative file, YAML or TOML: what it says is compared with what is, and only the differences are made.
//! What a file leaves out stays as it is.

use std::{collections::BTreeMap, sync::Arc};

use async_graphql::{Enum, SimpleObject};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::{
    IsolationTier, NewTenant, Profile, SlaOverrides, Tenancy, Tenant, Update, plan, profile, settings,
    sla::{Credit, SupportResponse},
    store,
};
use crate::{
    error::{Context as _, Error, Result},
    isolation::{Conditions, OperatorScope, TenantScope},
    platform::ids::TenantId,
};

/// Sections that are kept as typed JSON. `integrations` and `settings` are free; the others are read by capabilities.
pub const SECTIONS: [&str; 8] =
    ["ai", "branding", "compliance", "directory", "features", "integrations", "quotas", "settings"];

const DOCUMENT_BYTES: usize = 262_144;
const DOCUMENT_BRACKETS: usize = 4_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum DocumentFormat {
    Yaml,
    Toml,
}

/// One value that differs.
#[derive(Clone, Debug, PartialEq, Serialize, SimpleObject)]
pub struct Difference {
    /// Where in the file, e.g. `labels.sector`.
    pub path: String,
    /// What is there now; null where nothing is.
    pub before: async_graphql::Json<Value>,
    /// What the file says.
    pub after: async_graphql::Json<Value>,
}

/// What applying a file did, or would do.
#[derive(Clone, Debug)]
pub struct Applied {
    /// `None` in a dry run of a tenant that is not there yet.
    pub tenant: Option<Arc<Tenant>>,
    pub created: bool,
    pub differences: Vec<Difference>,
}

/// A file's content.
#[derive(Clone, Debug)]
pub struct Declaration {
    tenant: Declared,
    /// The same as plain values, for comparing.
    values: Map<String, Value>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    tenant: Declared,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Declared {
    id: Option<String>,
    name: Option<String>,
    slug: Option<String>,
    plan: Option<String>,
    tier: Option<DeclaredTier>,
    region: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    contacts: Option<DeclaredContacts>,
    profile: Option<DeclaredProfile>,
    sla: Option<DeclaredSla>,
    ai: Option<Value>,
    branding: Option<Value>,
    compliance: Option<Value>,
    directory: Option<Value>,
    features: Option<Value>,
    integrations: Option<Value>,
    quotas: Option<Value>,
    settings: Option<Value>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum DeclaredTier {
    Standard,
    Enterprise,
    Premium,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct DeclaredContacts {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    technical: Vec<profile::Contact>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    billing: Vec<profile::Contact>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    security: Vec<profile::Contact>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct DeclaredProfile {
    #[serde(skip_serializing_if = "Option::is_none")]
    legal_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    billing_address: Option<DeclaredAddress>,
    #[serde(skip_serializing_if = "Option::is_none")]
    locale: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_zone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    crm_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partner: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct DeclaredAddress {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lines: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    city: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    postal_code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    country: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct DeclaredSla {
    #[serde(with = "rust_decimal::serde::float_option", skip_serializing_if = "Option::is_none")]
    uptime: Option<Decimal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    support_hours: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    support_response: Option<SupportResponse>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credits: Option<Vec<Credit>>,
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
        // Read from a list, a struct would take its items for fields, in order.
        if !value.is_object() {
            return Err(Error::invalid("document", "must be a mapping with the key `tenant`"));
        }
        if value.get("tenant").is_some_and(|tenant| !tenant.is_object()) {
            return Err(Error::invalid("tenant", "must be a mapping"));
        }
        let document: Document = typed(&value)?;
        let values = value.get("tenant").and_then(Value::as_object).cloned().unwrap_or_default();
        if document.tenant.id.is_none() && document.tenant.slug.is_none() {
            return Err(Error::invalid("tenant.id", "is needed to find the tenant again (or `slug`)"));
        }
        Ok(Self { tenant: document.tenant, values })
    }

    /// Writes a tenant in the same form.
    pub fn export(tenant: &Tenant, format: DocumentFormat) -> Result<String> {
        let document = json!({ "tenant": Value::Object(describe(tenant)?) });
        match format {
            DocumentFormat::Yaml => serde_norway::to_string(&document).context("write YAML"),
            DocumentFormat::Toml => toml::to_string_pretty(&document).context("write TOML"),
        }
    }

    fn slug(&self) -> Option<&str> {
        self.tenant.slug.as_deref().or(self.tenant.id.as_deref())
    }

    fn into_new(self) -> Result<NewTenant> {
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
    fn into_update(self, present: &Tenant) -> (Update, Option<String>) {
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

    /// What the file says differently from `present`.
    fn differences(&self, present: &Tenant) -> Result<Vec<Difference>> {
        let described = describe(present)?;
        let mut differences = Vec::new();
        for (key, after) in &self.values {
            compare(key, described.get(key).unwrap_or(&Value::Null), after, &mut differences);
        }
        Ok(differences)
    }
}

impl Tenancy {
    /// Makes or changes the tenant that the file names; in a dry run only tells what would be done.
    pub async fn apply(
        &self,
        scope: &OperatorScope,
        declaration: Declaration,
        dry_run: DryRun,
        conditions: &Conditions,
    ) -> Result<Applied> {
        let found = self.find_declared(scope, &declaration).await?;
        let Some(present) = found else {
            let differences =
                declaration.values.iter().map(|(key, after)| difference(key, &Value::Null, after)).collect();
            let new = declaration.into_new().map_err(in_file)?;
            let tenant = match dry_run {
                DryRun::Yes => {
                    self.check_declared(scope, &new).await.map_err(in_file)?;
                    None
                }
                DryRun::No => Some(self.create(scope, new, conditions).await.map_err(in_file)?),
            };
            return Ok(Applied { tenant, created: dry_run == DryRun::No, differences });
        };
        let differences = declaration.differences(&present)?;
        let (update, plan) = declaration.into_update(&present);
        self.check_update(&update).map_err(in_file)?;
        if differences.is_empty() || dry_run == DryRun::Yes {
            return Ok(Applied { tenant: Some(Arc::new(present)), created: false, differences });
        }
        let scope = TenantScope::for_operator(scope, present.id);
        let tenant = self.apply_changes(&scope, update, plan, conditions).await.map_err(in_file)?;
        Ok(Applied { tenant: Some(tenant), created: false, differences })
    }

    async fn apply_changes(
        &self,
        scope: &TenantScope,
        update: Update,
        plan: Option<String>,
        conditions: &Conditions,
    ) -> Result<Arc<Tenant>> {
        let tx = self.isolation.begin(scope).await?;
        settings::check(&tx, update.sections.as_ref()).await?;
        let plan = match plan {
            Some(key) => Some(plan::named(&tx, "plan", &key).await?.key),
            None => None,
        };
        self.change(tx, conditions, "TenantUpdated", |tenant, _| {
            tenant.plan = plan.unwrap_or_else(|| std::mem::take(&mut tenant.plan));
            update.apply(tenant);
            Ok(())
        })
        .await
    }

    /// By external key first, then by slug.
    async fn find_declared(&self, scope: &OperatorScope, declaration: &Declaration) -> Result<Option<Tenant>> {
        let tx = self.isolation.begin_operator(scope).await?;
        let sql = "select tenant_id from tenantry.tenants where external_id = $1 or slug = $2 order by (external_id = $1) desc nulls last limit 1";
        let row =
            tx.row(sql, [declaration.tenant.id.clone().into(), declaration.slug().map(str::to_owned).into()]).await?;
        let found = match row {
            Some(row) => store::find(&tx, row.try_get::<TenantId>("", "tenant_id")?).await?,
            None => None,
        };
        tx.commit_unrecorded("a read").await?;
        Ok(found)
    }

    async fn check_declared(&self, scope: &OperatorScope, new: &NewTenant) -> Result<()> {
        self.check_new(new)?;
        let tx = self.isolation.begin_operator(scope).await?;
        settings::check(&tx, Some(&new.sections)).await?;
        if let Some(plan) = &new.plan {
            plan::named(&tx, "plan", plan).await?;
        }
        tx.commit_unrecorded("a read").await
    }
}

/// Whether only to tell what would be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DryRun {
    Yes,
    No,
}

/// Refuses names of sections that no file can have.
pub(super) fn check_section_name(field: &str, name: &str) -> Result<()> {
    if SECTIONS.contains(&name) {
        Ok(())
    } else {
        Err(Error::invalid(field, format!("must be one of {}", SECTIONS.join(", "))))
    }
}

fn typed<T: DeserializeOwned>(value: &Value) -> Result<T> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        Error::invalid(if path == "." { "document".to_owned() } else { path }, error.into_inner().to_string())
    })
}

/// The field of an error, as the file writes it.
fn in_file(error: Error) -> Error {
    let Some(field) = error.field().map(str::to_owned) else { return error };
    let named = match field.as_str() {
        "isolationTier" => "tier",
        "externalId" => "id",
        other => other,
    };
    if named.starts_with("tenant.") || named == "Idempotency-Key" { error } else { error.at(format!("tenant.{named}")) }
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

/// A tenant as its file would say it.
fn describe(tenant: &Tenant) -> Result<Map<String, Value>> {
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

/// Objects member by member; what the file leaves out is no difference, but a list is compared as a whole.
fn compare(path: &str, before: &Value, after: &Value, differences: &mut Vec<Difference>) {
    match (before, after) {
        (before, after) if before == after || same_number(before, after) => {}
        (Value::Object(before), Value::Object(after)) if MERGED.contains(&path) => {
            for (key, after) in after {
                compare(&format!("{path}.{key}"), before.get(key).unwrap_or(&Value::Null), after, differences);
            }
        }
        (Value::Object(was), Value::Object(is)) => {
            for key in was.keys().chain(is.keys().filter(|key| !was.contains_key(*key))) {
                let (before, after) = (was.get(key).unwrap_or(&Value::Null), is.get(key).unwrap_or(&Value::Null));
                compare(&format!("{path}.{key}"), before, after, differences);
            }
        }
        (before, after) => differences.push(difference(path, before, after)),
    }
}

/// Sections whose members a file sets one by one; all others it replaces.
const MERGED: [&str; 1] = ["profile"];

fn same_number(before: &Value, after: &Value) -> bool {
    matches!((before.as_f64(), after.as_f64()), (Some(before), Some(after)) if before == after)
}

fn difference(path: &str, before: &Value, after: &Value) -> Difference {
    Difference {
        path: path.to_owned(),
        before: async_graphql::Json(before.clone()),
        after: async_graphql::Json(after.clone()),
    }
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
