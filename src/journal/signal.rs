//! Wakes whoever waits for a tenant's journal to grow, on this replica.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

use crate::platform::ids::TenantId;

/// Per-tenant wake-ups, and one for all. A signal says "look again", never what happened.
#[derive(Clone, Debug)]
pub struct Signals {
    all: watch::Sender<u64>,
    tenants: Arc<Mutex<HashMap<TenantId, watch::Sender<u64>>>>,
}

impl Default for Signals {
    fn default() -> Self {
        Self { all: watch::Sender::new(0), tenants: Arc::default() }
    }
}

impl Signals {
    /// Wakes those who watch `tenant`, and those who watch all.
    pub fn raise(&self, tenant: TenantId) {
        self.all.send_modify(|count| *count += 1);
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = tenants.get(&tenant) {
            sender.send_modify(|count| *count += 1);
            if sender.is_closed() {
                tenants.remove(&tenant);
            }
        }
    }

    /// Wakes everyone: after a gap in what was heard.
    pub fn raise_all(&self) {
        self.all.send_modify(|count| *count += 1);
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.retain(|_, sender| {
            sender.send_modify(|count| *count += 1);
            !sender.is_closed()
        });
    }

    pub fn watch(&self, tenant: TenantId) -> watch::Receiver<u64> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.retain(|_, sender| !sender.is_closed());
        tenants.entry(tenant).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    pub fn watch_all(&self) -> watch::Receiver<u64> {
        self.all.subscribe()
    }

    /// Whether anyone on this replica waits for `tenant`.
    pub fn is_watched(&self, tenant: TenantId) -> bool {
        let tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.get(&tenant).is_some_and(|sender| !sender.is_closed())
    }
}
