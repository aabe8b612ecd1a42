//! What is kept in memory of a tenant: its grants of features and resources. Those of quotas are kept by `quotas`, with what else a
//! limit is made of.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::{
    grant::{Grant, Kind},
    store,
};
use crate::{
    error::Result,
    platform::{db::Tx, ids::TenantId},
    tenancy::{Part, TenantPart},
};

/// Grants that have not ended, in burn order. Some may have expired, or not begun.
#[derive(Clone, Debug, Default)]
pub struct Held(Vec<Grant>);

impl Held {
    /// Those that count now.
    pub fn active(&self, kind: Kind, now: DateTime<Utc>) -> impl Iterator<Item = &Grant> {
        self.0.iter().filter(move |grant| grant.kind == kind && grant.is_active(now))
    }

    /// The grant that gives it, now.
    pub fn find(&self, kind: Kind, key: &str, now: DateTime<Utc>) -> Option<&Grant> {
        self.active(kind, now).find(|grant| grant.key == key)
    }

    /// How many beginnings and ends have passed: between two of them nothing changes by itself.
    pub fn turns_before(&self, now: DateTime<Utc>) -> usize {
        let turns = self.0.iter().flat_map(|grant| [Some(grant.effective_at), grant.ends_at()]).flatten();
        turns.filter(|turn| *turn <= now).count()
    }
}

impl Part for Held {
    async fn load(tx: &Tx, owner: TenantId) -> Result<Self> {
        Ok(Self(store::live(tx, owner).await?))
    }

    fn weight(&self) -> usize {
        self.0.iter().map(|grant| 256 + grant.key.len() + grant.reason.len() + grant.granted_by.len()).sum()
    }
}

impl TenantPart for Held {
    async fn load_several(tx: &Tx, owners: &[TenantId]) -> Result<HashMap<TenantId, Self>> {
        let several = store::live_of_several(tx, owners).await?;
        Ok(several.into_iter().map(|(owner, grants)| (owner, Self(grants))).collect())
    }
}
