use std::collections::HashMap;

use sea_orm::FromQueryResult as _;

use crate::{
    error::Result,
    keys::KeyVersion,
    platform::{db::Tx, ids::TenantId},
    tenancy::{Part, TenantPart},
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

const RINGS: &str = "
    select r.tenant_id, r.active_version, r.shredded_at is not null as is_shredded,
      coalesce((select min(k.version) from tenantry.tenant_keys k where k.tenant_id = r.tenant_id), 0) as oldest
    from tenantry.tenant_key_rings r where r.tenant_id = any($1::uuid[])";

#[derive(sea_orm::FromQueryResult)]
struct Row {
    tenant_id: TenantId,
    active_version: KeyVersion,
    oldest: KeyVersion,
    is_shredded: bool,
}

impl Part for KeyRing {
    async fn load(tx: &Tx, owner: TenantId) -> Result<Self> {
        Ok(Self::load_several(tx, &[owner]).await?.remove(&owner).unwrap_or_default())
    }

    fn weight(&self) -> usize {
        size_of::<Self>()
    }
}

impl TenantPart for KeyRing {
    async fn load_several(tx: &Tx, owners: &[TenantId]) -> Result<HashMap<TenantId, Self>> {
        let owners: Vec<_> = owners.iter().map(|owner| owner.uuid()).collect();
        let ring = |row: &sea_orm::QueryResult| {
            let Row { tenant_id, active_version: active, oldest, is_shredded } = Row::from_query_result(row, "")?;
            Ok((tenant_id, Self { active, oldest, is_shredded }))
        };
        tx.rows(RINGS, [owners.into()]).await?.iter().map(ring).collect()
    }
}

impl KeyRing {
    /// Whether this version opens.
    pub(super) fn has(&self, version: KeyVersion) -> bool {
        !self.is_shredded && (self.oldest..=self.active).contains(&version) && version > 0
    }
}
