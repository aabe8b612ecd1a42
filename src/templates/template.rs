//! A template, and which tenant has which.

use chrono::{DateTime, Utc};
use sea_orm::{FromJsonQueryResult, FromQueryResult};
use serde::{Deserialize, Serialize};

/// Keys of plans.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Plans(pub Vec<String>);

/// One row of `schema_templates`.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    pub name: String,
    /// The newest version that is registered: how many migrations there are.
    pub version: i32,
    /// What new tenants get.
    pub released: i32,
    /// Tenants of these plans have it.
    pub plans: Plans,
    /// Tenants of all other plans have it.
    pub is_default: bool,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// The template of a tenant with this plan, where it has none yet.
pub(super) fn choose<'a>(templates: &'a [Template], plan: &str) -> Option<&'a Template> {
    let of_plan = templates.iter().find(|template| template.plans.0.iter().any(|key| key == plan));
    of_plan.or_else(|| templates.iter().find(|template| template.is_default))
}

/// Sentences.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Sentences(pub Vec<String>);

/// What a tenant's schema was made of when it was looked at last: one row of `tenant_templates`.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SchemaState {
    pub tenant_id: crate::platform::ids::TenantId,
    pub template: String,
    /// 0: nothing was seen yet.
    pub version: i32,
    /// SHA-256 over all that the catalogue says of the schema; none until it was verified in this version.
    pub schema_hash: Option<String>,
    pub drift: Sentences,
    pub migrated_at: DateTime<Utc>,
    pub verified_at: Option<DateTime<Utc>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plans_own_template_comes_before_the_default() {
        let template = |name: &str, plans: &[&str], is_default| Template {
            name: name.to_owned(),
            version: 1,
            released: 1,
            plans: Plans(plans.iter().map(|plan| (*plan).to_owned()).collect()),
            is_default,
            created_at: DateTime::UNIX_EPOCH,
            updated_at: DateTime::UNIX_EPOCH,
        };
        let all = [template("basic", &[], true), template("large", &["gold", "platinum"], false)];
        assert_eq!(choose(&all, "gold").map(|template| template.name.as_str()), Some("large"));
        assert_eq!(choose(&all, "free").map(|template| template.name.as_str()), Some("basic"));
        assert_eq!(choose(&all[1..], "free"), None);
    }
}
