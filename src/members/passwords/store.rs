use super::{Cost, Stored};
use crate::{
    error::{Context as _, Result},
    isolation::TenantTx,
    platform::{
        db::Tx,
        ids::{MemberId, TenantId},
    },
};

const PUT: &str = "
    insert into tenantry.member_passwords (tenant_id, member_id, salt, hash, memory_kib, iterations, changed_at) values ($1, $2, $3, $4, $5, $6, $7)
    on conflict (tenant_id, member_id) do update set
      salt = excluded.salt, hash = excluded.hash, memory_kib = excluded.memory_kib, iterations = excluded.iterations, changed_at = excluded.changed_at";
const FIND: &str = "
    select salt, hash, memory_kib, iterations from tenantry.member_passwords where tenant_id = $1 and member_id = $2";

pub(super) async fn put(tx: &TenantTx, member: MemberId, stored: &Stored) -> Result<()> {
    let number = |number: u32| i32::try_from(number).context("keep the cost of a password");
    let values = [
        tx.tenant().into(),
        member.into(),
        stored.salt.clone().into(),
        stored.hash.clone().into(),
        number(stored.cost.memory_kib)?.into(),
        number(stored.cost.iterations)?.into(),
        tx.stamp().at.into(),
    ];
    tx.execute(PUT, values).await?;
    Ok(())
}

pub(super) async fn find(tx: &Tx, tenant: TenantId, member: MemberId) -> Result<Option<Stored>> {
    let Some(row) = tx.row(FIND, [tenant.into(), member.into()]).await? else { return Ok(None) };
    let number = |name: &str| u32::try_from(row.try_get::<i32>("", name)?).context("read the cost of a password");
    let cost = Cost { memory_kib: number("memory_kib")?, iterations: number("iterations")? };
    Ok(Some(Stored { salt: row.try_get("", "salt")?, hash: row.try_get("", "hash")?, cost }))
}
