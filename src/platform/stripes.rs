//! Counts of changes, so that what was loaded before a change is not kept after it.

use std::{
    hash::{BuildHasher as _, Hash, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

const STRIPES: usize = 256;

/// How often something has changed, for groups of keys: those of one stripe share a count, so that memory stays bounded.
///
/// A loader notes the [`count`](Self::count) before it reads, and keeps what it read only while the count, then [`lock`](Self::lock)ed,
/// is the same. Whoever forgets something counts up under the lock.
#[derive(Debug)]
pub struct Stripes {
    counts: Box<[Mutex<u64>]>,
    hasher: RandomState,
}

impl Default for Stripes {
    fn default() -> Self {
        let counts = std::iter::repeat_with(Mutex::default).take(STRIPES).collect();
        Self { counts, hasher: RandomState::new() }
    }
}

impl Stripes {
    pub fn count(&self, key: impl Hash) -> u64 {
        *self.lock(key)
    }

    pub fn lock(&self, key: impl Hash) -> MutexGuard<'_, u64> {
        let stripe = self.hasher.hash_one(key) as usize % STRIPES;
        self.counts[stripe].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything has changed.
    pub fn count_all_up(&self) {
        for count in &self.counts {
            *count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        }
    }
}
