use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::{
    Name,
    rule::{Counted, FORGOTTEN, Rule},
};
use crate::{
    error::Result,
    isolation::{OperatorTx, TenantTx},
};

const IS_KNOWN: &str = "
    select exists (select from tenantry.sign_in_addresses where tenant_id = $1 and name_hash = $2 and last_at > $3) as known";
const MAKE: &str = "
    insert into tenantry.sign_in_attempts (tenant_id, name_hash, failures, failed_at, until)
    select $1, decode(name, 'hex'), 0, '1970-01-01', '1970-01-01' from unnest($2::text[]) as name order by name
    on conflict do nothing";
/// In one order everywhere, so that attempts wait for each other and never in a circle.
const LOCK: &str = "
    select name_hash, failures, failed_at, until from tenantry.sign_in_attempts
    where tenant_id = $1 and name_hash in (select decode(name, 'hex') from unnest($2::text[]) as name) order by name_hash for update";
const PUT: &str = "
    update tenantry.sign_in_attempts a set failures = w.failures, failed_at = w.failed_at, until = w.until
    from unnest($2::text[], $3::integer[], $4::timestamptz[], $5::timestamptz[]) as w (name, failures, failed_at, until)
    where a.tenant_id = $1 and a.name_hash = decode(w.name, 'hex')";
const FORGIVE: &str = "
    update tenantry.sign_in_attempts a set failures = greatest(a.failures - 1, 0), until = least(a.until, $3)
    where tenant_id = $1 and name_hash in (select decode(name, 'hex') from unnest($2::text[]) as name)";
/// A wait that others have prolonged since stays.
const TAKE_BACK: &str = "
    update tenantry.sign_in_attempts a set failures = greatest(a.failures - 1, 0),
      until = case when a.until = w.until then w.until_before else a.until end
    from unnest($2::text[], $3::timestamptz[], $4::timestamptz[]) as w (name, until, until_before)
    where a.tenant_id = $1 and a.name_hash = decode(w.name, 'hex')";
const FORGET: &str = "delete from tenantry.sign_in_attempts where tenant_id = $1 and name_hash = $2";
const KNOW: &str = "
    insert into tenantry.sign_in_addresses (tenant_id, name_hash, last_at) values ($1, $2, $3)
    on conflict (tenant_id, name_hash) do update set last_at = excluded.last_at";
const PURGE_ATTEMPTS: &str = "
    delete from tenantry.sign_in_attempts where ctid = any (array(
      select ctid from tenantry.sign_in_attempts where failed_at <= $1 and until <= $2 order by failed_at limit 1000))";
const PURGE_ADDRESSES: &str = "
    delete from tenantry.sign_in_addresses where ctid = any (array(
      select ctid from tenantry.sign_in_addresses where last_at <= $1 order by last_at limit 1000))";

fn hex(name: &Name) -> String {
    name.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hexes<'a>(names: impl Iterator<Item = &'a Name>) -> sea_orm::Value {
    names.map(hex).collect::<Vec<_>>().into()
}

pub(super) async fn is_known(tx: &TenantTx, pair: Name, since: DateTime<Utc>) -> Result<bool> {
    let row = tx.row(IS_KNOWN, [tx.tenant().into(), pair.to_vec().into(), since.into()]).await?;
    Ok(row.map(|row| row.try_get("", "known")).transpose()?.unwrap_or_default())
}

/// What was counted of these, held until the transaction ends.
pub(super) async fn lock(tx: &TenantTx, names: &[(Name, Rule)]) -> Result<Vec<Counted>> {
    let values = || [tx.tenant().into(), hexes(names.iter().map(|(name, _)| name))];
    tx.execute(MAKE, values()).await?;
    let rules: HashMap<&[u8], Rule> = names.iter().map(|(name, rule)| (name.as_slice(), *rule)).collect();
    let mut counted = Vec::with_capacity(names.len());
    for row in tx.rows(LOCK, values()).await? {
        let hash: Vec<u8> = row.try_get("", "name_hash")?;
        let (Some(rule), Ok(name)) = (rules.get(hash.as_slice()), Name::try_from(hash.as_slice())) else { continue };
        counted.push(Counted {
            name,
            rule: *rule,
            failures: row.try_get("", "failures")?,
            failed_at: row.try_get("", "failed_at")?,
            until: row.try_get("", "until")?,
        });
    }
    Ok(counted)
}

pub(super) async fn put(tx: &TenantTx, counted: &[Counted]) -> Result<()> {
    let values = [
        tx.tenant().into(),
        hexes(counted.iter().map(|counted| &counted.name)),
        counted.iter().map(|counted| counted.failures).collect::<Vec<_>>().into(),
        counted.iter().map(|counted| counted.failed_at).collect::<Vec<_>>().into(),
        counted.iter().map(|counted| counted.until).collect::<Vec<_>>().into(),
    ];
    tx.execute(PUT, values).await?;
    Ok(())
}

/// The pair begins anew; of the others one failure less.
pub(super) async fn forgive(tx: &TenantTx, pair: Name, others: &[Name]) -> Result<()> {
    // In the order in which attempts lock them, the pair among them.
    tx.rows(LOCK, [tx.tenant().into(), hexes(others.iter().chain([&pair]))]).await?;
    tx.execute(FORGIVE, [tx.tenant().into(), hexes(others.iter()), tx.stamp().at.into()]).await?;
    tx.execute(FORGET, [tx.tenant().into(), pair.to_vec().into()]).await?;
    Ok(())
}

/// As if the attempts that led from the one to the other had not been.
pub(super) async fn take_back(tx: &TenantTx, charged: &[(Counted, Counted)]) -> Result<()> {
    let names = || hexes(charged.iter().map(|(before, _)| &before.name));
    tx.rows(LOCK, [tx.tenant().into(), names()]).await?;
    let values = [
        tx.tenant().into(),
        names(),
        charged.iter().map(|(_, after)| after.until).collect::<Vec<_>>().into(),
        charged.iter().map(|(before, _)| before.until).collect::<Vec<_>>().into(),
    ];
    tx.execute(TAKE_BACK, values).await?;
    Ok(())
}

pub(super) async fn know(tx: &TenantTx, pair: Name) -> Result<()> {
    tx.execute(KNOW, [tx.tenant().into(), pair.to_vec().into(), tx.stamp().at.into()]).await?;
    Ok(())
}

/// Forgets attempts of long ago, and addresses that nobody came from since.
pub(in crate::sessions) async fn purge(tx: &OperatorTx, now: DateTime<Utc>, known_since: DateTime<Utc>) -> Result<u64> {
    let attempts = tx.execute(PURGE_ATTEMPTS, [(now - FORGOTTEN).into(), now.into()]).await?;
    Ok(attempts + tx.execute(PURGE_ADDRESSES, [known_since.into()]).await?)
}
