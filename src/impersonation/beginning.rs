//! Going into a tenant.

use super::{
    Impersonation, Impersonations, NewImpersonation, store,
    terms::{Wanted, possible},
};
use crate::{
    access::Caller,
    error::{Error, Kind, Result},
    isolation::{Conditions, TenantScope},
    journal::Entry,
    oauth::ImpersonatorGrant,
    platform::{ids::ImpersonationId, secret::Secret},
    tenancy::Tenant,
};

/// An impersonation, and its token: shown this once. `None` where an idempotency key was used before.
#[derive(Clone, Debug)]
pub struct Begun {
    pub impersonation: Impersonation,
    pub access_token: Option<Secret>,
}

impl Impersonations {
    /// Lets an operator into a tenant. There is one token, and none after it: it ends with the impersonation.
    pub async fn begin(&self, scope: &TenantScope, new: NewImpersonation, conditions: &Conditions) -> Result<Begun> {
        let operator = scope.caller();
        let wanted = new.check(possible(operator), &self.rules)?;
        let tenant = self.tenancy.get(scope).await?;
        let impersonation = self.first(operator, &tenant, wanted)?;
        // Inside it is held to these; better told now than by a token that is good for nothing.
        tenant.network.check(&operator.origin)?;
        let access_token = self.oauth.issue_to_impersonator(ImpersonatorGrant {
            tenant: tenant.id,
            epoch: impersonation.tenant_epoch,
            impersonation: impersonation.id,
            operator: impersonation.operator.clone(),
            scopes: impersonation.scopes(),
            began_at: impersonation.began_at,
            ends_at: impersonation.ends_at,
        })?;
        let tx = self.isolation.begin(scope).await?;
        if let Some(impersonation) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok(Begun { impersonation, access_token: None });
        }
        store::insert(&tx, &impersonation).await?;
        tx.keep_answer(conditions, &impersonation).await?;
        let entry = Entry::new("ImpersonationBegan", "impersonation", impersonation.id);
        tx.commit([entry.change(None, Some(&impersonation))?]).await?;
        metrics::counter!("tenantry_impersonations_total").increment(1);
        Ok(Begun { impersonation, access_token: Some(Secret::new(access_token)) })
    }

    fn first(&self, operator: &Caller, tenant: &Tenant, wanted: Wanted) -> Result<Impersonation> {
        let now = self.isolation.clock().now();
        match tenant.closed(now) {
            None => {}
            Some(Kind::Unauthenticated) => return Err(Error::not_found()),
            Some(kind) => return Err(Error::new(kind, "nobody gets into the tenant now")),
        }
        Ok(Impersonation {
            id: ImpersonationId::generate(),
            operator: operator.subject.clone(),
            operator_session: operator.account().map(|account| account.session),
            reason: wanted.reason,
            scopes: wanted.scopes.iter().map(|scope| scope.name().to_owned()).collect(),
            tenant_epoch: tenant.access_epoch,
            began_at: now,
            ends_at: now + wanted.length,
            ended_at: None,
            ended_by: None,
        })
    }
}
