//! The whole API: one object per capability, merged in groups of at most eight.

use async_graphql::{MergedObject, MergedSubscription, Schema, SchemaBuilder};

use super::{
    isolation::IsolationQuery,
    tenant::{TenantMutation, TenantQuery},
};
use crate::{
    analytics::graphql::AnalyticsQuery,
    audit::graphql::{AuditQuery, AuditSubscription},
    cells::graphql::{CellMutation, CellQuery},
    directory::{
        graphql::{DirectoryMutation, DirectoryQuery},
        sync::graphql::{DirectorySyncMutation, DirectorySyncQuery},
    },
    entitlements::graphql::{EntitlementMutation, EntitlementQuery},
    flags::graphql::{FlagMutation, FlagQuery},
    health::graphql::HealthMutation,
    impersonation::graphql::{ImpersonationMutation, ImpersonationQuery},
    members::graphql::{MemberMutation, MemberQuery},
    moves::graphql::{MoveMutation, MoveQuery},
    oauth::graphql::{OAuthMutation, OAuthQuery},
    pki::graphql::{PkiMutation, PkiQuery},
    probes::graphql::ProbesMutation,
    provisioning::graphql::{
        PlaneMutation, PlaneQuery, PlaneSubscription, ProvisioningQuery, ProvisioningSubscription,
    },
    quotas::graphql::{QuotaMutation, QuotaQuery},
    rates::graphql::RatesMutation,
    sessions::graphql::{SessionMutation, SessionQuery},
    templates::graphql::{TemplateMutation, TemplateQuery, TemplateSubscription},
    tenancy::graphql::{NetworkMutation, NetworkQuery, PartnerMutation},
    tenant_keys::graphql::TenantKeyMutation,
    usage::{
        alerts::{
            budgets::graphql::{BudgetMutation, BudgetQuery},
            graphql::{AlertMutation, AlertQuery, AlertSubscription},
        },
        costs::graphql::{CostMutation, CostQuery},
        forecast::graphql::ForecastQuery,
        graphql::{UsageMutation, UsageQuery},
        periods::graphql::{PeriodMutation, PeriodQuery},
    },
};

/// Everything that can be read.
#[derive(Debug, Default, MergedObject)]
pub struct Query(
    TenantQuery,
    AuditQuery,
    IdentityQuery,
    IsolationQuery,
    ConsumptionQuery,
    FlagQuery,
    EntitlementQuery,
    EnvironmentQuery,
);

/// Who may ask: services, members, and operators inside a tenant.
#[derive(Debug, Default, MergedObject)]
pub struct IdentityQuery(OAuthQuery, MemberQuery, SessionQuery, ImpersonationQuery, DirectoryQuery, DirectorySyncQuery);

/// What tenants may use, what they have used, what it costs, and what it will come to.
#[derive(Debug, Default, MergedObject)]
pub struct ConsumptionQuery(
    QuotaQuery,
    UsageQuery,
    AlertQuery,
    PeriodQuery,
    AnalyticsQuery,
    BudgetQuery,
    CostQuery,
    ForecastQuery,
);

/// Where tenants are, from where they are reached, what they have there, what that is made of, and whose certificates they trust.
#[derive(Debug, Default, MergedObject)]
pub struct EnvironmentQuery(CellQuery, ProvisioningQuery, TemplateQuery, MoveQuery, PlaneQuery, NetworkQuery, PkiQuery);

/// Everything that can be changed. Each mutation takes the header `Idempotency-Key`.
#[derive(Debug, Default, MergedObject)]
pub struct Mutation(
    TenantMutation,
    IdentityMutation,
    HealthMutation,
    ConsumptionMutation,
    FlagMutation,
    EntitlementMutation,
    EnvironmentMutation,
);

/// Who may ask: services, members, and operators inside a tenant.
#[derive(Debug, Default, MergedObject)]
pub struct IdentityMutation(
    OAuthMutation,
    MemberMutation,
    SessionMutation,
    ImpersonationMutation,
    PkiMutation,
    DirectoryMutation,
    DirectorySyncMutation,
);

/// What tenants may use, how fast, and what they have used.
#[derive(Debug, Default, MergedObject)]
pub struct ConsumptionMutation(
    QuotaMutation,
    RatesMutation,
    UsageMutation,
    AlertMutation,
    PeriodMutation,
    BudgetMutation,
    CostMutation,
);

/// Who reaches tenants from outside, where they are, what they have there and who makes it, and the keys of it.
#[derive(Debug, Default, MergedObject)]
pub struct EnvironmentMutation(
    PartnerMutation,
    CellMutation,
    TenantKeyMutation,
    TemplateMutation,
    MoveMutation,
    PlaneMutation,
    ProbesMutation,
    NetworkMutation,
);

/// Everything that can be followed, over WebSocket (graphql-transport-ws).
#[derive(Debug, Default, MergedSubscription)]
pub struct Subscription(
    AuditSubscription,
    ProvisioningSubscription,
    TemplateSubscription,
    PlaneSubscription,
    AlertSubscription,
);

pub type TenantrySchema = Schema<Query, Mutation, Subscription>;

/// The schema without its data.
pub fn builder() -> SchemaBuilder<Query, Mutation, Subscription> {
    Schema::build(Query::default(), Mutation::default(), Subscription::default()).disable_suggestions()
}

/// The schema as `schema.graphql` has it.
pub fn sdl() -> String {
    let options = async_graphql::SDLExportOptions::new()
        .sorted_fields()
        .sorted_arguments()
        .sorted_enum_items()
        .prefer_single_line_descriptions();
    builder().finish().sdl_with_options(options)
}
