use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use tokio::sync::Notify;

use super::Snapshot;
use crate::platform::ids::TenantId;

/// What was heard of a change.
#[derive(Debug)]
pub(super) struct Change {
    /// The first time since it was last read again.
    pub(super) heard: Instant,
    /// What memory had until then.
    pub(super) known: Option<Arc<Snapshot>>,
}

/// Whose snapshots are to be read again, in the order of their first change. A tenant that changes faster than it can be read stands
/// here once.
#[derive(Debug, Default)]
pub(super) struct Changed {
    queue: Mutex<Queue>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    order: VecDeque<TenantId>,
    changes: HashMap<TenantId, Change>,
}

impl Changed {
    pub(super) fn add(&self, owner: TenantId, change: Change) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        match queue.changes.entry(owner) {
            Entry::Occupied(mut waiting) => {
                let waiting = waiting.get_mut();
                waiting.known = waiting.known.take().or(change.known);
            }
            Entry::Vacant(free) => {
                free.insert(change);
                queue.order.push_back(owner);
            }
        }
        self.more.notify_one();
    }

    /// Waits for one.
    pub(super) async fn next(&self) -> (TenantId, Change) {
        loop {
            if let Some(next) = self.take() {
                return next;
            }
            self.more.notified().await;
        }
    }

    fn take(&self) -> Option<(TenantId, Change)> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let owner = queue.order.pop_front()?;
        queue.changes.remove_entry(&owner)
    }
}
