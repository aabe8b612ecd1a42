//! What a tenant has used, may use, and reserves.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use serde_json::json;

use super::{
    Allowances, QuotaKeys, Quotas,
    allowance::{Boost, Override},
    batch::{Answer, Ask, Job, Named, Standing},
    counted::Usage,
    freeing,
    key::QuotaKey,
    known::Known,
    leases::{Asked, Basis, Drawn},
    ledger::{Counter, CounterKey, Lease},
    limit::{Limit, Source, limit, steps},
    settling, store,
    window::Window,
};
use crate::{
    error::{Context as _, Error, Result},
    isolation::{IdempotencyKey, TenantScope, TenantTx},
    platform::{
        db::Heard,
        ids::{ReservationId, TenantId},
    },
    tenancy::{Part as _, Plan, Tenant},
};

/// Lines that one reservation may have.
const MOST_LINES: usize = 20;
const EXPIRE_ROUNDS: usize = 20;

/// So much of this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub key: String,
    pub amount: i64,
}

/// One quota of a tenant, with what led to its limit.
#[derive(Clone, Debug)]
pub struct Quota {
    pub key: QuotaKey,
    pub limit: Limit,
    pub counter: Counter,
    pub resets_at: Option<DateTime<Utc>>,
    /// The limit before overrides and boosts.
    pub plan_limit: Option<i64>,
    pub contract: Option<Override>,
    pub boosts: Vec<Boost>,
    /// Version of the tenant and of the platform that it was decided on.
    pub version: String,
}

/// Whether a line would fit, now.
#[derive(Clone, Debug)]
pub struct Preview {
    pub requested: i64,
    pub fits: bool,
    pub standing: Standing,
}

impl Quotas {
    /// All quotas of the catalogue, as the tenant has them; `keys` names those that are wanted.
    pub async fn list(&self, scope: &TenantScope, keys: Option<&[String]>) -> Result<Vec<Quota>> {
        let (tenant, now) = (scope.tenant(), self.isolation.clock().now());
        let known = self.known(tenant).await?;
        let mut wanted = Vec::new();
        for key in known.keys()?.all() {
            if keys.is_none_or(|keys| keys.contains(&key.key)) {
                wanted.push((key.clone(), known.window(tenant, key, now)?));
            }
        }
        let counted = wanted.iter().filter(|(key, _)| key.is_counted());
        let usage = self.usage(scope, counted.map(|(_, window)| window.name.clone()).collect()).await?;
        let quota = |(key, window): (QuotaKey, Window)| {
            let mut counter = usage.counter(&key.key, &window.name);
            counter.reserved = self.promised_of(counter.reserved, tenant, &key.key, &window.name);
            let (plan_limit, contract, boosts) = known.led_to(tenant, &key, now)?;
            let (limit, version) = (known.limit(tenant, &key, now)?, known.version(tenant)?);
            Ok(Quota { limit, counter, resets_at: window.resets_at, plan_limit, contract, boosts, version, key })
        };
        wanted.into_iter().map(quota).collect()
    }

    /// The catalogue.
    pub async fn definitions(&self) -> Result<Vec<QuotaKey>> {
        Ok(self.tenancy.snapshots().catalogue().await?.part::<QuotaKeys>()?.all().to_vec())
    }

    /// What `reserve` would say to each line. Nothing is held: somebody else may be faster.
    pub async fn preview(&self, scope: &TenantScope, lines: &[Line]) -> Result<Vec<Preview>> {
        check_lines(lines)?;
        let (tenant, now) = (scope.tenant(), self.isolation.clock().now());
        let known = self.known(tenant).await?;
        let counters: Result<Vec<CounterKey>> = lines
            .iter()
            .enumerate()
            .map(|(index, line)| known.counter(tenant, &line.key, &format!("lines[{index}].key"), now))
            .collect();
        let counters = counters?;
        let usage = self.usage(scope, counters.iter().map(|counter| counter.window.clone()).collect()).await?;
        let preview = |(line, counter): (&Line, CounterKey)| {
            let key = known.keys()?.find(&line.key).context("find a quota again")?;
            let (limit, found) = (known.limit(tenant, key, now)?, usage.counter(&counter.key, &counter.window));
            let standing = Standing {
                key: line.key.clone(),
                limit: limit.limit,
                used: found.used,
                reserved: self.promised_of(found.reserved, tenant, &line.key, &counter.window),
                resets_at: known.window(tenant, key, now)?.resets_at,
                version: known.version(tenant)?,
            };
            let after = standing.used.saturating_add(standing.reserved).saturating_add(line.amount);
            Ok(Preview { requested: line.amount, fits: limit.ceiling().is_none_or(|most| after <= most), standing })
        };
        lines.iter().zip(counters).map(preview).collect()
    }

    /// Holds all lines, or none.
    pub async fn reserve(
        &self,
        scope: &TenantScope,
        lines: &[Line],
        lasts: Option<TimeDelta>,
        once: Option<IdempotencyKey>,
    ) -> Result<Answer> {
        check_lines(lines)?;
        let longest = delta(self.rules.longest_reservation);
        if lasts.is_some_and(|lasts| lasts < TimeDelta::seconds(1) || lasts > longest) {
            let rule = format!("must be between 1 and {}", longest.num_seconds());
            return Err(Error::invalid("expiresInSeconds", rule));
        }
        let is_plain = lasts.is_none() && once.is_none();
        let lease = match lines {
            [line] if is_plain => match self.draw(scope.tenant(), line).await? {
                Asked::Drawn(drawn) => return Ok(self.promised(*drawn, line.amount)),
                Asked::Wanting(wanted) => wanted,
            },
            _ => None,
        };
        let lasts = lasts.unwrap_or_else(|| self.desk.reservation());
        let lines = lines.iter().map(|line| (line.key.clone(), line.amount)).collect();
        self.ask(scope, Ask::Reserve { lines, lasts, once, lease }).await
    }

    /// What this replica has leased, where it knows the tenant and the catalogue as they are.
    async fn draw(&self, tenant: TenantId, line: &Line) -> Result<Asked> {
        let (snapshots, now) = (self.tenancy.snapshots(), self.isolation.clock().now());
        let catalogue = snapshots.catalogue().await?;
        let is_counted = catalogue.part::<QuotaKeys>()?.find(&line.key).is_some_and(QuotaKey::is_counted);
        let Some(tenant_known) = snapshots.cached(tenant).filter(|_| is_counted) else {
            return Ok(Asked::Wanting(None));
        };
        let basis = Basis { tenant: tenant_known.version, platform: catalogue.version };
        Ok(self.desk.leases.ask(tenant, &line.key, line.amount, now, basis))
    }

    /// What was drawn, as the reservation that the client gets.
    fn promised(&self, drawn: Drawn, amount: i64) -> Answer {
        let Drawn { mut row, serial, standing } = drawn;
        let ticket = self.desk.stamp.issue(row.tenant, row.id, serial, amount);
        for hold in &mut row.holds {
            hold.amount = amount;
        }
        (row.lease, row.ticket) = (Lease::None, Some(ticket));
        Answer { reservation: Some(row), standings: vec![standing] }
    }

    /// Counts as used what was reserved, or less of it where `actual` says so.
    pub async fn commit(&self, scope: &TenantScope, id: &str, actual: &[Line]) -> Result<Answer> {
        let by_key: BTreeMap<_, _> = actual.iter().map(|line| (line.key.clone(), line.amount)).collect();
        if by_key.len() < actual.len() {
            return Err(Error::invalid("lines", "name a quota twice"));
        }
        self.ask(scope, Ask::Commit { of: self.named(scope, id)?, actual: by_key }).await
    }

    pub async fn release(&self, scope: &TenantScope, id: &str) -> Result<Answer> {
        self.ask(scope, Ask::Release { of: self.named(scope, id)? }).await
    }

    /// An id that no reservation has is not there, whatever it looks like.
    fn named(&self, scope: &TenantScope, id: &str) -> Result<Named> {
        if let Some(ticket) = self.desk.stamp.read(scope.tenant(), id) {
            return Ok(Named::Ticket(ticket));
        }
        id.parse().map(Named::Id).map_err(|_| Error::not_found())
    }

    /// Takes over how much another system has counted.
    pub async fn set_used(&self, scope: &TenantScope, key: &str, used: i64) -> Result<Answer> {
        if used < 0 {
            return Err(Error::invalid("used", "must not be negative"));
        }
        self.ask(scope, Ask::SetUsed { key: key.to_owned(), used }).await
    }

    /// Counts so much more of a level, or less, for who keeps what is counted: once for each `id`, for 30 days. The limit is not
    /// asked: what is counted is there, or is no more.
    pub async fn count(&self, scope: &TenantScope, id: ReservationId, key: &str, by: i64) -> Result<Answer> {
        self.ask(scope, Ask::Count { id, key: key.to_owned(), by }).await
    }

    /// Frees what reservations held too long.
    pub async fn expire_due(&self) -> Result<usize> {
        let mut ended = 0;
        for _ in 0..EXPIRE_ROUNDS {
            match self.desk.expire().await? {
                0 => break,
                more => ended += more,
            }
        }
        Ok(ended)
    }

    /// Follows the listener: another replica would refuse what this one has leased and nobody took.
    pub fn hear(&self, heard: &Heard) {
        self.desk.counted.hear(heard);
        let Heard::Notified(told) = heard else { return };
        let Some((tenant, key)) = freeing::recalled(told) else { return };
        if self.desk.leases.stop(tenant, key) {
            let desk = self.desk.clone();
            // Not here: what is heard next must not wait for the database.
            tokio::spawn(async move {
                if let Err(error) = freeing::free(&desk, &BTreeSet::from([tenant])).await {
                    tracing::warn!(%error, "what was recalled of a lease comes back later");
                }
            });
        }
    }

    /// Gives back what this replica leased and did not promise in time.
    pub async fn close_due_leases(&self) -> Result<()> {
        freeing::close(&self.desk, Some(self.isolation.clock().now())).await
    }

    /// Gives back all that this replica leased and did not promise: it stops.
    pub async fn close_leases(&self) -> Result<()> {
        freeing::close(&self.desk, None).await
    }

    /// Forgets reservations that ended long ago.
    pub async fn purge_ended(&self) -> Result<u64> {
        let before = self.isolation.clock().now() - delta(self.rules.keep_ended);
        let tx = self.isolation.begin_operator(&crate::isolation::OperatorScope::system("quotas")).await?;
        let purged = store::purge(&tx, before, 1000).await?;
        tx.commit_unrecorded("what ended is no longer asked for").await?;
        Ok(purged)
    }

    /// What is held of a counter without what this replica leased of it and has promised to nobody.
    pub(super) fn promised_of(&self, reserved: i64, tenant: TenantId, key: &str, window: &str) -> i64 {
        reserved.saturating_sub(self.desk.leases.idle(tenant, key, window)).max(0)
    }

    async fn ask(&self, scope: &TenantScope, ask: Ask) -> Result<Answer> {
        let (tenant, subject) = (scope.tenant(), scope.caller().actor().name);
        self.desk.ask(Job { tenant, subject, ask, is_patient: true }).await
    }

    async fn known(&self, tenant: TenantId) -> Result<Known> {
        settling::settle(&self.desk, &[tenant]).await?;
        Known::read(&self.desk, [tenant].into_iter()).await
    }

    /// What the tenant has used and holds in these windows, from memory where that knows.
    async fn usage(&self, scope: &TenantScope, windows: BTreeSet<String>) -> Result<Arc<Usage>> {
        if windows.is_empty() {
            return Ok(Arc::default());
        }
        let (tenant, counted) = (scope.tenant(), &self.desk.counted);
        if let Some(known) = counted.get(tenant, &windows) {
            return Ok(known);
        }
        let count = counted.count(tenant);
        let tx = self.isolation.begin(scope).await?;
        let mut read = store::read_counters(&tx, &[tenant], &windows).await?;
        tx.commit_unrecorded("a read").await?;
        let usage = Arc::new(Usage { windows, counters: read.remove(&tenant).unwrap_or_default() });
        counted.keep(tenant, count, usage.clone());
        Ok(usage)
    }
}

/// The plan's limit, the override and the boosts behind a quota's limit.
pub(super) type LedTo = (Option<i64>, Option<Override>, Vec<Boost>);

pub(super) fn led_to(key: &QuotaKey, plan: &Plan, allowances: &Allowances, now: DateTime<Utc>) -> LedTo {
    let mut led_to = (key.default_limit, None, Vec::new());
    for step in steps(key, plan, allowances, now) {
        match step.source {
            Source::Catalogue(_) | Source::Plan(_) => led_to.0 = step.limit,
            Source::Override(contract) => led_to.1 = Some(contract.clone()),
            Source::Boost(boost) => led_to.2.push(boost.clone()),
            Source::Grant(_) => {}
        }
    }
    led_to
}

/// The counted quotas of which the tenant has more than the plan would let it have, with its overrides and boosts. Their
/// counters are held until the change is committed, so that nobody grows meanwhile.
pub(super) async fn outgrown(tx: &TenantTx, tenant: &Tenant, plan: &Plan) -> Result<Vec<serde_json::Value>> {
    let (keys, allowances) = (QuotaKeys::load(tx, tenant.id).await?, Allowances::load(tx, tenant.id).await?);
    let now = tx.stamp().at;
    let zone = tenant.profile.time_zone.as_deref().and_then(|zone| zone.parse().ok()).unwrap_or(Tz::UTC);
    let window = |key: &QuotaKey| key.period.map_or_else(Window::forever, |period| Window::at(period, now, zone));
    let counted = keys.all().iter().filter(|key| key.is_counted());
    let counters: BTreeSet<_> = counted.clone().map(|key| counter(tenant.id, &key.key, &window(key).name)).collect();
    let found = store::share_counters(tx, &counters).await?;
    let in_the_way = counted.filter_map(|key| {
        let has = found.get(&counter(tenant.id, &key.key, &window(key).name)).copied().unwrap_or_default();
        let limit = limit(key, plan, &allowances, now);
        let over = limit.ceiling().is_some_and(|most| has.used.saturating_add(has.reserved) > most);
        over.then(|| json!({ "key": key.key, "limit": limit.limit, "used": has.used, "reserved": has.reserved }))
    });
    Ok(in_the_way.collect())
}

fn check_lines(lines: &[Line]) -> Result<()> {
    if lines.is_empty() || lines.len() > MOST_LINES {
        return Err(Error::invalid("lines", format!("must be 1 to {MOST_LINES}")));
    }
    for (index, line) in lines.iter().enumerate() {
        if line.amount < 1 {
            return Err(Error::invalid(format!("lines[{index}].amount"), "must be at least 1"));
        }
        if lines[..index].iter().any(|earlier| earlier.key == line.key) {
            return Err(Error::invalid(format!("lines[{index}].key"), "is named twice"));
        }
    }
    Ok(())
}

fn counter(tenant: TenantId, key: &str, window: &str) -> CounterKey {
    CounterKey { tenant, key: key.to_owned(), window: window.to_owned() }
}

fn delta(duration: std::time::Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}
