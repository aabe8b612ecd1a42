//! Who is and was inside a tenant, and how it is ended.

use super::{Impersonation, Impersonations, store};
use crate::{
    error::{Error, Result},
    isolation::TenantScope,
    journal::Entry,
    platform::{
        ids::ImpersonationId,
        page::{Page, PageRequest},
    },
};

impl Impersonations {
    /// Those that go on and those that are over, the newest first; each with whether it goes on.
    pub async fn list(&self, scope: &TenantScope, page: &PageRequest) -> Result<Page<(Impersonation, bool)>> {
        let known = self.tenancy.snapshots().get(scope.tenant()).await?.ok_or_else(Error::not_found)?;
        let now = self.isolation.clock().now();
        let tx = self.isolation.begin(scope).await?;
        let found = store::list(&tx, scope.tenant(), page).await?;
        tx.commit_unrecorded("a read").await?;
        let epoch = known.tenant.access_epoch;
        let mut items = Vec::with_capacity(found.items.len());
        for item in found.items {
            let goes_on = item.is_running(epoch, now) && self.live.operator_goes_on(&item).await?;
            items.push((item, goes_on));
        }
        Ok(Page { items, has_next: found.has_next, has_previous: found.has_previous })
    }

    /// Ends one at once, on every replica. To end one twice, or one that has run out, changes nothing.
    pub async fn end(&self, scope: &TenantScope, id: ImpersonationId) -> Result<Impersonation> {
        let tx = self.isolation.begin(scope).await?;
        let before = store::lock(&tx, id).await?.ok_or_else(Error::not_found)?;
        if !before.is_running(before.tenant_epoch, tx.stamp().at) {
            tx.commit_unrecorded("it was over, and that was recorded").await?;
            return Ok(before);
        }
        let after = before.ended(tx.stamp());
        store::end(&tx, &after).await?;
        self.members.announce(&tx).await?;
        let entry = Entry::new("ImpersonationEnded", "impersonation", id);
        tx.commit([entry.change(Some(&before), Some(&after))?]).await?;
        self.members.changed(scope.tenant());
        Ok(after)
    }
}
