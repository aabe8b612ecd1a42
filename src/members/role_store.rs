//! The rows of own roles, and what memory has of them.

use std::collections::HashMap;

use sea_orm::QueryResult;
use uuid::Uuid;

use super::role::{OwnRole, Roles};
use crate::{
    error::Result,
    isolation::TenantTx,
    platform::{db::Tx, ids::TenantId},
    tenancy::{Part, TenantPart},
};

const COLUMNS: &str = "key, description, scopes, version, created_at, updated_at";

const PUT: &str = "
    insert into tenantry.member_roles (tenant_id, key, description, scopes, version, created_at, updated_at) values ($1, $2, $3, $4, $5, $6, $7)
    on conflict (tenant_id, key) do update set
      description = excluded.description, scopes = excluded.scopes, version = excluded.version, updated_at = excluded.updated_at";
const DELETE: &str = "delete from tenantry.member_roles where tenant_id = $1 and key = $2";
/// What goes one after the other: who sets and deletes roles of one tenant.
const LOCK: &str = "select pg_advisory_xact_lock(hashtextextended('tenantry.member_roles ' || $1::text, 0))::text";

/// A tenant's own roles, in memory: every request of a member is checked against them.
#[derive(Debug, Default)]
pub struct OwnRoles(pub Vec<OwnRole>);

impl Part for OwnRoles {
    async fn load(tx: &Tx, owner: TenantId) -> Result<Self> {
        let find = format!("select {COLUMNS} from tenantry.member_roles where tenant_id = $1 order by key");
        let rows = tx.rows(&find, [owner.into()]).await?;
        rows.iter().map(role).collect::<Result<_>>().map(Self)
    }

    fn weight(&self) -> usize {
        self.0.iter().map(|role| 128 + role.description.len() + role.scopes.len() * 48).sum()
    }
}

impl TenantPart for OwnRoles {
    async fn load_several(tx: &Tx, owners: &[TenantId]) -> Result<HashMap<TenantId, Self>> {
        let find =
            format!("select tenant_id, {COLUMNS} from tenantry.member_roles where tenant_id = any($1) order by key");
        let ids: Vec<Uuid> = owners.iter().map(|owner| owner.uuid()).collect();
        let mut found: HashMap<TenantId, Self> = HashMap::new();
        for row in tx.rows(&find, [ids.into()]).await? {
            found.entry(row.try_get("", "tenant_id")?).or_default().0.push(role(&row)?);
        }
        Ok(found)
    }
}

fn role(row: &QueryResult) -> Result<OwnRole> {
    Ok(OwnRole {
        key: row.try_get("", "key")?,
        description: row.try_get("", "description")?,
        scopes: row.try_get("", "scopes")?,
        version: row.try_get("", "version")?,
        created_at: row.try_get("", "created_at")?,
        updated_at: row.try_get("", "updated_at")?,
    })
}

/// Roles that stay as they are until the transaction ends: what members are given of them is what was looked at.
#[derive(Debug)]
pub(super) struct Shared {
    tenant: TenantId,
    own: Vec<OwnRole>,
}

impl Shared {
    pub(super) fn roles(&self) -> Roles<'_> {
        if self.tenant.is_platform() { Roles::OfOperators } else { Roles::OfTenant(&self.own) }
    }
}

pub(super) async fn share(tx: &TenantTx) -> Result<Shared> {
    let find = format!("select {COLUMNS} from tenantry.member_roles where tenant_id = $1 order by key for share");
    let rows = tx.rows(&find, [tx.tenant().into()]).await?;
    Ok(Shared { tenant: tx.tenant(), own: rows.iter().map(role).collect::<Result<_>>()? })
}

/// All own roles, held for who changes one of them.
pub(super) async fn lock(tx: &TenantTx) -> Result<Vec<OwnRole>> {
    tx.row(LOCK, [tx.tenant().into()]).await?;
    let find = format!("select {COLUMNS} from tenantry.member_roles where tenant_id = $1 order by key for update");
    let rows = tx.rows(&find, [tx.tenant().into()]).await?;
    rows.iter().map(role).collect()
}

pub(super) async fn put(tx: &TenantTx, role: &OwnRole) -> Result<()> {
    let values = [
        tx.tenant().into(),
        role.key.as_str().into(),
        role.description.as_str().into(),
        role.scopes.clone().into(),
        role.version.into(),
        role.created_at.into(),
        role.updated_at.into(),
    ];
    tx.execute(PUT, values).await?;
    Ok(())
}

pub(super) async fn delete(tx: &TenantTx, key: &str) -> Result<()> {
    tx.execute(DELETE, [tx.tenant().into(), key.into()]).await?;
    Ok(())
}
