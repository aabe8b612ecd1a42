//! The ways to a tenant that is not the caller's own: down from a parent, and in as a partner.

use std::sync::Arc;

use super::Tenancy;
use crate::{
    access::{Caller, Effect, Permission, Scope, ScopeSet},
    error::{Error, Result},
    isolation::{OperatorScope, TenantScope},
    platform::ids::TenantId,
};

const GRANTED: &str = "
    select scopes from tenantry.partner_access
    where tenant_id = $1 and partner_id = $2 and revoked_at is null and expires_at > $3";

impl Tenancy {
    /// The way to a tenant that is not the caller's own: to one below it, else to one whose partner it is; each with a scope of its
    /// own besides the field's. Whatever is missing, the tenant is not there. Streams are not for these: nobody would ask
    /// them again when a barrier comes or a grant ends.
    pub(super) async fn enter_other(
        &self,
        caller: &Arc<Caller>,
        own: TenantId,
        other: TenantId,
        permission: &Permission,
    ) -> Result<TenantScope> {
        let (below, partner) = match permission.effect {
            Effect::Read => (Scope::ChildrenRead, Scope::PartnerRead),
            Effect::Write => (Scope::ChildrenWrite, Scope::PartnerWrite),
        };
        if permission.field.starts_with("Subscription.") {
            return Err(Error::not_found());
        }
        if caller.scopes.contains(below) && self.is_below(own, other).await? {
            return self.enter_below(caller, own, other, permission).await;
        }
        if !caller.scopes.contains(partner) {
            return Err(Error::not_found());
        }
        let granted = self.granted(own, other).await?.ok_or_else(Error::not_found)?;
        let own = self.snapshots.get(own).await?.ok_or_else(Error::unauthenticated)?;
        let found = self.snapshots.get(other).await?.ok_or_else(Error::not_found)?;
        let (own, standing) = (own.tenant.standing(), found.tenant.standing());
        TenantScope::enter_as_partner(caller, &own, granted, other, &standing, permission)
    }

    /// What the partner may do there now. One statement, whatever the tenant is and whether there is a grant; asked each time, so
    /// that an end of it holds on every replica at once.
    async fn granted(&self, partner: TenantId, tenant: TenantId) -> Result<Option<ScopeSet>> {
        let now = self.isolation.clock().now();
        let tx = self.isolation.begin_operator(&OperatorScope::system("partners")).await?;
        let row = tx.row(GRANTED, [tenant.into(), partner.into(), now.into()]).await?;
        tx.commit_unrecorded("a read").await?;
        let names: Option<Vec<String>> = row.map(|row| row.try_get("", "scopes")).transpose()?;
        // What is no longer to be granted is not, whatever an older row says.
        let grantable = |name: &String| Scope::parse(name).filter(|scope| scope.for_partners());
        Ok(names.map(|names| names.iter().filter_map(grantable).collect()))
    }
}
