use sea_orm::FromQueryResult as _;

use crate::{
    error::Result,
    keys::KeyVersion,
    platform::{db::Tx, ids::TenantId},
    tenancy::Part,
};

/// Which data keys a tenant has: what is asked at every sealing and opening, so it stands in the snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyRing {
    /// The version that seals; 0 where there is none yet.
    pub active: KeyVersion,
    /// The earliest version that opens.
    pub oldest: KeyVersion,
    /// Whether the keys were destroyed.
    pub is_shredded: bool,
}

const RING: &str = "
    select r.active_version, r.shredded_at is not null as is_shredded,
      coalesce((select min(k.version) from tenantry.tenant_keys k where k.tenant_id = r.tenant_id), 0) as oldest
    from tenantry.tenant_key_rings r where r.tenant_id = $1";

#[derive(sea_orm::FromQueryResult)]
struct Row {
    active_version: KeyVersion,
    oldest: KeyVersion,
    is_shredded: bool,
}

impl Part for KeyRing {
    async fn load(tx: &Tx, owner: TenantId) -> Result<Self> {
        let Some(row) = tx.row(RING, [owner.into()]).await? else { return Ok(Self::default()) };
        let row = Row::from_query_result(&row, "")?;
        Ok(Self { active: row.active_version, oldest: row.oldest, is_shredded: row.is_shredded })
    }

    fn weight(&self) -> usize {
        size_of::<Self>()
    }
}

impl KeyRing {
    /// Whether this version opens.
    pub(super) fn has(&self, version: KeyVersion) -> bool {
        !self.is_shredded && (self.oldest..=self.active).contains(&version) && version > 0
    }
}
