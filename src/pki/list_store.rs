//! The table of revocation lists.

use chrono::{DateTime, Utc};
use sea_orm::QueryResult;

use super::{
    list::{List, Scope},
    lists::{Listed, Source},
};
use crate::{
    error::{Error, Result},
    isolation::TenantTx,
    platform::ids::RevocationListId,
};

const LISTS: &str = "
    select list_id, scope, distribution_points, issuer, source, number, this_update, next_update, cardinality(revoked) as entries, added_at
    from tenantry.revocation_lists where tenant_id = $1 order by issuer, list_id";

const ABOUT: &str = "
    select scope, distribution_points, this_update, next_update, $3::text = any (revoked) as is_revoked
    from tenantry.revocation_lists where tenant_id = $1 and authority = $2";

/// A list takes the place of one that is older, never of one that is newer.
const PUT: &str = "
    insert into tenantry.revocation_lists as known (tenant_id, list_id, authority, scope, distribution_points, issuer, source, number,
        this_update, next_update, revoked, added_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
    on conflict (tenant_id, authority, scope, distribution_points) do update set source = excluded.source, number = excluded.number,
        issuer = excluded.issuer, this_update = excluded.this_update, next_update = excluded.next_update, revoked = excluded.revoked,
        added_at = excluded.added_at
    where known.this_update <= excluded.this_update
    returning list_id";

const DELETE: &str = "delete from tenantry.revocation_lists where tenant_id = $1 and list_id = $2";

/// What a kept list says about one certificate.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub(super) scope: Scope,
    pub(super) distribution_points: Vec<String>,
    pub(super) next_update: DateTime<Utc>,
    pub(super) is_revoked: bool,
}

pub(super) async fn lists(tx: &TenantTx) -> Result<Vec<Listed>> {
    let rows = tx.rows(LISTS, [tx.tenant().into()]).await?;
    rows.iter().map(listed).collect()
}

/// What all lists of an authority say about a serial number.
pub(super) async fn about(tx: &TenantTx, authority: [u8; 32], serial: &str) -> Result<Vec<About>> {
    let rows = tx.rows(ABOUT, [tx.tenant().into(), authority.to_vec().into(), serial.into()]).await?;
    let about = |row: &QueryResult| {
        Ok(About {
            scope: scope(row)?,
            distribution_points: points(row)?,
            next_update: row.try_get("", "next_update")?,
            is_revoked: row.try_get("", "is_revoked")?,
        })
    };
    rows.iter().map(about).collect()
}

/// The id that it has, or had before; `None` where a newer one is there.
pub(super) async fn put(
    tx: &TenantTx,
    authority: [u8; 32],
    list: &List,
    source: Source,
) -> Result<Option<RevocationListId>> {
    let values = [
        tx.tenant().into(),
        RevocationListId::generate().into(),
        authority.to_vec().into(),
        list.scope.name().into(),
        list.distribution_points.join("\n").into(),
        list.issuer.text.as_str().into(),
        source.name().into(),
        list.number.clone().into(),
        list.this_update.into(),
        list.next_update.into(),
        list.revoked.clone().into(),
        tx.stamp().at.into(),
    ];
    let row = tx.row(PUT, values).await?;
    Ok(row.map(|row| row.try_get("", "list_id")).transpose()?)
}

pub(super) async fn delete(tx: &TenantTx, id: RevocationListId) -> Result<()> {
    tx.execute(DELETE, [tx.tenant().into(), id.into()]).await?;
    Ok(())
}

fn listed(row: &QueryResult) -> Result<Listed> {
    let source: String = row.try_get("", "source")?;
    Ok(Listed {
        list_id: row.try_get("", "list_id")?,
        issuer: row.try_get("", "issuer")?,
        scope: scope(row)?,
        distribution_points: points(row)?,
        source: Source::parse(&source).ok_or_else(|| Error::internal("a source that there is not"))?,
        number: row.try_get("", "number")?,
        this_update: row.try_get("", "this_update")?,
        next_update: row.try_get("", "next_update")?,
        entries: row.try_get("", "entries")?,
        added_at: row.try_get("", "added_at")?,
    })
}

fn scope(row: &QueryResult) -> Result<Scope> {
    let name: String = row.try_get("", "scope")?;
    Scope::parse(&name).ok_or_else(|| Error::internal("a scope that there is not"))
}

fn points(row: &QueryResult) -> Result<Vec<String>> {
    let points: String = row.try_get("", "distribution_points")?;
    Ok(points.lines().map(str::to_owned).collect())
}
