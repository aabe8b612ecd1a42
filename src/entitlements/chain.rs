//! The chains: what led to a decision on a quota, a feature, a resource, a region, a sign-in. Each in the order in which it
//! is looked at; a later link holds where it says something. That of a flag is in `explain_flag.rs`.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{
    Decision,
    answer::{Usage, View},
    catalogue::{DefaultAccess, Resource},
    link::{Draft, Step, Trail, last_decides},
};
use crate::{
    access::Scope,
    audit::Sought,
    error::{Error, Result},
    grants::{Grant, Kind},
    quotas::{Kind as QuotaKind, Reckoned, Reckoning, Source},
    tenancy::{Plan, Tenant},
};

/// What was found out: whether it is allowed, and the links.
pub(super) type Chain = (bool, Vec<Draft>);

/// The tenant's own row, and the member of it that says so.
fn of_tenant(tenant: &Tenant, member: &'static str) -> Trail {
    Trail::Tenant(Sought::new("tenant", tenant.id).changed(member))
}

pub(super) fn lifecycle(tenant: &Tenant) -> Draft {
    let closed = matches!(tenant.standing().access, crate::isolation::Access::Closed(_));
    let text = format!("the tenant is {}", tenant.status.name());
    Draft::new(Step::Lifecycle, text, tenant.status.name(), of_tenant(tenant, "status")).deciding_if(closed)
}

/// Which plan, and what of it says something.
pub(super) fn plan(tenant: &Tenant) -> Draft {
    let text = format!("the tenant is on the plan `{}`", tenant.plan);
    Draft::new(Step::Plan, text, tenant.plan.as_str(), of_tenant(tenant, "plan"))
}

fn plan_value(plan: &Plan, member: &'static str, text: String, value: impl Into<Value>) -> Draft {
    let sought = Sought::new("plan", &plan.key).changed(member);
    Draft::new(Step::PlanValue, text, value, Trail::Platform(sought))
}

fn grant(grant: &Grant, text: String, value: impl Into<Value>) -> Draft {
    let sought = Sought::new("grant", grant.grant_id).events(&["EntitlementGranted"]);
    Draft::new(Step::Grant, text, value, Trail::Tenant(sought))
}

fn limit(limit: Option<i64>) -> Value {
    limit.map_or_else(|| "UNLIMITED".into(), Value::from)
}

pub(super) fn of_quota(reckoning: &Reckoning, quota: &Reckoned) -> Result<Chain> {
    let (tenant, key) = (&reckoning.snapshot.tenant, &quota.key.key);
    let mut drafts = vec![lifecycle(tenant)];
    let burnt = reckoning.grants(quota)?;
    for step in reckoning.steps(quota)? {
        let value = limit(step.limit);
        let draft = match step.source {
            Source::Catalogue(_) => {
                let trail = Trail::Platform(Sought::new("quota", key).changed("defaultLimit"));
                Draft::new(Step::Catalogue, format!("the catalogue's default of `{key}`"), value, trail)
            }
            Source::Plan(of) => {
                drafts.push(plan(tenant));
                plan_value(of, "quotas", format!("the plan's limit of `{key}`"), value)
            }
            Source::Override(contract) => {
                let trail = Trail::Tenant(Sought::new("quota", key).events(&["QuotaSet"]));
                let until = until(contract.expires_at);
                Draft::new(Step::Override, format!("the tenant's own limit of `{key}`{until}"), value, trail)
            }
            Source::Boost(boost) => {
                let sought = Sought::new("quota", key).events(&["QuotaBoosted"]).with("boostId", boost.boost_id);
                let text = format!("a boost of {}{}", boost.amount, until(Some(boost.expires_at)));
                Draft::new(Step::Boost, text, value, Trail::Tenant(sought))
            }
            Source::Grant(found) => {
                let burnt =
                    burnt.iter().find(|(other, _)| other.grant_id == found.grant_id).map_or(0, |(_, burnt)| *burnt);
                let amount = found.amount.unwrap_or_default();
                let used =
                    if quota.key.kind == QuotaKind::Period { format!(", {burnt} of it burnt") } else { String::new() };
                grant(found, format!("a grant of {amount}{used}{}", until(found.ends_at())), value)
            }
        };
        drafts.push(draft);
    }
    last_decides(&mut drafts);
    let usage = Usage {
        limit: quota.limit,
        used: quota.counter.used,
        reserved: quota.counter.reserved,
        resets_at: quota.resets_at,
        requested: 1,
    };
    if quota.key.is_counted() {
        let value = json!({ "used": usage.used, "reserved": usage.reserved, "remaining": usage.remaining(), "resetsAt": usage.resets_at });
        let text = format!("{} used and {} held of `{key}`", usage.used, usage.reserved);
        drafts.push(Draft::new(Step::Usage, text, value, Trail::Computed));
    }
    let open = tenant.standing().access == crate::isolation::Access::Open;
    Ok((open && usage.fits(), drafts))
}

fn until(end: Option<DateTime<Utc>>) -> String {
    end.map_or_else(String::new, |end| format!(", until {}", end.to_rfc3339()))
}

pub(super) fn of_feature(view: &View, key: &str) -> Result<Chain> {
    let (tenant, of) = (&view.snapshot.tenant, view.plan()?);
    let planned = of.features.0.iter().any(|feature| feature == key);
    let says = if planned { "includes" } else { "does not include" };
    let mut drafts = vec![lifecycle(tenant), plan(tenant)];
    drafts.push(plan_value(of, "features", format!("the plan {says} the feature `{key}`"), planned));
    let given = view.held()?.find(Kind::Feature, key, view.now);
    if let Some(found) = given {
        drafts.push(grant(found, format!("a grant of the feature `{key}`{}", until(found.ends_at())), true));
    }
    last_decides(&mut drafts);
    Ok(((planned || given.is_some()) && !view.is_closed(), drafts))
}

pub(super) fn of_resource(view: &View, resource: &Resource) -> Result<Chain> {
    let tenant = &view.snapshot.tenant;
    let name = format!("{}/{}", resource.kind, resource.key);
    let all = view.basis()?.all(resource);
    let allowed = all.first().is_some_and(Decision::allows);
    let mut drafts = vec![lifecycle(tenant)];
    // What is asked first is what holds last.
    for decision in all.iter().rev() {
        let draft = match decision {
            Decision::Default(kind) => {
                let open = kind.default_access == DefaultAccess::Allowed;
                let trail = Trail::Platform(Sought::new("resource_kind", &kind.key).changed("defaultAccess"));
                let text = format!("the catalogue's default of the kind `{}`", kind.key);
                Draft::new(Step::Catalogue, text, open, trail)
            }
            Decision::Plan(list, listed) => {
                drafts.push(plan(tenant));
                let says = if *listed { "has" } else { "does not have" };
                let trail = Trail::Platform(Sought::new("plan_allow_list", format!("{}/{}", list.plan, list.kind)));
                Draft::new(Step::PlanValue, format!("the plan's allow list {says} `{name}`"), *listed, trail)
            }
            Decision::Added(list) | Decision::Removed(list) => {
                let says = if decision.allows() { "was added for" } else { "was taken from" };
                let trail = Trail::Tenant(Sought::new("allow_list", &list.kind));
                Draft::new(Step::AllowList, format!("`{name}` {says} the tenant"), decision.allows(), trail)
            }
            Decision::Granted(found) => grant(found, format!("a grant of `{name}`{}", until(found.ends_at())), true),
            Decision::Retired(_) => {
                let trail = Trail::Platform(Sought::new("resource", &name).changed("retired"));
                Draft::new(Step::Catalogue, format!("`{name}` is retired: nobody may use it"), false, trail)
            }
        };
        drafts.push(draft);
    }
    last_decides(&mut drafts);
    Ok((allowed && !view.is_closed(), drafts))
}

/// Whether the tenant may be in a region: at home, for now.
pub(super) fn of_region(view: &View, region: &str) -> Result<Chain> {
    let tenant = &view.snapshot.tenant;
    if region.is_empty() || region.chars().count() > 200 {
        return Err(Error::invalid("key", "must have 1 to 200 characters: the name of a region"));
    }
    let trail = of_tenant(tenant, "region");
    let home = Draft::new(
        Step::HomeRegion,
        format!("the tenant is at home in `{}`", tenant.region),
        tenant.region.as_str(),
        trail,
    );
    let mut drafts = vec![lifecycle(tenant), home];
    last_decides(&mut drafts);
    Ok((tenant.region == region && !view.is_closed(), drafts))
}

/// Whether the tenant's services may get tokens for a scope.
pub(super) fn of_sign_in(view: &View, scope: &str) -> Result<Chain> {
    let tenant = &view.snapshot.tenant;
    let scope =
        Scope::parse(scope).ok_or_else(|| Error::invalid("key", "names no scope, such as `auth:tenant:read`"))?;
    let may = tenant.may_sign_in(view.now);
    let epoch = format!("tokens count since {} (epoch {})", tenant.access_changed_at.to_rfc3339(), tenant.access_epoch);
    let says = if scope.for_tenants() { "can be held by a tenant's services" } else { "is the platform's alone" };
    let drafts = vec![
        lifecycle(tenant).deciding_if(!may),
        Draft::new(Step::AccessEpoch, epoch, tenant.access_epoch, of_tenant(tenant, "accessEpoch")),
        Draft::new(Step::Scope, format!("the scope `{scope}` {says}"), scope.for_tenants(), Trail::Computed)
            .deciding_if(may),
    ];
    Ok((may && scope.for_tenants(), drafts))
}
