//! A tenant as one declarative file, YAML or TOML: what it says is compared with what is, and only the differences are made.
//! What a file leaves out stays as it is.

mod difference;
mod export;
mod file;
mod mapping;

use std::sync::Arc;

use async_graphql::Enum;
use serde_json::{Map, Value};

pub use self::difference::Difference;
use self::file::Declared;
use super::{Fit, NewTenant, Tenancy, Tenant, Update, plan, settings, store};
use crate::{
    error::{Error, Result},
    isolation::{Conditions, OperatorScope, TenantScope},
    platform::ids::TenantId,
};

/// Sections that are kept as typed JSON. `integrations` and `settings` are free; the others are read by capabilities.
pub const SECTIONS: [&str; 8] =
    ["ai", "branding", "compliance", "directory", "features", "integrations", "quotas", "settings"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum DocumentFormat {
    Yaml,
    Toml,
}

/// What applying a file did, or would do.
#[derive(Clone, Debug)]
pub struct Applied {
    /// `None` in a dry run of a tenant that is not there yet.
    pub tenant: Option<Arc<Tenant>>,
    pub created: bool,
    pub differences: Vec<Difference>,
}

/// Whether only to tell what would be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DryRun {
    Yes,
    No,
}

/// A file's content.
#[derive(Clone, Debug)]
pub struct Declaration {
    tenant: Declared,
    /// The same as plain values, for comparing.
    values: Map<String, Value>,
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
            let missing = |(key, after): (&String, &Value)| Difference::new(key, &Value::Null, after);
            let differences = declaration.values.iter().map(missing).collect();
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
            Some(key) => {
                let plan = plan::named(&tx, "plan", &key).await?;
                self.check_fit(&tx, &plan, Fit::Needed).await?;
                Some(plan.key)
            }
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

/// Refuses names of sections that no file can have.
pub(super) fn check_section_name(field: &str, name: &str) -> Result<()> {
    if SECTIONS.contains(&name) {
        Ok(())
    } else {
        Err(Error::invalid(field, format!("must be one of {}", SECTIONS.join(", "))))
    }
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
