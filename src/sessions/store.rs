//! The rows of sessions and policies.

use chrono::{DateTime, Utc};
use sea_orm::QueryResult;

use super::{
    policy::Policy,
    proof::{Amr, Method},
    session::{EndReason, Session},
};
use crate::{
    error::{Context as _, Result},
    isolation::TenantTx,
    members::Member,
    platform::{
        db::Tx,
        ids::{MemberId, SessionId, TenantId},
        page::{Page, PageRequest},
    },
};

const COLUMNS: &str =
    "session_id, s.member_id, method, amr, tenant_epoch, member_epoch, generation, address, began_at, refreshed_at,
    idle_at, expires_at, ended_at, end_reason";

const INSERT: &str = "
    insert into tenantry.member_sessions
      (tenant_id, session_id, member_id, method, amr, tenant_epoch, member_epoch, generation, address, began_at, refreshed_at, idle_at, expires_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
const REFRESH: &str = "
    update tenantry.member_sessions set generation = $3, refreshed_at = $4, idle_at = $5, expires_at = $6
    where tenant_id = $1 and session_id = $2";
const END: &str = "
    update tenantry.member_sessions set ended_at = $3, end_reason = $4 where tenant_id = $1 and session_id = $2 and ended_at is null";
const LOCK_POLICY: &str =
    "select pg_advisory_xact_lock(hashtextextended('tenantry.session_policies ' || $1::text, 0))::text";
const PUT_POLICY: &str = "
    insert into tenantry.session_policies (tenant_id, session_seconds, idle_seconds, most_sessions, multi_factor, version, updated_at)
    values ($1, $2, $3, $4, $5, $6, $7)
    on conflict (tenant_id) do update set
      session_seconds = excluded.session_seconds, idle_seconds = excluded.idle_seconds, most_sessions = excluded.most_sessions,
      multi_factor = excluded.multi_factor, version = excluded.version, updated_at = excluded.updated_at";

fn session(row: &QueryResult) -> Result<Session> {
    let amr: Vec<String> = row.try_get("", "amr")?;
    let reason: Option<String> = row.try_get("", "end_reason")?;
    Ok(Session {
        id: row.try_get("", "session_id")?,
        member: row.try_get("", "member_id")?,
        method: Method::parse(&row.try_get::<String>("", "method")?).context("read how a session began")?,
        amr: amr.iter().filter_map(|name| Amr::parse(name)).collect(),
        tenant_epoch: row.try_get("", "tenant_epoch")?,
        member_epoch: row.try_get("", "member_epoch")?,
        generation: row.try_get("", "generation")?,
        address: row.try_get("", "address")?,
        began_at: row.try_get("", "began_at")?,
        refreshed_at: row.try_get("", "refreshed_at")?,
        idle_at: row.try_get("", "idle_at")?,
        expires_at: row.try_get("", "expires_at")?,
        ended_at: row.try_get("", "ended_at")?,
        end_reason: reason.and_then(|reason| EndReason::parse(&reason)),
    })
}

pub(super) async fn find(tx: &Tx, tenant: TenantId, id: SessionId) -> Result<Option<Session>> {
    let find = format!("select {COLUMNS} from tenantry.member_sessions s where tenant_id = $1 and session_id = $2");
    tx.row(&find, [tenant.into(), id.into()]).await?.as_ref().map(session).transpose()
}

pub(super) async fn lock(tx: &TenantTx, id: SessionId) -> Result<Option<Session>> {
    let lock =
        format!("select {COLUMNS} from tenantry.member_sessions s where tenant_id = $1 and session_id = $2 for update");
    tx.row(&lock, [tx.tenant().into(), id.into()]).await?.as_ref().map(session).transpose()
}

/// A member's sessions that run, the oldest first, held until the transaction ends.
pub(super) async fn running(tx: &TenantTx, member: &Member, now: DateTime<Utc>) -> Result<Vec<Session>> {
    let find = format!(
        "select {COLUMNS} from tenantry.member_sessions s
         where tenant_id = $1 and member_id = $2 and member_epoch = $3 and ended_at is null and idle_at > $4 and expires_at > $4
         order by session_id for update"
    );
    let values = [tx.tenant().into(), member.id.into(), member.access_epoch.into(), now.into()];
    tx.rows(&find, values).await?.iter().map(session).collect()
}

/// Sessions that run, the newest first: of one member or of all; under the tenant's present access epoch.
pub(super) async fn list(
    tx: &Tx,
    tenant: TenantId,
    (member, epoch): (Option<MemberId>, i64),
    now: DateTime<Utc>,
    page: &PageRequest,
) -> Result<Page<Session>> {
    let before: Option<SessionId> = page.key()?;
    let list = format!(
        "select {COLUMNS} from tenantry.member_sessions s join tenantry.members m on m.tenant_id = s.tenant_id and m.member_id = s.member_id
         where s.tenant_id = $1 and ($2::uuid is null or s.member_id = $2) and s.tenant_epoch = $3 and s.member_epoch = m.access_epoch
           and m.status = 'ACTIVE' and ended_at is null and idle_at > $4 and expires_at > $4 and ($5::uuid is null or session_id < $5)
         order by session_id desc limit $6"
    );
    let most = i64::try_from(page.first).unwrap_or(i64::MAX).saturating_add(1);
    let values = [
        tenant.into(),
        member.map(MemberId::uuid).into(),
        epoch.into(),
        now.into(),
        before.map(SessionId::uuid).into(),
        most.into(),
    ];
    Ok(page.page(tx.rows(&list, values).await?.iter().map(session).collect::<Result<_>>()?))
}

pub(super) async fn insert(tx: &TenantTx, session: &Session) -> Result<()> {
    let amr: Vec<String> = session.amr.iter().map(|amr| amr.name().to_owned()).collect();
    let values = [
        tx.tenant().into(),
        session.id.into(),
        session.member.into(),
        session.method.name().into(),
        amr.into(),
        session.tenant_epoch.into(),
        session.member_epoch.into(),
        session.generation.into(),
        session.address.clone().into(),
        session.began_at.into(),
        session.refreshed_at.into(),
        session.idle_at.into(),
        session.expires_at.into(),
    ];
    tx.execute(INSERT, values).await?;
    Ok(())
}

pub(super) async fn refresh(tx: &TenantTx, session: &Session) -> Result<()> {
    let values = [
        tx.tenant().into(),
        session.id.into(),
        session.generation.into(),
        session.refreshed_at.into(),
        session.idle_at.into(),
        session.expires_at.into(),
    ];
    tx.execute(REFRESH, values).await?;
    Ok(())
}

pub(super) async fn end(tx: &TenantTx, session: &Session) -> Result<()> {
    let reason = session.end_reason.map(EndReason::name);
    tx.execute(END, [tx.tenant().into(), session.id.into(), session.ended_at.into(), reason.into()]).await?;
    Ok(())
}

/// Who sets one tenant's policy goes one after the other.
pub(super) async fn lock_policy(tx: &TenantTx) -> Result<()> {
    tx.row(LOCK_POLICY, [tx.tenant().into()]).await?;
    Ok(())
}

pub(super) async fn put_policy(tx: &TenantTx, policy: &Policy) -> Result<()> {
    let values = [
        tx.tenant().into(),
        policy.session_seconds.into(),
        policy.idle_seconds.into(),
        policy.most_sessions.into(),
        policy.multi_factor.name().into(),
        policy.version.into(),
        policy.updated_at.into(),
    ];
    tx.execute(PUT_POLICY, values).await?;
    Ok(())
}
