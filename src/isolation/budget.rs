//! Each tenant's share of what all need, of connections to the database and of operations in progress: services of one tenant have so
//! many at once and no more, and the rest of what they ask waits in a queue of their own, not in everybody's.
//!
//! It cannot lock itself out: a wait is bounded, and one whose own request holds a slot already (so that the wait could
//! be for itself) is let through at its end; all others are refused then.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    access::Caller,
    error::{Error, Kind, Result},
    platform::ids::TenantId,
};

/// The budgets of this replica for one kind of slots. Clones share them.
#[derive(Clone, Debug)]
pub struct Budgets(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Slots of one tenant at once.
    most: usize,
    patience: Duration,
    /// What a request is told that has waited too long.
    exhausted: &'static str,
    /// Of tenants that use some, or wait.
    tenants: Mutex<HashMap<TenantId, Arc<Budget>>>,
}

#[derive(Debug)]
struct Budget {
    free: Arc<Semaphore>,
    /// Whose requests hold slots, once for each.
    holders: Mutex<Vec<Arc<Caller>>>,
}

/// Room for one, free again when dropped.
#[derive(Debug)]
pub struct Slot {
    caller: Arc<Caller>,
    /// None where it was let through.
    _permit: Option<OwnedSemaphorePermit>,
    place: Place,
}

/// In the table for as long as anyone waits or holds.
#[derive(Debug)]
struct Place {
    budgets: Budgets,
    tenant: TenantId,
    budget: Arc<Budget>,
}

impl Budgets {
    /// `share` of `connections` for each tenant, at least one; nobody waits longer than `patience`.
    pub fn of_database(connections: u32, share: f64, patience: Duration) -> Self {
        let most = (f64::from(connections) * share).floor().max(1.0) as usize;
        Self::new(
            most,
            patience,
            "the tenant's own requests take its whole share of the database; try again when they are done",
        )
    }

    /// `most` for each tenant; nobody waits longer than `patience`, after which `exhausted` is what he is told.
    pub fn new(most: usize, patience: Duration, exhausted: &'static str) -> Self {
        Self(Arc::new(Inner { most, patience, exhausted, tenants: Mutex::default() }))
    }

    /// Waits for room where a service of a tenant asks; operators and Tenantry itself need none.
    pub async fn take(&self, caller: &Arc<Caller>) -> Result<Option<Slot>> {
        let Some(tenant) = caller.tenant() else { return Ok(None) };
        let place = self.place(tenant);
        let waited = tokio::time::timeout(self.0.patience, place.budget.free.clone().acquire_owned()).await;
        let permit = match waited {
            Ok(permit) => Some(permit.map_err(Error::internal)?),
            Err(_) if place.budget.holds(caller) => None,
            Err(_) => return Err(Error::new(Kind::RateLimited, self.0.exhausted)),
        };
        lock(&place.budget.holders).push(caller.clone());
        Ok(Some(Slot { caller: caller.clone(), _permit: permit, place }))
    }

    fn place(&self, tenant: TenantId) -> Place {
        let budget = self.tenants().entry(tenant).or_insert_with(|| Arc::new(Budget::new(self.0.most))).clone();
        Place { budgets: self.clone(), tenant, budget }
    }

    fn tenants(&self) -> MutexGuard<'_, HashMap<TenantId, Arc<Budget>>> {
        lock(&self.0.tenants)
    }
}

impl Budget {
    fn new(most: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(most)), holders: Mutex::default() }
    }

    fn holds(&self, caller: &Arc<Caller>) -> bool {
        lock(&self.holders).iter().any(|holder| Arc::ptr_eq(holder, caller))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut holders = lock(&self.place.budget.holders);
        if let Some(index) = holders.iter().position(|holder| Arc::ptr_eq(holder, &self.caller)) {
            holders.swap_remove(index);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // This one and the table's: nobody else has it, and nobody gets it while the table is locked.
        let mut tenants = self.budgets.tenants();
        if Arc::strong_count(&self.budget) == 2 {
            tenants.remove(&self.tenant);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Binding, Origin, ScopeSet};

    fn service(tenant: TenantId) -> Arc<Caller> {
        let binding = Binding::Tenant { id: tenant, epoch: None, issued_at: 0 };
        Arc::new(Caller { subject: "s".to_owned(), binding, scopes: ScopeSet::ALL, origin: Origin::default() })
    }

    fn budgets(patience: Duration) -> Budgets {
        Budgets::of_database(5, 0.5, patience)
    }

    #[tokio::test]
    async fn a_tenant_has_its_share_and_others_have_theirs() {
        let (budgets, a, b) = (budgets(Duration::from_millis(5)), TenantId::generate(), TenantId::generate());
        let first = budgets.take(&service(a)).await.unwrap();
        let second = budgets.take(&service(a)).await.unwrap();
        assert!(first.is_some() && second.is_some());
        assert_eq!(budgets.take(&service(a)).await.unwrap_err().kind(), Kind::RateLimited);
        assert!(budgets.take(&service(b)).await.unwrap().is_some());
        drop(first);
        assert!(budgets.take(&service(a)).await.unwrap().is_some());
        assert!(budgets.take(&Arc::new(Caller::system("test"))).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn who_waits_is_next_and_what_nobody_uses_is_forgotten() {
        let (budgets, tenant) = (budgets(Duration::from_secs(60)), TenantId::generate());
        let mut held = Vec::new();
        for _ in 0..2 {
            held.push(budgets.take(&service(tenant)).await.unwrap());
        }
        let next = tokio::spawn({
            let budgets = budgets.clone();
            async move { budgets.take(&service(tenant)).await.unwrap() }
        });
        let leaving = tokio::spawn({
            let budgets = budgets.clone();
            async move { budgets.take(&service(tenant)).await.map(drop) }
        });
        tokio::task::yield_now().await;
        leaving.abort();
        assert!(leaving.await.unwrap_err().is_cancelled());
        held.pop();
        assert!(next.await.unwrap().is_some());
        drop(held);
        assert!(budgets.tenants().is_empty());
    }

    #[tokio::test]
    async fn a_request_cannot_wait_for_itself_for_ever() {
        let (budgets, tenant) = (Budgets::of_database(2, 0.5, Duration::from_millis(5)), TenantId::generate());
        let caller = service(tenant);
        let outer = budgets.take(&caller).await.unwrap();
        let inner = budgets.take(&caller).await.unwrap();
        assert!(outer.is_some() && inner.is_some());
        assert!(budgets.take(&service(tenant)).await.is_err());
        drop(inner);
        assert!(budgets.take(&service(tenant)).await.is_err());
        drop(outer);
        assert!(budgets.take(&service(tenant)).await.unwrap().is_some());
    }
}
