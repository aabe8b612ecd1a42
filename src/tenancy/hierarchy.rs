//! Parents and children: managed service providers, subsidiaries, departments.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Utc};
use sea_orm::FromQueryResult;
use serde::{Deserialize, Serialize};

use super::{
    Status, Tenancy, Tenant,
    snapshot::{Part, TenantPart},
    store,
};
use crate::{
    access::{Caller, Permission},
    error::{Context as _, Error, Result},
    isolation::{Conditions, OperatorScope, TenantScope},
    journal::Entry,
    platform::{db::Tx, ids::TenantId},
};

/// Whose child a tenant is.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentLink {
    pub parent_id: TenantId,
    /// Whether administration from above ends here.
    pub barrier: bool,
    /// Whether what the child uses counts for the parent's quotas, too.
    pub rolls_up: bool,
    pub version: i64,
    pub updated_at: DateTime<Utc>,
}

/// A tenant's link to its parent, in memory.
#[derive(Clone, Debug, Default)]
pub struct Parent(pub Option<ParentLink>);

impl Part for Parent {
    async fn load(tx: &Tx, owner: TenantId) -> Result<Self> {
        Ok(Self(find(tx, owner).await?))
    }

    fn weight(&self) -> usize {
        size_of::<Self>()
    }
}

impl TenantPart for Parent {
    async fn load_several(tx: &Tx, owners: &[TenantId]) -> Result<HashMap<TenantId, Self>> {
        let rows = tx.rows(FIND_SEVERAL, [store::ids(owners)]).await?;
        let parent = |row: &sea_orm::QueryResult| {
            Ok((row.try_get("", "tenant_id")?, Self(Some(ParentLink::from_query_result(row, "")?))))
        };
        rows.iter().map(parent).collect()
    }
}

/// The parent that a tenant gets.
#[derive(Clone, Copy, Debug)]
pub struct NewParent {
    pub parent: TenantId,
    pub barrier: bool,
    pub rolls_up: bool,
}

const FIND: &str =
    "select parent_id, barrier, rolls_up, version, updated_at from tenantry.tenant_parents where tenant_id = $1";

const FIND_SEVERAL: &str = "
    select tenant_id, parent_id, barrier, rolls_up, version, updated_at from tenantry.tenant_parents where tenant_id = any($1)";

/// Changes of the hierarchy go one after the other, over all tenants: two of them could close a circle together.
const LOCK: &str = "lock table tenantry.tenant_parents in share row exclusive mode";

const ABOVE: &str = "
    with recursive above as (
      select $1::uuid as tenant_id, 0 as height
      union all
      select p.parent_id, height + 1 from above join tenantry.tenant_parents p using (tenant_id) where height < 1000)
    select tenant_id, height from above";

const BELOW: &str = "
    with recursive below as (
      select $1::uuid as tenant_id, 0 as depth
      union all
      select p.tenant_id, depth + 1 from below join tenantry.tenant_parents p on p.parent_id = below.tenant_id where depth < 1000)
    select max(depth) as depth from below";

const IS_BELOW: &str = "
    with recursive above as (
      select parent_id, barrier, 1::bigint as depth from tenantry.tenant_parents where tenant_id = $1
      union all
      select p.parent_id, p.barrier, depth + 1 from above join tenantry.tenant_parents p on p.tenant_id = above.parent_id
      where not above.barrier and above.parent_id <> $2 and depth < $3)
    select exists (select from above where parent_id = $2 and not barrier and depth <= $3) as below";

const PUT: &str = "
    insert into tenantry.tenant_parents (tenant_id, parent_id, barrier, rolls_up, version, updated_at)
    values ($1, $2, $3, $4, $5, $6)
    on conflict (tenant_id) do update set parent_id = excluded.parent_id, barrier = excluded.barrier,
      rolls_up = excluded.rolls_up, version = excluded.version, updated_at = excluded.updated_at";

impl Tenancy {
    /// Puts a tenant under another one, or (with `None`) under none.
    pub async fn set_parent(
        &self,
        scope: &OperatorScope,
        child: TenantId,
        wanted: Option<NewParent>,
        conditions: &Conditions,
    ) -> Result<Tenant> {
        let tx = self.isolation.begin_operator(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok(answered);
        }
        tx.execute(LOCK, []).await?;
        let tenant = store::find(&tx, child).await?.filter(|found| found.status != Status::Erased);
        let tenant = tenant.ok_or_else(Error::not_found)?;
        let before = find(&tx, child).await?;
        let version = before.as_ref().map_or(0, |before| before.version);
        conditions.check_version(version)?;
        let after = match wanted {
            None => None,
            Some(wanted) => {
                self.check_parent(&tx, child, wanted.parent).await?;
                let NewParent { parent: parent_id, barrier, rolls_up } = wanted;
                Some(ParentLink { parent_id, barrier, rolls_up, version: version + 1, updated_at: tx.stamp().at })
            }
        };
        tx.keep_answer(conditions, &tenant).await?;
        if before.is_none() && after.is_none() {
            tx.commit_unrecorded("it had no parent before").await?;
            return Ok(tenant);
        }
        write(&tx, child, after.as_ref()).await?;
        let entry = Entry::new("TenantParentSet", "tenant", child).change(before.as_ref(), after.as_ref())?;
        tx.commit_for(child, [entry]).await?;
        self.snapshots.refresh(child).await;
        Ok(tenant)
    }

    /// Enters a tenant that [`Self::is_below`] has found below the caller's own.
    pub(super) async fn enter_below(
        &self,
        caller: &Arc<Caller>,
        own: TenantId,
        below: TenantId,
        permission: &Permission,
    ) -> Result<TenantScope> {
        let own = self.snapshots.get(own).await?.ok_or_else(Error::unauthenticated)?;
        let found = self.snapshots.get(below).await?.ok_or_else(Error::not_found)?;
        TenantScope::enter_below(caller, &own.tenant.standing(), below, &found.tenant.standing(), permission)
    }

    /// Down to the configured depth, and as far as no barrier is in the way. One statement, whatever the tenant is: memory would
    /// answer faster of one that exists than of one that does not.
    pub(super) async fn is_below(&self, own: TenantId, below: TenantId) -> Result<bool> {
        let deepest = i64::from(self.rules.delegation_depth);
        let tx = self.isolation.begin_operator(&OperatorScope::system("hierarchy")).await?;
        let row = tx.row(IS_BELOW, [below.into(), own.into(), deepest.into()]).await?.context("walk up the tree")?;
        tx.commit_unrecorded("a read").await?;
        Ok(row.try_get("", "below")?)
    }

    async fn check_parent(&self, tx: &Tx, child: TenantId, parent: TenantId) -> Result<()> {
        let found = store::find(tx, parent).await?;
        if found.is_none_or(|found| matches!(found.status, Status::Deleted | Status::Erased)) {
            return Err(Error::invalid("parentId", "names no tenant that can have children"));
        }
        let mut height = 0;
        for row in tx.rows(ABOVE, [parent.into()]).await? {
            if row.try_get::<TenantId>("", "tenant_id")? == child {
                return Err(Error::invalid("parentId", "is the tenant itself or one below it"));
            }
            height = height.max(row.try_get::<i32>("", "height")?);
        }
        let below: i32 = tx.row(BELOW, [child.into()]).await?.context("measure the tree")?.try_get("", "depth")?;
        let deepest = self.rules.max_hierarchy_depth;
        if u32::try_from(height + 1 + below).is_ok_and(|depth| depth <= deepest) {
            return Ok(());
        }
        Err(Error::invalid("parentId", format!("would make the tree deeper than {deepest} levels below its root")))
    }
}

async fn find(tx: &Tx, tenant: TenantId) -> Result<Option<ParentLink>> {
    let row = tx.row(FIND, [tenant.into()]).await?;
    Ok(row.map(|row| ParentLink::from_query_result(&row, "")).transpose()?)
}

async fn write(tx: &Tx, child: TenantId, link: Option<&ParentLink>) -> Result<()> {
    match link {
        None => tx.execute("delete from tenantry.tenant_parents where tenant_id = $1", [child.into()]).await?,
        Some(link) => {
            let values = [
                child.into(),
                link.parent_id.into(),
                link.barrier.into(),
                link.rolls_up.into(),
                link.version.into(),
                link.updated_at.into(),
            ];
            tx.execute(PUT, values).await?
        }
    };
    Ok(())
}
