//! The rows of members. Every statement names the tenant beside what PostgreSQL holds it to.

use chrono::{DateTime, Utc};
use sea_orm::{DbErr, QueryResult};
use uuid::Uuid;

use super::member::{Member, Source, Status};
use crate::{
    error::{Error, Result},
    isolation::TenantTx,
    platform::{
        db::{Tx, violated_constraint},
        ids::{MemberId, TenantId},
        page::{Page, PageRequest},
    },
};

const COLUMNS: &str =
    "member_id, email, name, status, source, external_id, roles, access_epoch, version, created_at, updated_at";

/// Locked in one order, so that who changes one and looks at the owners waits for others and never in a circle.
const LOCK: &str = "
    where tenant_id = $1 and (member_id = any($2) or ('owner' = any(roles) and status = 'ACTIVE')) order by member_id for update";

/// Roles are keys without blanks.
const INSERT: &str = "
    insert into tenantry.members
      (tenant_id, member_id, email, email_key, name, status, source, external_id, roles, access_epoch, version, created_at, updated_at)
    select $1, id, email, email_key, name, status, source, nullif(external_id, ''), string_to_array(roles, ' '), epoch, version, $10, $10
    from unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $11::bigint[], $12::bigint[])
      as w (id, email, email_key, name, status, source, external_id, roles, epoch, version)";

const UPDATE: &str = "
    update tenantry.members m set
      email = w.email, email_key = w.email_key, name = w.name, status = w.status, source = w.source,
      external_id = nullif(w.external_id, ''), roles = string_to_array(w.roles, ' '), access_epoch = w.epoch, version = w.version, updated_at = $10
    from unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $11::bigint[], $12::bigint[])
      as w (id, email, email_key, name, status, source, external_id, roles, epoch, version)
    where m.tenant_id = $1 and m.member_id = w.id";

const DELETE: &str = "delete from tenantry.members where tenant_id = $1 and member_id = $2";
const HOLDING: &str = "select count(*) as held from tenantry.members where tenant_id = $1 and $2 = any(roles)";
const HELD: &str = "select distinct unnest(roles) as role from tenantry.members where tenant_id = $1";
const LOCK_SOURCES: &str = "select pg_advisory_xact_lock(hashtextextended('tenantry.members ' || $1::text, 0))::text";
const ANNOUNCE: &str = "select pg_notify('tenantry', $1)::text";

/// Begin of the notification that members of a tenant are no longer what they were; the tenant's id follows.
pub(super) const CHANGED: &str = "members ";

/// Which members a list shows.
#[derive(Clone, Debug, Default)]
pub struct MemberFilter {
    pub status: Option<Status>,
    /// Key of a role.
    pub role: Option<String>,
    /// A part of name or address, whatever the case of its letters.
    pub text: Option<String>,
}

pub(super) fn member(row: &QueryResult) -> Result<Member> {
    Ok(Member {
        id: row.try_get("", "member_id")?,
        email: row.try_get("", "email")?,
        name: row.try_get("", "name")?,
        status: Status::parse(&row.try_get::<String>("", "status")?)?,
        source: Source::parse(&row.try_get::<String>("", "source")?)?,
        external_id: row.try_get("", "external_id")?,
        roles: row.try_get("", "roles")?,
        access_epoch: row.try_get("", "access_epoch")?,
        version: row.try_get("", "version")?,
        created_at: row.try_get("", "created_at")?,
        updated_at: row.try_get("", "updated_at")?,
    })
}

fn members(rows: &[QueryResult]) -> Result<Vec<Member>> {
    rows.iter().map(member).collect()
}

pub(super) async fn find(tx: &Tx, tenant: TenantId, id: MemberId) -> Result<Option<Member>> {
    let find = format!("select {COLUMNS} from tenantry.members where tenant_id = $1 and member_id = $2");
    tx.row(&find, [tenant.into(), id.into()]).await?.as_ref().map(member).transpose()
}

pub(super) async fn find_by_email(tx: &Tx, tenant: TenantId, email_key: &str) -> Result<Option<Member>> {
    let find = format!("select {COLUMNS} from tenantry.members where tenant_id = $1 and email_key = $2");
    tx.row(&find, [tenant.into(), email_key.into()]).await?.as_ref().map(member).transpose()
}

pub(super) async fn find_by_external_id(tx: &TenantTx, external_id: &str) -> Result<Vec<Member>> {
    let find = format!(
        "select {COLUMNS} from tenantry.members
         where tenant_id = $1 and source in ('LOCAL', 'DIRECTORY', 'SSO', 'SCIM') and external_id = $2 order by member_id"
    );
    members(&tx.rows(&find, [tx.tenant().into(), external_id.into()]).await?)
}

/// Roles that any member has, whatever its state.
pub(super) async fn held_roles(tx: &TenantTx) -> Result<Vec<String>> {
    let rows = tx.rows(HELD, [tx.tenant().into()]).await?;
    rows.iter().map(|row| Ok(row.try_get("", "role")?)).collect()
}

/// One member, held until the transaction ends.
pub(super) async fn hold(tx: &TenantTx, id: MemberId) -> Result<Option<Member>> {
    let hold = format!("select {COLUMNS} from tenantry.members where tenant_id = $1 and member_id = $2 for update");
    tx.row(&hold, [tx.tenant().into(), id.into()]).await?.as_ref().map(member).transpose()
}

/// These members and every active owner, held until the transaction ends.
#[derive(Debug)]
pub(super) struct Locked {
    pub(super) members: Vec<Member>,
    pub(super) owners: Vec<Member>,
}

pub(super) async fn lock(tx: &TenantTx, ids: &[MemberId]) -> Result<Locked> {
    let wanted: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let lock = format!("select {COLUMNS} from tenantry.members {LOCK}");
    let locked = members(&tx.rows(&lock, [tx.tenant().into(), wanted.into()]).await?)?;
    let owners = locked.iter().filter(|member| member.is_active_owner()).cloned().collect();
    Ok(Locked { members: locked.into_iter().filter(|member| ids.contains(&member.id)).collect(), owners })
}

/// One member and every active owner.
pub(super) async fn lock_one(tx: &TenantTx, id: MemberId) -> Result<(Member, Vec<Member>)> {
    let Locked { mut members, owners } = lock(tx, &[id]).await?;
    Ok((members.pop().ok_or_else(Error::not_found)?, owners))
}

/// Those that a source knows by these ids, or that have these addresses.
pub(super) async fn find_known(
    tx: &TenantTx,
    source: Source,
    external_ids: &[String],
    email_keys: &[String],
) -> Result<Vec<Member>> {
    let find = format!(
        "select {COLUMNS} from tenantry.members
         where tenant_id = $1 and (source = $2 and external_id = any($3) or email_key = any($4)) order by member_id"
    );
    let values = [tx.tenant().into(), source.name().into(), external_ids.to_vec().into(), email_keys.to_vec().into()];
    members(&tx.rows(&find, values).await?)
}

/// Sources that change one tenant's members go one after the other, so that none makes a member whom another is making.
pub(super) async fn lock_sources(tx: &TenantTx) -> Result<()> {
    tx.row(LOCK_SOURCES, [tx.tenant().into()]).await?;
    Ok(())
}

/// All that a source is answerable for.
pub(super) async fn of_source(tx: &TenantTx, source: Source) -> Result<Vec<Member>> {
    let find =
        format!("select {COLUMNS} from tenantry.members where tenant_id = $1 and source = $2 order by member_id");
    members(&tx.rows(&find, [tx.tenant().into(), source.name().into()]).await?)
}

pub(super) async fn list(tx: &Tx, tenant: TenantId, filter: &MemberFilter, page: &PageRequest) -> Result<Page<Member>> {
    let after: Option<MemberId> = page.key()?;
    let list = format!(
        "select {COLUMNS} from tenantry.members
         where tenant_id = $1 and ($2::uuid is null or member_id > $2) and ($3::text is null or status = $3)
           and ($4::text is null or $4 = any(roles))
           and ($5::text is null or position($5 in email_key) > 0 or position($5 in lower(name)) > 0)
         order by member_id limit $6"
    );
    let most = i64::try_from(page.first).unwrap_or(i64::MAX).saturating_add(1);
    let values = [
        tenant.into(),
        after.map(MemberId::uuid).into(),
        filter.status.map(Status::name).into(),
        filter.role.clone().into(),
        filter.text.as_ref().map(|text| text.to_lowercase()).into(),
        most.into(),
    ];
    Ok(page.page(members(&tx.rows(&list, values).await?)?))
}

pub(super) async fn insert(tx: &TenantTx, members: &[Member]) -> Result<()> {
    write(tx, INSERT, members).await
}

pub(super) async fn update(tx: &TenantTx, members: &[Member]) -> Result<()> {
    write(tx, UPDATE, members).await
}

async fn write(tx: &TenantTx, sql: &str, members: &[Member]) -> Result<()> {
    if members.is_empty() {
        return Ok(());
    }
    let text = |of: fn(&Member) -> String| -> sea_orm::Value { members.iter().map(of).collect::<Vec<_>>().into() };
    let values = [
        tx.tenant().into(),
        members.iter().map(|member| member.id.uuid()).collect::<Vec<_>>().into(),
        text(|member| member.email.clone()),
        text(|member| member.email.to_lowercase()),
        text(|member| member.name.clone()),
        text(|member| member.status.name().to_owned()),
        text(|member| member.source.name().to_owned()),
        text(|member| member.external_id.clone().unwrap_or_default()),
        text(|member| member.roles.join(" ")),
        tx.stamp().at.into(),
        members.iter().map(|member| member.access_epoch).collect::<Vec<_>>().into(),
        members.iter().map(|member| member.version).collect::<Vec<_>>().into(),
    ];
    let written = tx.execute(sql, values).await.map_err(taken)?;
    if usize::try_from(written) == Ok(members.len()) {
        Ok(())
    } else {
        Err(Error::internal(format!("{written} members were written in place of {}", members.len())))
    }
}

fn taken(error: DbErr) -> Error {
    match violated_constraint(&error) {
        Some("members_email") => Error::conflict("there is a member with this address already").at("email"),
        Some("members_external") => {
            Error::conflict("there is a member with this id of its source already").at("externalId")
        }
        _ => error.into(),
    }
}

pub(super) async fn delete(tx: &TenantTx, id: MemberId) -> Result<()> {
    tx.execute(DELETE, [tx.tenant().into(), id.into()]).await?;
    Ok(())
}

/// How many members hold a role.
pub(super) async fn holding(tx: &TenantTx, role: &str) -> Result<i64> {
    let row = tx.row(HOLDING, [tx.tenant().into(), role.into()]).await?;
    Ok(row.map(|row| row.try_get("", "held")).transpose()?.unwrap_or_default())
}

/// Tells all replicas, when `tx` commits, that sessions of the tenant's members are to be looked up again.
pub(super) async fn announce(tx: &TenantTx) -> Result<()> {
    tx.row(ANNOUNCE, [format!("{CHANGED}{}", tx.tenant()).into()]).await?;
    Ok(())
}

const PUT_LINK: &str = "
    insert into tenantry.member_links (tenant_id, member_id, purpose, token_hash, created_at, expires_at) values ($1, $2, $3, $4, $5, $6)
    on conflict (tenant_id, member_id, purpose) do update set
      token_hash = excluded.token_hash, created_at = excluded.created_at, expires_at = excluded.expires_at";
const TAKE_LINK: &str = "
    delete from tenantry.member_links where tenant_id = $1 and token_hash = $2 and purpose = $3 returning member_id, expires_at";
const DROP_LINKS: &str = "delete from tenantry.member_links where tenant_id = $1 and member_id = $2";

/// What a link is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Invitation,
    Password,
}

impl Purpose {
    const fn name(self) -> &'static str {
        match self {
            Self::Invitation => "INVITATION",
            Self::Password => "PASSWORD",
        }
    }
}

/// In place of the link before.
pub(super) async fn put_link(
    tx: &TenantTx,
    member: MemberId,
    purpose: Purpose,
    hash: [u8; 32],
    expires_at: DateTime<Utc>,
) -> Result<()> {
    let values = [
        tx.tenant().into(),
        member.into(),
        purpose.name().into(),
        hash.to_vec().into(),
        tx.stamp().at.into(),
        expires_at.into(),
    ];
    tx.execute(PUT_LINK, values).await?;
    Ok(())
}

/// Whose link it is. It is gone with this: of two that follow it at once, one finds it.
pub(super) async fn take_link(tx: &TenantTx, purpose: Purpose, hash: [u8; 32]) -> Result<Option<MemberId>> {
    let row = tx.row(TAKE_LINK, [tx.tenant().into(), hash.to_vec().into(), purpose.name().into()]).await?;
    let Some(row) = row else { return Ok(None) };
    let expires_at: DateTime<Utc> = row.try_get("", "expires_at")?;
    Ok((tx.stamp().at < expires_at).then(|| row.try_get("", "member_id")).transpose()?)
}

pub(super) async fn drop_links(tx: &TenantTx, member: MemberId) -> Result<()> {
    tx.execute(DROP_LINKS, [tx.tenant().into(), member.into()]).await?;
    Ok(())
}
