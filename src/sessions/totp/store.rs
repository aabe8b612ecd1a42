use super::{
    recovery,
    vault::{self, purpose},
};
use crate::{
    error::{Context as _, Result},
    isolation::{Isolation, TenantScope, TenantTx},
    keys::KeyVersion,
    platform::{ids::MemberId, secret::Secret},
    tenant_keys::{Resealed, Sealed, TenantKeys},
};

/// Rows that are sealed anew at once.
const BATCH: i64 = 100;

const FIND: &str = "
    select sealed, confirmed_at is not null as confirmed from tenantry.member_totp where tenant_id = $1 and member_id = $2";
const ENROLL: &str = "
    insert into tenantry.member_totp (tenant_id, member_id, sealed, key_version, confirmed_at, last_step, created_at)
    values ($1, $2, $3, $4, null, -1, $5)
    on conflict (tenant_id, member_id) do update set
      sealed = excluded.sealed, key_version = excluded.key_version, last_step = -1, created_at = excluded.created_at
    where member_totp.confirmed_at is null";
const CONFIRM: &str = "
    update tenantry.member_totp set confirmed_at = $4, last_step = $3
    where tenant_id = $1 and member_id = $2 and confirmed_at is null and last_step < $3";
/// Whoever comes second finds the step used: the row is locked until the first has committed.
const USE_STEP: &str = "
    update tenantry.member_totp set last_step = $3
    where tenant_id = $1 and member_id = $2 and confirmed_at is not null and last_step < $3";
const REMOVE: &str = "delete from tenantry.member_totp where tenant_id = $1 and member_id = $2";
const USE_CODE: &str =
    "delete from tenantry.member_recovery_codes where tenant_id = $1 and member_id = $2 and code_hash = $3";
const REMOVE_CODES: &str = "delete from tenantry.member_recovery_codes where tenant_id = $1 and member_id = $2";
const PUT_CODE: &str =
    "insert into tenantry.member_recovery_codes (tenant_id, member_id, code_hash) values ($1, $2, $3)";
const BEHIND: &str =
    "select member_id, sealed from tenantry.member_totp where tenant_id = $1 and key_version < $2 limit $3";
const RESEAL: &str = "
    update tenantry.member_totp set key_version = $3, sealed = $4 where tenant_id = $1 and member_id = $2 and sealed = $5";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Enrolled,
    Confirmed,
}

pub(super) struct Found {
    pub(super) sealed: Vec<u8>,
    pub(super) state: State,
}

pub(super) async fn find(tx: &TenantTx, member: MemberId) -> Result<Option<Found>> {
    let Some(row) = tx.row(FIND, [tx.tenant().into(), member.into()]).await? else { return Ok(None) };
    let state = if row.try_get("", "confirmed")? { State::Confirmed } else { State::Enrolled };
    Ok(Some(Found { sealed: row.try_get("", "sealed")?, state }))
}

/// Whether signing in asks the member for a code.
pub(in crate::sessions) async fn is_set_up(tx: &TenantTx, member: MemberId) -> Result<bool> {
    Ok(find(tx, member).await?.is_some_and(|found| found.state == State::Confirmed))
}

/// False where one is confirmed already.
pub(super) async fn enroll(tx: &TenantTx, member: MemberId, sealed: &vault::Sealed) -> Result<bool> {
    let vault::Sealed { version, bytes } = sealed;
    let values = [tx.tenant().into(), member.into(), bytes.clone().into(), (*version).into(), tx.stamp().at.into()];
    Ok(tx.execute(ENROLL, values).await? == 1)
}

pub(super) async fn confirm(tx: &TenantTx, member: MemberId, step: i64) -> Result<bool> {
    let values = [tx.tenant().into(), member.into(), step.into(), tx.stamp().at.into()];
    Ok(tx.execute(CONFIRM, values).await? == 1)
}

pub(super) async fn use_step(tx: &TenantTx, member: MemberId, step: i64) -> Result<bool> {
    Ok(tx.execute(USE_STEP, [tx.tenant().into(), member.into(), step.into()]).await? == 1)
}

pub(super) async fn use_recovery_code(tx: &TenantTx, member: MemberId, hash: [u8; 32]) -> Result<bool> {
    Ok(tx.execute(USE_CODE, [tx.tenant().into(), member.into(), hash.to_vec().into()]).await? == 1)
}

/// In place of those before.
pub(super) async fn put_recovery_codes(tx: &TenantTx, member: MemberId, codes: &[Secret]) -> Result<()> {
    tx.execute(REMOVE_CODES, [tx.tenant().into(), member.into()]).await?;
    for code in codes {
        let hash = recovery::hash(code).context("keep a recovery code")?;
        tx.execute(PUT_CODE, [tx.tenant().into(), member.into(), hash.to_vec().into()]).await?;
    }
    Ok(())
}

/// False where there was none.
pub(super) async fn remove(tx: &TenantTx, member: MemberId) -> Result<bool> {
    tx.execute(REMOVE_CODES, [tx.tenant().into(), member.into()]).await?;
    Ok(tx.execute(REMOVE, [tx.tenant().into(), member.into()]).await? == 1)
}

/// Seals a batch anew with `version`. Each is written where it is still what was read.
pub(in crate::sessions) async fn reseal(
    isolation: &Isolation,
    keys: &TenantKeys,
    scope: &TenantScope,
    version: KeyVersion,
) -> Result<Resealed> {
    let tx = isolation.begin(scope).await?;
    let rows = tx.rows(BEHIND, [scope.tenant().into(), version.into(), BATCH.into()]).await?;
    tx.commit_unrecorded("a read").await?;
    if rows.is_empty() {
        return Ok(Resealed::All);
    }
    let mut anew = Vec::with_capacity(rows.len());
    for row in &rows {
        let (member, sealed): (MemberId, Vec<u8>) = (row.try_get("", "member_id")?, row.try_get("", "sealed")?);
        let secret = keys.unseal(scope, &purpose(member), &sealed).await?;
        anew.push((member, keys.seal(scope, &purpose(member), &secret).await?, sealed));
    }
    let tx = isolation.begin(scope).await?;
    for (member, Sealed { version, bytes }, before) in anew {
        let values = [scope.tenant().into(), member.into(), version.into(), bytes.into(), before.into()];
        tx.execute(RESEAL, values).await?;
    }
    tx.commit_unrecorded("the same secrets under another key; its rotation is recorded").await?;
    Ok(Resealed::More)
}
