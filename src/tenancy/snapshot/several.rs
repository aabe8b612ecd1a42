//! Many tenants at once, for who lists them.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
};

use super::{Parts, Snapshot, Snapshots, Wanted};
use crate::{
    error::Result,
    isolation::OperatorScope,
    platform::{db::Tx, ids::TenantId},
    tenancy::store,
};

const JOURNALS: &str = "select tenant_id, sequence from tenantry.journal_heads where tenant_id = any($1)";

impl Snapshots {
    /// Tenants as last committed, as far as this replica has heard, with the parts that are wanted; those that are not there are
    /// missing. What memory does not have is read together, in as many statements as for one, and not kept: a walk through a long list must not push
    /// out what services ask for, and what is kept was read under the tenant's own policy.
    pub async fn get_several<W: Wanted>(
        &self,
        scope: &OperatorScope,
        tenants: &[TenantId],
    ) -> Result<HashMap<TenantId, Arc<Snapshot>>> {
        let (mut found, mut cold) = (HashMap::with_capacity(tenants.len()), Vec::new());
        for tenant in tenants {
            match self.cached(*tenant) {
                Some(known) => drop(found.insert(*tenant, known)),
                None => cold.push(*tenant),
            }
        }
        if !cold.is_empty() {
            found.extend(self.load_several::<W>(scope, &cold).await?);
        }
        Ok(found)
    }

    async fn load_several<W: Wanted>(
        &self,
        scope: &OperatorScope,
        tenants: &[TenantId],
    ) -> Result<Vec<(TenantId, Arc<Snapshot>)>> {
        let tx = self.isolation.begin_operator(scope).await?;
        let versions = journal_versions(&tx, tenants).await?;
        let rows = store::find_several(&tx, tenants).await?;
        let there: Vec<_> = rows.iter().map(|tenant| tenant.id).collect();
        let loads: Vec<_> = {
            let all = self.of_several.read().unwrap_or_else(PoisonError::into_inner);
            all.iter().filter(|(part, _)| W::is_wanted(*part)).map(|(_, load)| *load).collect()
        };
        let parts = Parts::load_several(&loads, &tx, &there).await?;
        tx.commit_unrecorded("a read").await?;
        let snapshot = |(tenant, parts): (crate::tenancy::Tenant, Parts)| {
            let (id, version) = (tenant.id, versions.get(&tenant.id).copied().unwrap_or_default());
            (id, Snapshot::new(tenant, version, parts))
        };
        Ok(rows.into_iter().zip(parts).map(snapshot).collect())
    }
}

/// How far the journals are. Asked before the rest is read: what is read afterwards is at least as new.
async fn journal_versions(tx: &Tx, tenants: &[TenantId]) -> Result<HashMap<TenantId, i64>> {
    let rows = tx.rows(JOURNALS, [store::ids(tenants)]).await?;
    let version = |row: &sea_orm::QueryResult| Ok((row.try_get("", "tenant_id")?, row.try_get("", "sequence")?));
    rows.iter().map(version).collect()
}
