//! An oracle that needs no test of its own: whatever a service or a stranger receives anywhere in the suite is searched for
//! another tenant's planted strings.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use tenantry::platform::ids::TenantId;

#[derive(Clone, Debug, Default)]
pub struct Canaries {
    planted: Arc<Mutex<Vec<(TenantId, String)>>>,
}

impl Canaries {
    /// A string that stands nowhere else.
    pub fn next(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        format!("canary{:06}x{:08x}", COUNT.fetch_add(1, Ordering::Relaxed), std::process::id())
    }

    pub fn plant(&self, tenant: TenantId, canary: String) {
        self.planted.lock().unwrap().push((tenant, canary));
    }

    /// Fails where `received`, by a client of `own` (none: a stranger), holds another tenant's canary or id.
    pub fn check(&self, own: Option<TenantId>, received: &str) {
        for (tenant, canary) in self.planted.lock().unwrap().iter() {
            if Some(*tenant) != own {
                assert!(!received.contains(canary.as_str()), "a client of {own:?} received the canary of {tenant}: {received}");
            }
        }
    }
}
