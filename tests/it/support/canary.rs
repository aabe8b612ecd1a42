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

    /// Fails where `received`, by a client of `own` (none: a stranger), holds another tenant's canary.
    pub fn check(&self, own: Option<TenantId>, received: &str) {
        let planted = self.planted.lock().unwrap();
        let leak =
            planted.iter().find(|(tenant, canary)| Some(*tenant) != own && received.contains(canary.as_str())).cloned();
        drop(planted); // a panic must not poison it
        if let Some((tenant, canary)) = leak {
            panic!("a client of {own:?} received the canary {canary} of {tenant}: {received}");
        }
    }
}
