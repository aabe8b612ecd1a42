//! Partners: systems integrators and others who work for a tenant. A partner is a tenant, too; an operator grants it access to
//! named other tenants, for some scopes, until a time.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{DbErr, FromQueryResult, QueryResult};
use serde::{Deserialize, Serialize};

use super::{Status, Tenancy, change::delta, store};
use crate::{
    access::{Scope, ScopeSet},
    error::{Context as _, Error, Result},
    isolation::{Conditions, OperatorScope, OperatorTx, TenantScope},
    journal::Entry,
    platform::{
        db::Tx,
        ids::TenantId,
        page::{Page, PageRequest},
    },
};

/// Partners that one tenant may have at a time.
const MOST_PARTNERS: i64 = 100;
const LONGEST_REASON: usize = 2000;

/// What a partner may do to a tenant, and until when. It is over at `expires_at` whether anything has run or not.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartnerAccess {
    pub tenant_id: TenantId,
    pub partner_id: TenantId,
    /// Names of scopes.
    pub scopes: Vec<String>,
    pub expires_at: DateTime<Utc>,
    pub reason: String,
    pub granted_by: String,
    pub granted_at: DateTime<Utc>,
    pub revoked_at: Option<DateTime<Utc>>,
    pub version: i64,
}

impl PartnerAccess {
    pub fn is_in_force(&self, now: DateTime<Utc>) -> bool {
        self.revoked_at.is_none() && now < self.expires_at
    }
}

/// Access that is to be granted.
#[derive(Clone, Debug)]
pub struct NewPartnerAccess {
    pub tenant: TenantId,
    pub partner: TenantId,
    pub scopes: Vec<String>,
    pub expires_at: DateTime<Utc>,
    pub reason: String,
}

/// Whether a list has what is over, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Without,
    With,
}

const COLUMNS: &str = "tenant_id, partner_id, scopes, expires_at, reason, granted_by, granted_at, revoked_at, version";

/// Who grants access to one tenant does so after the other: they are counted.
const LOCK: &str = "select pg_advisory_xact_lock(hashtextextended('tenantry.partner_access', $1))::text";

const COUNT: &str = "
    select count(*) as partners from tenantry.partner_access
    where tenant_id = $1 and partner_id <> $2 and revoked_at is null and expires_at > $3";

/// Whether one of the two is above the other, whatever barriers there are.
const RELATED: &str = "
    with recursive above as (
      select tenant_id, parent_id, 1 as height from tenantry.tenant_parents where tenant_id in ($1, $2)
      union all
      select above.tenant_id, p.parent_id, height + 1 from above
      join tenantry.tenant_parents p on p.tenant_id = above.parent_id where height < 1000)
    select exists (select from above where parent_id in ($1, $2)) as related";

const PUT: &str = "
    insert into tenantry.partner_access
      (tenant_id, partner_id, scopes, expires_at, reason, granted_by, granted_at, revoked_at, version)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    on conflict (tenant_id, partner_id) do update set scopes = excluded.scopes, expires_at = excluded.expires_at,
      reason = excluded.reason, granted_by = excluded.granted_by, granted_at = excluded.granted_at,
      revoked_at = excluded.revoked_at, version = excluded.version";

impl Tenancy {
    /// Lets a partner into a tenant, or changes what it may do there. What was granted before is replaced.
    pub async fn grant_partner_access(
        &self,
        scope: &OperatorScope,
        wanted: NewPartnerAccess,
        conditions: &Conditions,
    ) -> Result<PartnerAccess> {
        let tx = self.isolation.begin_operator(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok(answered);
        }
        let (now, tenant) = (tx.stamp().at, wanted.tenant);
        check(&wanted, now, delta(self.rules.max_partner_access))?;
        tx.row(LOCK, [key_of(tenant).into()]).await?;
        check_tenants(&tx, &wanted).await?;
        let before = find(&tx, tenant, wanted.partner).await?;
        conditions.check_version(before.as_ref().map_or(0, |before| before.version))?;
        check_room(&tx, &wanted, now).await?;
        let granted = PartnerAccess {
            tenant_id: tenant,
            partner_id: wanted.partner,
            scopes: scopes_of(&wanted.scopes)?.iter().map(|scope| scope.name().to_owned()).collect(),
            expires_at: wanted.expires_at,
            reason: wanted.reason,
            granted_by: tx.stamp().actor.name.clone(),
            granted_at: now,
            revoked_at: None,
            version: before.as_ref().map_or(1, |before| before.version + 1),
        };
        write(tx, "PartnerAccessGranted", before.as_ref(), &granted, conditions).await?;
        Ok(granted)
    }

    /// Ends a partner's access at once. To do so twice changes nothing.
    pub async fn revoke_partner_access(
        &self,
        scope: &OperatorScope,
        tenant: TenantId,
        partner: TenantId,
        conditions: &Conditions,
    ) -> Result<PartnerAccess> {
        let tx = self.isolation.begin_operator(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok(answered);
        }
        tx.row(LOCK, [key_of(tenant).into()]).await?;
        let before = find(&tx, tenant, partner).await?.ok_or_else(Error::not_found)?;
        conditions.check_version(before.version)?;
        if before.revoked_at.is_some() {
            tx.keep_answer(conditions, &before).await?;
            tx.commit_unrecorded("it was revoked before").await?;
            return Ok(before);
        }
        let revoked = PartnerAccess { revoked_at: Some(tx.stamp().at), version: before.version + 1, ..before.clone() };
        write(tx, "PartnerAccessRevoked", Some(&before), &revoked, conditions).await?;
        Ok(revoked)
    }

    /// Who may reach into a tenant, in the order of their ids.
    pub async fn partners(
        &self,
        scope: &TenantScope,
        ended: Ended,
        request: &PageRequest,
    ) -> Result<Page<PartnerAccess>> {
        let tx = self.isolation.begin(scope).await?;
        let page = self.page(&tx, ("tenant_id", "partner_id"), scope.tenant(), ended, request).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(page)
    }

    /// The tenants that a partner may reach into, in the order of their ids: the rows are theirs, so the platform reads them.
    pub async fn reached_by(&self, scope: &TenantScope, request: &PageRequest) -> Result<Page<PartnerAccess>> {
        let tx = self.isolation.begin_operator(&OperatorScope::system("partners")).await?;
        let page = self.page(&tx, ("partner_id", "tenant_id"), scope.tenant(), Ended::Without, request).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(page)
    }

    async fn page(
        &self,
        tx: &Tx,
        (owner, other): (&str, &str),
        of: TenantId,
        ended: Ended,
        request: &PageRequest,
    ) -> Result<Page<PartnerAccess>> {
        let in_force = match ended {
            Ended::Without => "and revoked_at is null and expires_at > $3",
            Ended::With => "and $3::timestamptz is not null",
        };
        let list = format!(
            "select {COLUMNS} from tenantry.partner_access where {owner} = $1 and ($2::uuid is null or {other} > $2) {in_force}
             order by {other} limit {}",
            request.first + 1
        );
        let after = request.key::<TenantId>()?.map(TenantId::uuid);
        let rows = tx.rows(&list, [of.into(), after.into(), self.isolation.clock().now().into()]).await?;
        let rows = rows.iter().map(|row| PartnerAccess::from_query_result(row, "")).collect::<Result<_, _>>()?;
        Ok(request.page(rows))
    }
}

/// What can be told without asking anybody.
fn check(wanted: &NewPartnerAccess, now: DateTime<Utc>, longest: TimeDelta) -> Result<()> {
    if wanted.partner == wanted.tenant {
        return Err(Error::invalid("partnerId", "is the tenant itself"));
    }
    scopes_of(&wanted.scopes)?;
    if wanted.expires_at <= now {
        return Err(Error::invalid("expiresAt", "must be in the future"));
    }
    if wanted.expires_at - now > longest {
        return Err(Error::invalid("expiresAt", format!("must be within {} seconds", longest.num_seconds())));
    }
    if wanted.reason.trim().is_empty() || wanted.reason.chars().count() > LONGEST_REASON {
        return Err(Error::invalid("reason", format!("must have 1 to {LONGEST_REASON} characters")));
    }
    if wanted.reason.chars().any(|letter| letter.is_control() && letter != '\n') {
        return Err(Error::invalid("reason", "must not hold control characters"));
    }
    Ok(())
}

/// The scopes by these names, each of which a partner can be granted.
fn scopes_of(names: &[String]) -> Result<ScopeSet> {
    if names.is_empty() {
        return Err(Error::invalid("scopes", "must name at least one"));
    }
    let scope = |(index, name): (usize, &String)| {
        let refuse = |rule: &'static str| Error::invalid(format!("scopes[{index}]"), rule);
        let scope = Scope::parse(name).ok_or_else(|| refuse("is unknown"))?;
        match scope {
            _ if !scope.for_tenants() => Err(refuse("is for operators alone")),
            _ if !scope.for_partners() => Err(refuse("would outlive the grant or lead further, so no partner gets it")),
            _ => Ok(scope),
        }
    };
    names.iter().enumerate().map(scope).collect()
}

async fn check_tenants(tx: &OperatorTx, wanted: &NewPartnerAccess) -> Result<()> {
    for (field, id) in [("tenantId", wanted.tenant), ("partnerId", wanted.partner)] {
        let found = store::find(tx, id).await?;
        if found.is_none_or(|found| matches!(found.status, Status::Deleted | Status::Erased)) {
            return Err(Error::invalid(field, "names no tenant that is there"));
        }
    }
    let row = tx.row(RELATED, [wanted.tenant.into(), wanted.partner.into()]).await?.context("walk up the tree")?;
    if row.try_get::<bool>("", "related")? {
        let rule =
            "is above or below the tenant: parents reach down by scopes of their own, as far as no barrier is there";
        return Err(Error::invalid("partnerId", rule));
    }
    Ok(())
}

async fn check_room(tx: &OperatorTx, wanted: &NewPartnerAccess, now: DateTime<Utc>) -> Result<()> {
    let row = tx.row(COUNT, [wanted.tenant.into(), wanted.partner.into(), now.into()]).await?;
    let others: i64 = row.context("count partners")?.try_get("", "partners")?;
    if others >= MOST_PARTNERS {
        return Err(Error::conflict(format!(
            "the tenant has {MOST_PARTNERS} partners; revoke access that is not needed"
        )));
    }
    Ok(())
}

async fn find(tx: &Tx, tenant: TenantId, partner: TenantId) -> Result<Option<PartnerAccess>> {
    let find = format!("select {COLUMNS} from tenantry.partner_access where tenant_id = $1 and partner_id = $2");
    let row: Option<QueryResult> = tx.row(&find, [tenant.into(), partner.into()]).await?;
    let found: Result<_, DbErr> = row.map(|row| PartnerAccess::from_query_result(&row, "")).transpose();
    Ok(found?)
}

/// Keeps it, with its record in the accessed tenant's journal.
async fn write(
    tx: OperatorTx,
    event: &'static str,
    before: Option<&PartnerAccess>,
    after: &PartnerAccess,
    conditions: &Conditions,
) -> Result<()> {
    let values = [
        after.tenant_id.into(),
        after.partner_id.into(),
        after.scopes.clone().into(),
        after.expires_at.into(),
        after.reason.as_str().into(),
        after.granted_by.as_str().into(),
        after.granted_at.into(),
        after.revoked_at.into(),
        after.version.into(),
    ];
    tx.execute(PUT, values).await?;
    tx.keep_answer(conditions, after).await?;
    let entry = Entry::new(event, "partner", after.partner_id).change(before, Some(after))?;
    tx.commit_for(after.tenant_id, [entry]).await
}

/// The tenant as a seed of the lock's key: two tenants that share one wait for each other, and no more.
fn key_of(tenant: TenantId) -> i64 {
    let (high, low) = tenant.uuid().as_u64_pair();
    (high ^ low).cast_signed()
}
