//! Finding out how much of a tenant's grants is burnt, under the lock of the quota's row of `quota_settlements`. Whoever comes
//! first after a turn does it: a decision, a question, or the schedule. To do it again changes nothing.

use std::{collections::BTreeSet, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::FromQueryResult as _;
use serde_json::json;

use super::{
    Quotas,
    allowance::Allowances,
    desk::Desk,
    granted::Settlement,
    key::{QuotaKey, QuotaKeys},
    ledger::Counter,
    limit::agreed,
    settle::{Books, Changes},
    window::Window,
};
use crate::{
    error::{Context as _, Result},
    grants,
    isolation::{OperatorScope, TenantScope, TenantTx},
    journal::Entry,
    platform::ids::TenantId,
    tenancy::{Catalogue, Parent, Part as _, Plan, Snapshot},
};

/// A period that is over and still holds something is looked at again so soon.
const LOOK_AGAIN: TimeDelta = TimeDelta::minutes(1);

const MAKE: &str = "
    insert into tenantry.quota_settlements (tenant_id, quota_key, quota_window, settled_at) values ($1, $2, $3, $4)
    on conflict do nothing";
const LOCK: &str = "
    select quota_key, quota_window, settled_at, next_turn from tenantry.quota_settlements
    where tenant_id = $1 and quota_key = $2 for update";
const SETTLED: &str = "
    update tenantry.quota_settlements set quota_window = $3, settled_at = $4, next_turn = $5
    where tenant_id = $1 and quota_key = $2";
/// Names of one kind of period sort as the periods do.
const USED: &str = "
    select quota_window, used, reserved from tenantry.quota_usage
    where tenant_id = $1 and quota_key = $2 and quota_window collate \"C\" >= $3
    order by quota_window collate \"C\" for share";
const BURN: &str = "
    insert into tenantry.quota_burns (tenant_id, quota_key, quota_window, grant_id, amount) values ($1, $2, $3, $4, $5)
    on conflict (tenant_id, quota_key, quota_window, grant_id) do update set amount = excluded.amount";
const FORGET: &str = "
    delete from tenantry.quota_burns where tenant_id = $1 and quota_key = $2 and quota_window = $3 and grant_id = $4";
const DUE: &str = "
    select distinct tenant_id from tenantry.quota_settlements where next_turn <= $1 limit 100";

impl Quotas {
    /// Settles what turns have passed of, for the grants of every tenant. A limit that changes later does not count for
    /// periods that are over.
    pub async fn settle_due(&self) -> Result<()> {
        let now = self.isolation.clock().now();
        let tx = self.isolation.begin_operator(&OperatorScope::system("quotas")).await?;
        let rows = tx.rows(DUE, [now.into()]).await?;
        tx.commit_unrecorded("a read").await?;
        for row in rows {
            settle(&self.desk, &[row.try_get("", "tenant_id")?]).await?;
        }
        Ok(())
    }

    /// Settles one quota in the transaction of a change of its grants, before and after the change. Answers what has to be
    /// recorded.
    pub async fn settle_in(&self, tx: &TenantTx, key: &QuotaKey) -> Result<Vec<Entry>> {
        let (tenant, now) = (tx.tenant(), tx.stamp().at);
        let snapshots = self.tenancy.snapshots();
        let snapshot = snapshots.get(tenant).await?.ok_or_else(crate::error::Error::not_found)?;
        let catalogue = snapshots.catalogue().await?;
        let plan = catalogue.plan(&snapshot.tenant.plan).context("find the tenant's plan")?;
        let window = Allowances::load(tx, tenant).await?.granted.window(key, now).unwrap_or_else(Window::forever);
        tx.execute(MAKE, [tenant.into(), key.key.as_str().into(), window.name.into(), now.into()]).await?;
        match lock(tx, key).await? {
            Some(before) => settle_key(tx, &before, plan, key, now).await,
            None => Ok(Vec::new()),
        }
    }
}

/// Settles what turns have passed of, for these tenants; nothing is asked of the database where none has.
pub(super) async fn settle(desk: &Desk, tenants: &[TenantId]) -> Result<()> {
    let snapshots = desk.tenancy.snapshots();
    let mut seen = BTreeSet::new();
    for tenant in tenants {
        let mut next = Some(*tenant);
        while let Some(tenant) = next.filter(|tenant| seen.insert(*tenant)) {
            let Some(snapshot) = snapshots.get(tenant).await? else { break };
            // What rolls up is decided by the parent's limits, too.
            let parent = snapshot.part::<Parent>()?.0.as_ref().filter(|link| link.rolls_up);
            next = parent.map(|link| link.parent_id);
            let now = desk.isolation.clock().now();
            let granted = &snapshot.part::<Allowances>()?.granted;
            if granted.settlements.is_empty() {
                continue;
            }
            let catalogue = snapshots.catalogue().await?;
            if granted.unsettled(catalogue.part::<QuotaKeys>()?, now).next().is_some() {
                settle_tenant(desk, &snapshot, &catalogue, now).await?;
            }
        }
    }
    Ok(())
}

async fn settle_tenant(desk: &Desk, known: &Arc<Snapshot>, catalogue: &Catalogue, now: DateTime<Utc>) -> Result<()> {
    let tenant = known.tenant.id;
    let Some(plan) = catalogue.plan(&known.tenant.plan) else { return Ok(()) };
    let granted = &known.part::<Allowances>()?.granted;
    let tx = desk.isolation.begin(&TenantScope::system("quotas", tenant)).await?;
    let mut entries = Vec::new();
    for key in granted.unsettled(catalogue.part::<QuotaKeys>()?, now) {
        let Some(before) = lock(&tx, key).await? else { continue };
        // Another replica may have been faster.
        let window = granted.window(key, now).unwrap_or_else(Window::forever);
        if before.quota_window == window.name && before.next_turn.is_none_or(|turn| now < turn) {
            continue;
        }
        entries.extend(settle_key(&tx, &before, plan, key, now).await?);
    }
    if entries.is_empty() {
        tx.commit_unrecorded("nothing was burnt").await?;
    } else {
        tx.commit(entries).await?;
    }
    desk.tenancy.snapshots().refresh(tenant).await;
    Ok(())
}

async fn lock(tx: &TenantTx, key: &QuotaKey) -> Result<Option<Settlement>> {
    let row = tx.row(LOCK, [tx.tenant().into(), key.key.as_str().into()]).await?;
    Ok(row.map(|row| Settlement::from_query_result(&row, "")).transpose()?)
}

async fn settle_key(
    tx: &TenantTx,
    before: &Settlement,
    plan: &Plan,
    key: &QuotaKey,
    now: DateTime<Utc>,
) -> Result<Vec<Entry>> {
    let allowances = Allowances::load(tx, tx.tenant()).await?;
    let Some(window) = allowances.granted.window(key, now) else { return Ok(Vec::new()) };
    let was = Books::new(&allowances.granted, &key.key);
    let (mut books, mut holding) = (was.clone(), BTreeSet::new());
    let from = was.oldest().into_iter().chain([before.quota_window.as_str()]).min().unwrap_or_default().to_owned();
    for (name, counter) in used(tx, key, &from).await? {
        let is_last = name == before.quota_window;
        let end = allowances
            .granted
            .window(key, before.settled_at)
            .filter(|last| is_last && name < window.name && last.name == name);
        // What the limit was when the period ended, where that was not looked at before.
        let at = end.and_then(|last| last.resets_at).map_or(now, |end| now.min(end - TimeDelta::microseconds(1)));
        let limit = agreed(key, plan, &allowances, at);
        let overflow = limit.map_or(0, |limit| counter.used.saturating_add(counter.reserved).saturating_sub(limit));
        books.cover(&name, overflow, if is_last { before.settled_at } else { at });
        if name < window.name && counter.reserved > 0 && books.has_burnt(&name) {
            holding.insert(name);
        }
    }
    books.close(|name| name < window.name.as_str() && !holding.contains(name));
    let look_again = (!holding.is_empty()).then(|| now + LOOK_AGAIN);
    let turns = [window.resets_at, books.next_turn(now), look_again];
    let next_turn = if books.is_open(now) { turns.into_iter().flatten().min() } else { None };
    let settled = [tx.tenant().into(), key.key.as_str().into(), window.name.into(), now.into(), next_turn.into()];
    tx.execute(SETTLED, settled).await?;
    write(tx, key, &books, books.changes_since(&was)).await
}

async fn used(tx: &TenantTx, key: &QuotaKey, from: &str) -> Result<Vec<(String, Counter)>> {
    let rows = tx.rows(USED, [tx.tenant().into(), key.key.as_str().into(), from.into()]).await?;
    let counter = |row: sea_orm::QueryResult| {
        let counter = Counter { used: row.try_get("", "used")?, reserved: row.try_get("", "reserved")? };
        Ok((row.try_get("", "quota_window")?, counter))
    };
    rows.into_iter().map(counter).collect()
}

async fn write(tx: &TenantTx, key: &QuotaKey, books: &Books, changes: Changes) -> Result<Vec<Entry>> {
    let tenant = tx.tenant();
    for (window, grant, amount) in changes.burns {
        let place = [tenant.into(), key.key.as_str().into(), window.into(), grant.into()];
        match amount {
            0 => tx.execute(FORGET, place).await?,
            amount => tx.execute(BURN, place.into_iter().chain([amount.into()])).await?,
        };
    }
    let mut entries = Vec::new();
    for (id, by) in changes.burnt {
        grants::add_burnt(tx, tenant, id, by).await?;
        let Some(grant) = books.grant(id) else { continue };
        let burnt = |burnt: i64| Some(json!({ "key": key.key, "burnt": burnt, "amount": grant.amount }));
        let (before, after) = (burnt(grant.burnt - by), burnt(grant.burnt));
        entries.push(Entry { before, after, ..Entry::new("GrantBurnt", "grant", id) });
    }
    Ok(entries)
}
