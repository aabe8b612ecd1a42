use sea_orm::{FromQueryResult as _, Value};

use super::{
    chain::{GENESIS, Hash, Link, link_hash},
    entry::{Entry, Stamp},
};
use crate::{
    error::{Context as _, Error, Result},
    platform::{
        db::Tx,
        ids::{EntryId, TenantId},
    },
};

#[derive(sea_orm::FromQueryResult)]
pub(super) struct Head {
    pub(super) sequence: i64,
    hash: Vec<u8>,
}

impl Head {
    pub(super) fn hash(&self) -> Result<Hash> {
        self.hash.as_slice().try_into().map_err(|_| "a hash has 32 bytes").context("read the chain's head")
    }
}

/// What an entry becomes behind `previous`.
pub(super) struct Row {
    pub(super) id: EntryId,
    pub(super) before: Option<String>,
    pub(super) after: Option<String>,
    pub(super) address: Option<String>,
    pub(super) hash: Hash,
}

impl Row {
    pub(super) fn of(tenant: TenantId, sequence: i64, previous: &Hash, stamp: &Stamp, entry: &Entry) -> Self {
        let id = EntryId::generate();
        let before = entry.before.as_ref().map(ToString::to_string);
        let after = entry.after.as_ref().map(ToString::to_string);
        let address = stamp.address.map(|address| address.to_string());
        let hash = link_hash(
            previous,
            &Link {
                tenant,
                sequence,
                entry: id,
                at: stamp.at,
                event: entry.event,
                actor_kind: stamp.actor.kind.name(),
                actor: &stamp.actor.name,
                subject_kind: entry.subject_kind,
                subject_id: &entry.subject_id,
                before: before.as_deref(),
                after: after.as_deref(),
                request_id: stamp.request_id.as_deref(),
                address: address.as_deref(),
            },
        );
        Self { id, before, after, address, hash }
    }
}

/// Takes the tenant's chain for this transaction: writers of one tenant go one after the other from here to commit.
const LOCK_HEAD: &str = "
    insert into tenantry.journal_heads (tenant_id, sequence, hash) values ($1, 0, $2)
    on conflict (tenant_id) do update set tenant_id = excluded.tenant_id
    returning sequence, hash";

const INSERT: &str = "
    insert into tenantry.journal
      (tenant_id, sequence, entry_id, at, event, actor_kind, actor, subject_kind, subject_id, before, after,
       request_id, address, previous_hash, hash)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::json, $11::json, $12, $13, $14, $15)";

/// Moves the head, and wakes every replica when this transaction commits.
const MOVE_HEAD: &str = "
    update tenantry.journal_heads set sequence = $2, hash = $3, unsigned_since = coalesce(unsigned_since, $4)
    where tenant_id = $1 returning pg_notify('tenantry', $1::text)::text";

/// Appends `entries` to the chain of `tenant`, inside `tx`. None at all is an error: a change has a record.
pub async fn append(tx: &Tx, tenant: TenantId, stamp: &Stamp, entries: &[Entry]) -> Result<()> {
    if entries.is_empty() {
        return Err(Error::internal("a change would be committed without a record"));
    }
    let row = tx.row(LOCK_HEAD, [tenant.into(), GENESIS.to_vec().into()]).await?.context("lock the chain")?;
    let head = Head::from_query_result(&row, "")?;
    let mut sequence = head.sequence;
    let mut hash = head.hash()?;
    for entry in entries {
        sequence += 1;
        hash = insert(tx, tenant, sequence, &hash, stamp, entry).await?;
    }
    tx.row(MOVE_HEAD, [tenant.into(), sequence.into(), hash.to_vec().into(), stamp.at.into()]).await?;
    Ok(())
}

async fn insert(
    tx: &Tx,
    tenant: TenantId,
    sequence: i64,
    previous: &Hash,
    stamp: &Stamp,
    entry: &Entry,
) -> Result<Hash> {
    let row = Row::of(tenant, sequence, previous, stamp, entry);
    let values: [Value; 15] = [
        tenant.into(),
        sequence.into(),
        row.id.into(),
        stamp.at.into(),
        entry.event.into(),
        stamp.actor.kind.name().into(),
        stamp.actor.name.as_str().into(),
        entry.subject_kind.into(),
        entry.subject_id.as_str().into(),
        row.before.into(),
        row.after.into(),
        stamp.request_id.clone().into(),
        row.address.into(),
        previous.to_vec().into(),
        row.hash.to_vec().into(),
    ];
    tx.execute(INSERT, values).await?;
    Ok(row.hash)
}
