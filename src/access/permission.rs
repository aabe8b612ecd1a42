//! The one table of what may be done, by whom: each field of the API, its scope, and which roles hold it.

use std::{collections::HashMap, fmt, sync::LazyLock};

use serde::{Deserialize, Serialize};

use Audience::{Anyone, Platform, Public};
use Effect::{Read, Write};

/// What a token may be good for. Written `auth:<area>:<read or write>`, but for what is neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    TenantRead,
    TenantWrite,
    LifecycleWrite,
    PlanRead,
    PlanWrite,
    SettingsWrite,
    AuditRead,
    ClientRead,
    ClientWrite,
    KeyWrite,
    HealthRead,
    HealthWrite,
    QuotaRead,
    QuotaWrite,
    LimitWrite,
    ChildrenRead,
    ChildrenWrite,
    PartnerRead,
    PartnerWrite,
    FlagRead,
    FlagWrite,
    RateCheck,
    UsageRead,
    UsageWrite,
    EntitlementRead,
    CellRead,
    CellWrite,
    DataplaneRead,
    TemplateRead,
    TemplateWrite,
    PlaneRead,
    PlaneWrite,
    ProvisioningReport,
    NetworkRead,
    NetworkWrite,
    MemberRead,
    MemberWrite,
    SessionRead,
    SessionWrite,
    PkiRead,
    PkiWrite,
    DirectoryRead,
    DirectoryWrite,
    OperatorRead,
    OperatorWrite,
    ImpersonationRead,
    ImpersonationWrite,
}

impl Scope {
    pub const ALL: [Self; 47] = [
        Self::TenantRead,
        Self::TenantWrite,
        Self::LifecycleWrite,
        Self::PlanRead,
        Self::PlanWrite,
        Self::SettingsWrite,
        Self::AuditRead,
        Self::ClientRead,
        Self::ClientWrite,
        Self::KeyWrite,
        Self::HealthRead,
        Self::HealthWrite,
        Self::QuotaRead,
        Self::QuotaWrite,
        Self::LimitWrite,
        Self::ChildrenRead,
        Self::ChildrenWrite,
        Self::PartnerRead,
        Self::PartnerWrite,
        Self::FlagRead,
        Self::FlagWrite,
        Self::RateCheck,
        Self::UsageRead,
        Self::UsageWrite,
        Self::EntitlementRead,
        Self::CellRead,
        Self::CellWrite,
        Self::DataplaneRead,
        Self::TemplateRead,
        Self::TemplateWrite,
        Self::PlaneRead,
        Self::PlaneWrite,
        Self::ProvisioningReport,
        Self::NetworkRead,
        Self::NetworkWrite,
        Self::MemberRead,
        Self::MemberWrite,
        Self::SessionRead,
        Self::SessionWrite,
        Self::PkiRead,
        Self::PkiWrite,
        Self::DirectoryRead,
        Self::DirectoryWrite,
        Self::OperatorRead,
        Self::OperatorWrite,
        Self::ImpersonationRead,
        Self::ImpersonationWrite,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::TenantRead => "auth:tenant:read",
            Self::TenantWrite => "auth:tenant:write",
            Self::LifecycleWrite => "auth:lifecycle:write",
            Self::PlanRead => "auth:plan:read",
            Self::PlanWrite => "auth:plan:write",
            Self::SettingsWrite => "auth:settings:write",
            Self::AuditRead => "auth:audit:read",
            Self::ClientRead => "auth:client:read",
            Self::ClientWrite => "auth:client:write",
            Self::KeyWrite => "auth:key:write",
            Self::HealthRead => "auth:health:read",
            Self::HealthWrite => "auth:health:write",
            Self::QuotaRead => "auth:quota:read",
            Self::QuotaWrite => "auth:quota:write",
            Self::LimitWrite => "auth:limit:write",
            Self::ChildrenRead => "auth:children:read",
            Self::ChildrenWrite => "auth:children:write",
            Self::PartnerRead => "auth:partner:read",
            Self::PartnerWrite => "auth:partner:write",
            Self::FlagRead => "auth:flag:read",
            Self::FlagWrite => "auth:flag:write",
            Self::RateCheck => "auth:rate:check",
            Self::UsageRead => "auth:usage:read",
            Self::UsageWrite => "auth:usage:write",
            Self::EntitlementRead => "auth:entitlement:read",
            Self::CellRead => "auth:cell:read",
            Self::CellWrite => "auth:cell:write",
            Self::DataplaneRead => "auth:dataplane:read",
            Self::TemplateRead => "auth:template:read",
            Self::TemplateWrite => "auth:template:write",
            Self::PlaneRead => "auth:plane:read",
            Self::PlaneWrite => "auth:plane:write",
            Self::ProvisioningReport => "auth:provisioning:report",
            Self::NetworkRead => "auth:network:read",
            Self::NetworkWrite => "auth:network:write",
            Self::MemberRead => "auth:member:read",
            Self::MemberWrite => "auth:member:write",
            Self::SessionRead => "auth:session:read",
            Self::SessionWrite => "auth:session:write",
            Self::PkiRead => "auth:pki:read",
            Self::PkiWrite => "auth:pki:write",
            Self::DirectoryRead => "auth:directory:read",
            Self::DirectoryWrite => "auth:directory:write",
            Self::OperatorRead => "auth:operator:read",
            Self::OperatorWrite => "auth:operator:write",
            Self::ImpersonationRead => "auth:impersonation:read",
            Self::ImpersonationWrite => "auth:impersonation:write",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }

    /// Whether a token that is bound to a tenant can hold it. What cannot be held is the platform's alone.
    pub const fn for_tenants(self) -> bool {
        !matches!(
            self,
            Self::LifecycleWrite
                | Self::PlanWrite
                | Self::SettingsWrite
                | Self::KeyWrite
                | Self::HealthWrite
                | Self::LimitWrite
                | Self::CellRead
                | Self::CellWrite
                | Self::TemplateRead
                | Self::TemplateWrite
                | Self::PlaneRead
                | Self::PlaneWrite
                | Self::ProvisioningReport
                | Self::OperatorRead
                | Self::OperatorWrite
        )
    }

    /// Whether a tenant's partner can be granted it. Not what would outlive the grant (credentials, who may issue them, a directory that says
    /// who somebody is, network rules), not what would lead further: to tenants below, or to those that the tenant itself is a partner of; and
    /// not whom of the platform the tenant sends away.
    pub const fn for_partners(self) -> bool {
        self.for_tenants()
            && !matches!(
                self,
                Self::ClientWrite
                    | Self::NetworkWrite
                    | Self::PkiWrite
                    | Self::ChildrenRead
                    | Self::ChildrenWrite
                    | Self::PartnerRead
                    | Self::PartnerWrite
                    | Self::MemberWrite
                    | Self::SessionWrite
                    | Self::DirectoryWrite
                    | Self::ImpersonationWrite
            )
    }

    /// Whether an operator inside a tenant can have it (`docs/decisions/0038`). Nothing that would outlive the impersonation or lead out of the tenant,
    /// as for partners; and no login to what the tenant has elsewhere, which no end of it would take back.
    pub const fn for_impersonators(self) -> bool {
        self.for_partners() && !matches!(self, Self::DataplaneRead)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of scopes, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScopeSet(u64);

impl ScopeSet {
    pub const ALL: Self = Self((1 << Scope::ALL.len()) - 1);

    /// Reads a `scope` claim (RFC 6749, section 3.3). Names that Tenantry does not know are another service's.
    pub fn parse(claim: &str) -> Self {
        claim.split_ascii_whitespace().filter_map(Scope::parse).collect()
    }

    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u64) != 0
    }

    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }

    /// The scopes that a tenant's own token can hold.
    pub fn for_tenants() -> Self {
        Scope::ALL.into_iter().filter(|scope| scope.for_tenants()).collect()
    }

    /// The scopes that an operator inside a tenant can have, where it has them itself.
    pub fn for_impersonators() -> Self {
        Scope::ALL.into_iter().filter(|scope| scope.for_impersonators()).collect()
    }
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | 1 << scope as u64))
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Scope::name).collect();
        f.write_str(&names.join(" "))
    }
}

/// Roles of operators: people and services of the platform itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    Admin,
    /// Reads everything but the audit log; acts inside a tenant for a time, with no more than that.
    Support,
    /// Plans and limits, suspending and resuming for unpaid bills, and what credit is due.
    Billing,
    /// Reads everything, the audit log included.
    Auditor,
    /// An application plane: hears what it is asked for, and answers. Reads and changes nothing else.
    Plane,
}

impl Role {
    pub const ALL: [Self; 5] = [Self::Admin, Self::Support, Self::Billing, Self::Auditor, Self::Plane];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Support => "support",
            Self::Billing => "billing",
            Self::Auditor => "auditor",
            Self::Plane => "plane",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    pub fn scopes(self) -> ScopeSet {
        use Scope::*;
        match self {
            Self::Admin => ScopeSet::ALL,
            Self::Support => [
                TenantRead,
                PlanRead,
                ClientRead,
                HealthRead,
                QuotaRead,
                UsageRead,
                FlagRead,
                EntitlementRead,
                CellRead,
                TemplateRead,
                PlaneRead,
                NetworkRead,
                MemberRead,
                SessionRead,
                PkiRead,
                DirectoryRead,
                ImpersonationRead,
                ImpersonationWrite,
            ]
            .into_iter()
            .collect(),
            Self::Billing => [
                TenantRead,
                PlanRead,
                PlanWrite,
                LifecycleWrite,
                HealthRead,
                QuotaRead,
                UsageRead,
                UsageWrite,
                LimitWrite,
                EntitlementRead,
            ]
            .into_iter()
            .collect(),
            Self::Auditor => [
                TenantRead,
                PlanRead,
                ClientRead,
                AuditRead,
                HealthRead,
                QuotaRead,
                UsageRead,
                FlagRead,
                EntitlementRead,
                CellRead,
                TemplateRead,
                PlaneRead,
                NetworkRead,
                MemberRead,
                SessionRead,
                PkiRead,
                DirectoryRead,
                OperatorRead,
                ImpersonationRead,
            ]
            .into_iter()
            .collect(),
            Self::Plane => [ProvisioningReport].into_iter().collect(),
        }
    }
}

/// Who can hold a permission at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Everyone, without a token, too: what leads to a token.
    Public,
    /// Operators, and services and members for their own tenant.
    Anyone,
    /// Operators alone.
    Platform,
}

/// Whether a suspended tenant's own services may still do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Read,
    Write,
}

/// What a field of the API asks of its caller.
#[derive(Clone, Copy, Debug)]
pub struct Permission {
    /// The field as `Type.field` of the schema; a path as `METHOD./path`.
    pub field: &'static str,
    /// The operation's stem: `suspendTenant` is `tenant.suspend`.
    pub name: &'static str,
    /// `None`: any valid token will do, or none where the audience is the public.
    pub scope: Option<Scope>,
    pub audience: Audience,
    pub effect: Effect,
}

const fn rule(field: &'static str, name: &'static str, scope: Scope, audience: Audience, effect: Effect) -> Permission {
    Permission { field, name, scope: Some(scope), audience, effect }
}

/// About the caller's own account.
const fn own(field: &'static str, name: &'static str, effect: Effect) -> Permission {
    Permission { field, name, scope: None, audience: Anyone, effect }
}

/// Asked by whoever has no token yet.
const fn public(field: &'static str, name: &'static str, effect: Effect) -> Permission {
    Permission { field, name, scope: None, audience: Public, effect }
}

/// Every root field of the schema, and fields below that ask for more than their parents. Root fields that are missing
/// here are refused to everyone.
pub const PERMISSIONS: &[Permission] = &[
    Permission { field: "Query.viewer", name: "viewer.read", scope: None, audience: Anyone, effect: Read },
    rule("Query.tenant", "tenant.read", Scope::TenantRead, Anyone, Read),
    rule("Query.tenants", "tenant.list", Scope::TenantRead, Platform, Read),
    rule("Query.plans", "plan.list", Scope::PlanRead, Anyone, Read),
    rule("Query.audit", "audit.read", Scope::AuditRead, Anyone, Read),
    rule("Query.exportAudit", "audit.export", Scope::AuditRead, Anyone, Read),
    rule("Query.verifyAudit", "audit.verify", Scope::AuditRead, Anyone, Read),
    rule("Query.oauthClients", "client.list", Scope::ClientRead, Anyone, Read),
    rule("Query.exportTenant", "tenant.export", Scope::TenantRead, Anyone, Read),
    rule("Query.isolationReport", "isolation.verify", Scope::AuditRead, Platform, Read),
    rule("Query.flags", "flag.list", Scope::FlagRead, Anyone, Read),
    rule("Query.evaluateFlags", "flag.evaluate", Scope::FlagRead, Anyone, Read),
    rule("Query.flagSegments", "flag.listSegments", Scope::FlagRead, Platform, Read),
    rule("Query.flagChangeRequests", "flag.listChanges", Scope::FlagRead, Anyone, Read),
    rule("Query.networkRules", "network.read", Scope::NetworkRead, Anyone, Read),
    rule("Mutation.setNetworkRules", "network.set", Scope::NetworkWrite, Anyone, Write),
    rule("Mutation.createTenant", "tenant.create", Scope::TenantWrite, Platform, Write),
    rule("Mutation.updateTenant", "tenant.update", Scope::TenantWrite, Anyone, Write),
    rule("Mutation.changePlan", "plan.change", Scope::TenantWrite, Platform, Write),
    rule("Mutation.applyTenant", "tenant.apply", Scope::TenantWrite, Platform, Write),
    rule("Mutation.activateTenant", "tenant.activate", Scope::LifecycleWrite, Platform, Write),
    rule("Mutation.suspendTenant", "tenant.suspend", Scope::LifecycleWrite, Platform, Write),
    rule("Mutation.resumeTenant", "tenant.resume", Scope::LifecycleWrite, Platform, Write),
    rule("Mutation.archiveTenant", "tenant.archive", Scope::LifecycleWrite, Platform, Write),
    rule("Mutation.unarchiveTenant", "tenant.unarchive", Scope::LifecycleWrite, Platform, Write),
    rule("Mutation.deleteTenant", "tenant.delete", Scope::LifecycleWrite, Platform, Write),
    rule("Mutation.cancelTenantDeletion", "tenant.cancelDeletion", Scope::LifecycleWrite, Platform, Write),
    rule("Mutation.createPlan", "plan.create", Scope::PlanWrite, Platform, Write),
    rule("Mutation.updatePlan", "plan.update", Scope::PlanWrite, Platform, Write),
    rule("Mutation.registerSettingsSchema", "settings.register", Scope::SettingsWrite, Platform, Write),
    rule("Mutation.createOAuthClient", "client.create", Scope::ClientWrite, Anyone, Write),
    rule("Mutation.disableOAuthClient", "client.disable", Scope::ClientWrite, Anyone, Write),
    rule("Mutation.rotateSigningKey", "key.rotate", Scope::KeyWrite, Platform, Write),
    rule("Mutation.rotateTenantKey", "tenantKey.rotate", Scope::KeyWrite, Platform, Write),
    rule("Mutation.reportOutage", "outage.report", Scope::HealthWrite, Platform, Write),
    rule("Mutation.endOutage", "outage.end", Scope::HealthWrite, Platform, Write),
    rule("Mutation.withdrawOutage", "outage.withdraw", Scope::HealthWrite, Platform, Write),
    rule("Mutation.setParentTenant", "tenant.setParent", Scope::TenantWrite, Platform, Write),
    rule("Mutation.grantPartnerAccess", "partner.grant", Scope::TenantWrite, Platform, Write),
    rule("Mutation.revokePartnerAccess", "partner.revoke", Scope::TenantWrite, Platform, Write),
    rule("Tenant.partnerAccess", "partner.list", Scope::TenantRead, Anyone, Read),
    rule("Tenant.partnerOf", "partner.reach", Scope::PartnerRead, Anyone, Read),
    rule("Tenant.parent", "tenant.parent", Scope::TenantRead, Platform, Read),
    rule("Query.quotas", "quota.list", Scope::QuotaRead, Anyone, Read),
    rule("Query.previewQuota", "quota.preview", Scope::QuotaRead, Anyone, Read),
    rule("Query.quotaDefinitions", "quota.definitions", Scope::QuotaRead, Anyone, Read),
    rule("Mutation.reserveQuota", "quota.reserve", Scope::QuotaWrite, Anyone, Write),
    rule("Mutation.commitReservation", "reservation.commit", Scope::QuotaWrite, Anyone, Write),
    rule("Mutation.releaseReservation", "reservation.release", Scope::QuotaWrite, Anyone, Write),
    rule("Mutation.setQuotaUsage", "quota.setUsage", Scope::QuotaWrite, Anyone, Write),
    rule("Mutation.setQuota", "quota.set", Scope::LimitWrite, Platform, Write),
    rule("Mutation.boostQuota", "quota.boost", Scope::LimitWrite, Platform, Write),
    rule("Mutation.endQuotaBoost", "quota.endBoost", Scope::LimitWrite, Platform, Write),
    rule("Mutation.defineQuota", "quota.define", Scope::PlanWrite, Platform, Write),
    rule("Mutation.updateQuotaDefinition", "quota.redefine", Scope::PlanWrite, Platform, Write),
    rule("Tenant.quotas", "quota.list", Scope::QuotaRead, Anyone, Read),
    rule("Mutation.defineFlag", "flag.define", Scope::FlagWrite, Platform, Write),
    rule("Mutation.updateFlag", "flag.update", Scope::FlagWrite, Platform, Write),
    rule("Mutation.archiveFlag", "flag.archive", Scope::FlagWrite, Platform, Write),
    rule("Mutation.defineSegment", "flag.defineSegment", Scope::FlagWrite, Platform, Write),
    rule("Mutation.removeSegment", "flag.removeSegment", Scope::FlagWrite, Platform, Write),
    rule("Mutation.setFlag", "flag.set", Scope::FlagWrite, Anyone, Write),
    rule("Mutation.approveFlagChange", "flag.approve", Scope::FlagWrite, Platform, Write),
    rule("Mutation.rejectFlagChange", "flag.reject", Scope::FlagWrite, Platform, Write),
    rule("Query.entitlement", "entitlement.check", Scope::EntitlementRead, Anyone, Read),
    rule("Query.entitlements", "entitlement.list", Scope::EntitlementRead, Anyone, Read),
    rule("Query.entitlementGrants", "grant.list", Scope::EntitlementRead, Anyone, Read),
    rule("Query.explainAccess", "access.explain", Scope::EntitlementRead, Anyone, Read),
    rule("Query.resourceKinds", "resource.list", Scope::EntitlementRead, Anyone, Read),
    rule("Mutation.grantEntitlement", "entitlement.grant", Scope::LimitWrite, Platform, Write),
    rule("Mutation.revokeGrant", "grant.revoke", Scope::LimitWrite, Platform, Write),
    rule("Mutation.setAllowList", "allowList.set", Scope::LimitWrite, Platform, Write),
    rule("Mutation.setPlanAllowList", "allowList.setOfPlan", Scope::PlanWrite, Platform, Write),
    rule("Mutation.defineResourceKind", "resource.defineKind", Scope::PlanWrite, Platform, Write),
    rule("Mutation.defineResource", "resource.define", Scope::PlanWrite, Platform, Write),
    rule("Query.usage", "usage.read", Scope::UsageRead, Anyone, Read),
    rule("Query.usageDimensions", "usage.dimensions", Scope::UsageRead, Anyone, Read),
    rule("Query.analytics", "analytics.read", Scope::UsageRead, Anyone, Read),
    rule("Query.alertRules", "alertRule.list", Scope::UsageRead, Anyone, Read),
    rule("Query.usageAlerts", "alert.list", Scope::UsageRead, Anyone, Read),
    rule("Query.budgets", "budget.list", Scope::UsageRead, Anyone, Read),
    rule("Mutation.setBudget", "budget.set", Scope::UsageWrite, Anyone, Write),
    rule("Mutation.deleteBudget", "budget.delete", Scope::UsageWrite, Anyone, Write),
    rule("Query.costs", "cost.list", Scope::UsageRead, Anyone, Read),
    rule("Query.forecast", "usage.forecast", Scope::UsageRead, Anyone, Read),
    rule("Query.prices", "price.list", Scope::PlanRead, Anyone, Read),
    // Who may not set prices need not know what the platform pays.
    rule("Query.margins", "margin.list", Scope::PlanWrite, Platform, Read),
    rule("Query.unitCosts", "unitCost.list", Scope::PlanWrite, Platform, Read),
    rule("Mutation.setPrice", "price.set", Scope::PlanWrite, Platform, Write),
    rule("Mutation.setUnitCost", "unitCost.set", Scope::PlanWrite, Platform, Write),
    rule("Mutation.setAlertRule", "alertRule.set", Scope::UsageWrite, Anyone, Write),
    rule("Mutation.deleteAlertRule", "alertRule.delete", Scope::UsageWrite, Anyone, Write),
    rule("Query.usageClosing", "usage.closing", Scope::UsageRead, Anyone, Read),
    rule("Query.usageCorrections", "usage.corrections", Scope::UsageRead, Anyone, Read),
    rule("Mutation.closeUsage", "usage.close", Scope::UsageWrite, Platform, Write),
    rule("Mutation.recordUsage", "usage.record", Scope::UsageWrite, Anyone, Write),
    rule("Mutation.defineUsageDimension", "usage.define", Scope::PlanWrite, Platform, Write),
    rule("Mutation.updateUsageDimension", "usage.redefine", Scope::PlanWrite, Platform, Write),
    rule("Query.trustAnchors", "trustAnchor.list", Scope::PkiRead, Anyone, Read),
    rule("Query.expiringCertificates", "trustAnchor.expiring", Scope::PkiRead, Anyone, Read),
    rule("Query.trustBundle", "trustAnchor.bundle", Scope::PkiRead, Anyone, Read),
    rule("Query.revocationLists", "revocationList.list", Scope::PkiRead, Anyone, Read),
    rule("Query.certificatePolicy", "certificatePolicy.read", Scope::PkiRead, Anyone, Read),
    rule("Query.checkCertificate", "certificate.check", Scope::PkiRead, Anyone, Read),
    rule("Mutation.addTrustAnchors", "trustAnchor.add", Scope::PkiWrite, Anyone, Write),
    rule("Mutation.removeTrustAnchor", "trustAnchor.remove", Scope::PkiWrite, Anyone, Write),
    rule("Mutation.addRevocationList", "revocationList.add", Scope::PkiWrite, Anyone, Write),
    rule("Mutation.removeRevocationList", "revocationList.remove", Scope::PkiWrite, Anyone, Write),
    rule("Mutation.setCertificatePolicy", "certificatePolicy.set", Scope::PkiWrite, Anyone, Write),
    rule("GET./api/v1/pki/bundle.pem", "trustAnchor.bundle", Scope::PkiRead, Anyone, Read),
    rule("Mutation.checkRate", "rate.check", Scope::RateCheck, Anyone, Write),
    rule("Query.directory", "directory.read", Scope::DirectoryRead, Anyone, Read),
    rule("Mutation.configureDirectory", "directory.configure", Scope::DirectoryWrite, Anyone, Write),
    rule("Mutation.removeDirectory", "directory.remove", Scope::DirectoryWrite, Anyone, Write),
    rule("Mutation.testDirectory", "directory.test", Scope::DirectoryWrite, Anyone, Write),
    rule("Query.directorySyncs", "directory.listSyncs", Scope::DirectoryRead, Anyone, Read),
    rule("Mutation.syncDirectory", "directory.sync", Scope::DirectoryWrite, Anyone, Write),
    rule("Mutation.permitDirectory", "directory.permit", Scope::DirectoryWrite, Platform, Write),
    rule("Query.cells", "cell.list", Scope::CellRead, Platform, Read),
    rule("Mutation.registerCell", "cell.register", Scope::CellWrite, Platform, Write),
    rule("Mutation.updateCell", "cell.update", Scope::CellWrite, Platform, Write),
    rule("Mutation.reactivateCell", "cell.reactivate", Scope::CellWrite, Platform, Write),
    rule("Mutation.drainCell", "cell.drain", Scope::CellWrite, Platform, Write),
    rule("Query.moves", "move.list", Scope::CellRead, Platform, Read),
    rule("Mutation.moveTenant", "move.start", Scope::CellWrite, Platform, Write),
    rule("Mutation.confirmMove", "move.confirm", Scope::CellWrite, Platform, Write),
    rule("Mutation.rollbackMove", "move.rollback", Scope::CellWrite, Platform, Write),
    rule("Mutation.cancelMove", "move.cancel", Scope::CellWrite, Platform, Write),
    rule("Tenant.move", "move.read", Scope::TenantRead, Anyone, Read),
    rule("Mutation.verifyIsolation", "isolation.probe", Scope::CellWrite, Platform, Write),
    rule("Tenant.isolationAttestation", "isolation.attest", Scope::TenantRead, Anyone, Read),
    rule("Query.schemaTemplates", "template.list", Scope::TemplateRead, Platform, Read),
    rule("Mutation.registerSchemaTemplate", "template.register", Scope::TemplateWrite, Platform, Write),
    rule("Mutation.rolloutTemplate", "rollout.start", Scope::TemplateWrite, Platform, Write),
    rule("Mutation.pauseRollout", "rollout.pause", Scope::TemplateWrite, Platform, Write),
    rule("Mutation.resumeRollout", "rollout.resume", Scope::TemplateWrite, Platform, Write),
    rule("Mutation.cancelRollout", "rollout.cancel", Scope::TemplateWrite, Platform, Write),
    rule("Tenant.schemaState", "template.state", Scope::TenantRead, Anyone, Read),
    rule("Query.applicationPlanes", "plane.list", Scope::PlaneRead, Platform, Read),
    rule("Subscription.provisioningJobs", "job.watch", Scope::ProvisioningReport, Platform, Read),
    rule("Query.provisioningJobs", "job.list", Scope::ProvisioningReport, Platform, Read),
    rule("Mutation.registerApplicationPlane", "plane.register", Scope::PlaneWrite, Platform, Write),
    rule("Mutation.changeApplicationPlane", "plane.change", Scope::PlaneWrite, Platform, Write),
    rule("Mutation.retireApplicationPlane", "plane.retire", Scope::PlaneWrite, Platform, Write),
    rule("Mutation.reportProvisioning", "job.report", Scope::ProvisioningReport, Platform, Write),
    rule("Query.provisioningPlan", "provisioning.plan", Scope::TenantRead, Platform, Read),
    rule("Query.layerHealth", "layer.health", Scope::CellRead, Platform, Read),
    // Each hand-out is journaled, and a tenant that may not write gets none.
    rule("Query.dataplaneCredentials", "dataplane.credentials", Scope::DataplaneRead, Anyone, Write),
    rule("Tenant.layers", "provisioning.layers", Scope::TenantRead, Anyone, Read),
    rule("Tenant.placement", "provisioning.placement", Scope::TenantRead, Anyone, Read),
    rule("Subscription.rolloutProgress", "rollout.watch", Scope::TemplateRead, Platform, Read),
    rule("Subscription.provisioningProgress", "provisioning.watch", Scope::TenantRead, Anyone, Read),
    rule("Subscription.usageAlerts", "alert.watch", Scope::UsageRead, Anyone, Read),
    rule("Subscription.tenantEvents", "tenant.watch", Scope::TenantRead, Anyone, Read),
    rule("TenantEvent.entry", "audit.read", Scope::AuditRead, Anyone, Read),
    rule("Tenant.audit", "audit.read", Scope::AuditRead, Anyone, Read),
    rule("Tenant.oauthClients", "client.list", Scope::ClientRead, Anyone, Read),
    rule("Tenant.slaAttainment", "sla.measure", Scope::HealthRead, Anyone, Read),
    rule("Tenant.outages", "outage.list", Scope::HealthRead, Anyone, Read),
    rule("Tenant.flags", "flag.evaluate", Scope::FlagRead, Anyone, Read),
    rule("Tenant.encryptionKey", "tenantKey.read", Scope::TenantRead, Anyone, Read),
    rule("Flag.owner", "flag.inspect", Scope::FlagRead, Platform, Read),
    rule("Flag.targeting", "flag.inspect", Scope::FlagRead, Platform, Read),
    rule("POST./ofrep/v1/evaluate/flags", "flag.evaluate", Scope::FlagRead, Anyone, Read),
    rule("POST./ofrep/v1/evaluate/flags/{key}", "flag.evaluate", Scope::FlagRead, Anyone, Read),
    rule("POST./api/v1/billing/meter", "usage.record", Scope::UsageWrite, Anyone, Write),
    rule("POST./api/v1/usage/events", "usage.record", Scope::UsageWrite, Anyone, Write),
    rule("GET./api/v1/analytics/requests.csv", "analytics.read", Scope::UsageRead, Anyone, Read),
    rule("GET./api/v1/analytics/usage.csv", "analytics.read", Scope::UsageRead, Anyone, Read),
    rule("Query.members", "member.list", Scope::MemberRead, Anyone, Read),
    rule("Query.member", "member.read", Scope::MemberRead, Anyone, Read),
    rule("Query.roles", "role.list", Scope::MemberRead, Anyone, Read),
    rule("Mutation.inviteMember", "member.invite", Scope::MemberWrite, Anyone, Write),
    rule("Mutation.resendInvitation", "invitation.resend", Scope::MemberWrite, Anyone, Write),
    rule("Mutation.revokeInvitation", "invitation.revoke", Scope::MemberWrite, Anyone, Write),
    rule("Mutation.setMemberRoles", "member.setRoles", Scope::MemberWrite, Anyone, Write),
    rule("Mutation.deactivateMember", "member.deactivate", Scope::MemberWrite, Anyone, Write),
    rule("Mutation.reactivateMember", "member.reactivate", Scope::MemberWrite, Anyone, Write),
    rule("Mutation.setRole", "role.set", Scope::MemberWrite, Anyone, Write),
    rule("Mutation.deleteRole", "role.delete", Scope::MemberWrite, Anyone, Write),
    public("Mutation.acceptInvitation", "invitation.accept", Write),
    rule("Mutation.makePasswordLink", "password.makeLink", Scope::MemberWrite, Anyone, Write),
    public("Mutation.resetPassword", "password.reset", Write),
    own("Mutation.changePassword", "password.change", Write),
    public("Mutation.signIn", "session.signIn", Write),
    public("Mutation.signInByDirectory", "session.signInByDirectory", Write),
    public("Mutation.signInByCertificate", "session.signInByCertificate", Write),
    public("Mutation.completeSignIn", "session.completeSignIn", Write),
    public("Mutation.refreshSession", "session.refresh", Write),
    own("Mutation.signOut", "session.signOut", Write),
    // Of others it takes a scope, which `sessions` looks at.
    own("Query.sessions", "session.list", Read),
    own("Mutation.endSession", "session.end", Write),
    rule("Query.sessionPolicy", "sessionPolicy.read", Scope::SessionRead, Anyone, Read),
    rule("Mutation.setSessionPolicy", "sessionPolicy.set", Scope::SessionWrite, Anyone, Write),
    public("Mutation.enrollTotp", "totp.enroll", Write),
    public("Mutation.confirmTotp", "totp.confirm", Write),
    own("Mutation.renewRecoveryCodes", "totp.renewRecoveryCodes", Write),
    own("Mutation.disableTotp", "totp.disable", Write),
    rule("Query.operators", "operator.list", Scope::OperatorRead, Platform, Read),
    public("Mutation.signInOperator", "operator.signIn", Write),
    rule("Mutation.inviteOperator", "operator.invite", Scope::OperatorWrite, Platform, Write),
    rule("Mutation.resendOperatorInvitation", "operator.resendInvitation", Scope::OperatorWrite, Platform, Write),
    rule("Mutation.revokeOperatorInvitation", "operator.revokeInvitation", Scope::OperatorWrite, Platform, Write),
    rule("Mutation.setOperatorRoles", "operator.setRoles", Scope::OperatorWrite, Platform, Write),
    rule("Mutation.deactivateOperator", "operator.deactivate", Scope::OperatorWrite, Platform, Write),
    rule("Mutation.reactivateOperator", "operator.reactivate", Scope::OperatorWrite, Platform, Write),
    rule("Mutation.makeOperatorPasswordLink", "operator.makePasswordLink", Scope::OperatorWrite, Platform, Write),
    rule("Mutation.resetOperatorTotp", "operator.resetTotp", Scope::OperatorWrite, Platform, Write),
    rule("Query.impersonations", "impersonation.list", Scope::ImpersonationRead, Anyone, Read),
    rule("Mutation.impersonate", "impersonation.begin", Scope::ImpersonationWrite, Platform, Write),
    // A tenant sends away who is inside it.
    rule("Mutation.endImpersonation", "impersonation.end", Scope::ImpersonationWrite, Anyone, Write),
    rule("GET./v1/rate/check", "rate.check", Scope::RateCheck, Anyone, Read),
];

/// What the schema's `Type.field` asks of its caller; `None` where nothing is listed.
pub fn permission(type_name: &str, field: &str) -> Option<&'static Permission> {
    static BY_FIELD: LazyLock<HashMap<(&str, &str), &Permission>> = LazyLock::new(|| {
        let named = |permission: &'static Permission| Some((permission.field.split_once('.')?, permission));
        PERMISSIONS.iter().filter_map(named).collect()
    });
    BY_FIELD.get(&(type_name, field)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written out, so that a scope that is added is thought about.
    #[test]
    fn what_outlives_an_impersonation_or_leads_out_of_the_tenant_is_not_for_impersonators() {
        let kept = ScopeSet::for_tenants().without(ScopeSet::for_impersonators());
        let named = "auth:client:write auth:children:read auth:children:write auth:partner:read auth:partner:write auth:dataplane:read \
            auth:network:write auth:member:write auth:session:write auth:pki:write auth:directory:write auth:impersonation:write";
        assert_eq!(kept, ScopeSet::parse(named), "{kept}");
        assert!(ScopeSet::for_impersonators().without(ScopeSet::for_tenants()).is_empty());
    }

    #[test]
    fn who_reads_alone_stays_so_inside_a_tenant() {
        let inside = Role::Support.scopes().intersection(ScopeSet::for_impersonators());
        assert!(!inside.is_empty() && inside.iter().all(|scope| scope.name().ends_with(":read")), "{inside}");
        let writes = PERMISSIONS.iter().filter(|rule| rule.effect == Write && rule.audience != Public);
        for rule in writes.filter(|rule| rule.scope.is_some()) {
            assert!(rule.scope.is_none_or(|scope| !inside.contains(scope)), "{}", rule.field);
        }
    }
}
