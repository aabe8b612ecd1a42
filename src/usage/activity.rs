//! Who was active, for how long, and with what: of the events themselves, as long as they are kept.

use chrono::TimeDelta;
use sea_orm::{QueryResult, Value};

use super::{
    Usage,
    dimension::{Aggregation, Dimension, Dimensions},
    store::{Question, end_of_day, place},
    window::{self, Bounds},
};
use crate::{
    error::{Error, Result},
    isolation::{TenantScope, TenantTx},
};

/// Sessions that begin in one window: how many, and how many seconds they lasted, from their first event to their last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sessions {
    /// The place of the window.
    pub window: usize,
    pub count: i64,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p95: f64,
    pub p99: f64,
}

/// What had one value of a label in one window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// The place of the window.
    pub window: usize,
    pub value: String,
    pub events: i64,
    /// Different subjects of these events.
    pub users: i64,
}

/// Events of a dimension one by one, those that are in no total yet and those that are, of a span of time. The third is `end_of_day` of the second.
macro_rules! events {
    ($from:literal, $until:literal, $day:literal) => {
        concat!(
            events!(table "usage_inbox", $from, $until), " union all ",
            events!(table "usage_events", $from, $until), " and stored.last_at < ", $day
        )
    };
    (table $table:literal, $from:literal, $until:literal) => {
        concat!(
            "select event.at, event.labels, event.subject from tenantry.", $table, " stored,
             unnest(stored.dimensions, stored.times, stored.groups, stored.subjects) as event (dimension_id, at, labels, subject)
             where stored.tenant_id = $1 and event.dimension_id = $2 and stored.last_at >= ", $from, " and stored.first_at < ", $until, "
                and event.at >= ", $from, " and event.at < ", $until
        )
    };
}

macro_rules! windows {
    () => {
        "windows as materialized (
            select place, begins, ends from unnest($3::timestamptz[], $4::timestamptz[]) with ordinality as windows (begins, ends, place)
        )"
    };
}

/// Looks back as long as a pause may be, to tell whether what begins goes on, and a day ahead for the ends of sessions.
const SESSIONS: &str = concat!(
    "with ", windows!(), ", sent as (", events!("$6", "$7", "$8"), "), steps as (
        select subject, at, at - lag(at) over (partition by subject order by at) < $5::bigint * interval '1 second' as goes_on
        from sent where subject <> ''
    ), numbered as (
        select subject, at, count(*) filter (where goes_on is not true) over (partition by subject order by at rows unbounded preceding) as session
        from steps
    ), sessions as (
        select min(at) as at, extract(epoch from max(at) - min(at))::float8 as lasted from numbered group by subject, session
    )
    select place, count(*) as count, avg(lasted) as mean,
        percentile_disc(0.5) within group (order by lasted) as p50, percentile_disc(0.9) within group (order by lasted) as p90,
        percentile_disc(0.95) within group (order by lasted) as p95, percentile_disc(0.99) within group (order by lasted) as p99
    from windows join sessions on at >= begins and at < ends group by 1 order by 1"
);
const FEATURES: &str = concat!(
    "with ", windows!(), ", sent as (", events!("$7", "$8", "$9"), "), valued as (
        select at, subject, case when labels <> '' then labels::jsonb ->> $5 end as value from sent
    )
    select place, value, count(*) as events, count(distinct subject) filter (where subject <> '') as users
    from windows join valued on at >= begins and at < ends where value is not null group by 1, 2 order by 1, 3 desc, 2 limit $6"
);

impl Usage {
    /// How many different subjects the events of each window have; those without one are nobody's. Windows without any are not told.
    pub async fn active_users(
        &self,
        scope: &TenantScope,
        dimension: &str,
        windows: &[Bounds],
    ) -> Result<Vec<(usize, i64)>> {
        let dimension = self.measured(dimension).await?;
        let counts_each = matches!(dimension.aggregation, Aggregation::UniqueCount | Aggregation::DailyUniqueCount);
        let tx = self.isolation.begin(scope).await?;
        let (tenant, now) = (tx.tenant(), self.isolation.clock().now());
        let question = Question { tenant, dimension: dimension.dimension_id, windows, now, only: Some("{}") };
        let found = question.members(&tx, counts_each && window::pieces(windows).is_some()).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(found.into_iter().map(|(place, _, members)| (place, members)).collect())
    }

    /// A subject's events, each less than `pause` after the one before, are one session; it belongs to the window that it begins in.
    pub async fn sessions(
        &self,
        scope: &TenantScope,
        dimension: &str,
        windows: &[Bounds],
        pause: TimeDelta,
    ) -> Result<Vec<Sessions>> {
        let dimension = self.measured(dimension).await?;
        let tx = self.isolation.begin(scope).await?;
        let mut values = asked(&tx, &dimension, windows);
        values.push(pause.num_seconds().into());
        values.extend(span(windows, pause, TimeDelta::days(1)));
        let rows = tx.rows(SESSIONS, values).await?;
        tx.commit_unrecorded("a read").await?;
        rows.iter().map(sessions).collect()
    }

    /// Events by value of a label that the dimension's totals are kept apart by, at most so many figures; events without it are not told.
    pub async fn features(
        &self,
        scope: &TenantScope,
        (dimension, label): (&str, &str),
        windows: &[Bounds],
        most: i64,
    ) -> Result<Vec<Feature>> {
        let dimension = self.measured(dimension).await?;
        if !dimension.group_by.0.iter().any(|known| known == label) {
            return Err(Error::invalid("label", "is not in the dimension's `groupBy`: only those labels are kept"));
        }
        let tx = self.isolation.begin(scope).await?;
        let mut values = asked(&tx, &dimension, windows);
        values.extend([label.into(), most.into()]);
        values.extend(span(windows, TimeDelta::zero(), TimeDelta::zero()));
        let rows = tx.rows(FEATURES, values).await?;
        tx.commit_unrecorded("a read").await?;
        rows.iter().map(feature).collect()
    }

    async fn measured(&self, key: &str) -> Result<Dimension> {
        let catalogue = self.tenancy.snapshots().catalogue().await?;
        let dimension = catalogue.part::<Dimensions>()?.find(key).cloned();
        dimension.ok_or_else(|| Error::invalid("dimension", "is not in the catalogue of dimensions"))
    }
}

fn asked(tx: &TenantTx, dimension: &Dimension, windows: &[Bounds]) -> Vec<Value> {
    let (begins, ends): (Vec<_>, Vec<_>) = windows.iter().copied().unzip();
    vec![tx.tenant().into(), dimension.dimension_id.into(), begins.into(), ends.into()]
}

/// From so long before the first window until so long after the last, and the end of that day.
fn span(windows: &[Bounds], before: TimeDelta, after: TimeDelta) -> [Value; 3] {
    let begin = windows.iter().map(|window| window.0).min().unwrap_or_default();
    let end = windows.iter().map(|window| window.1).max().unwrap_or_default();
    let until = end.checked_add_signed(after).unwrap_or(end);
    [begin.checked_sub_signed(before).unwrap_or(begin).into(), until.into(), end_of_day(until).into()]
}

fn sessions(row: &QueryResult) -> Result<Sessions> {
    Ok(Sessions {
        window: place(row)?,
        count: row.try_get("", "count")?,
        mean: row.try_get("", "mean")?,
        p50: row.try_get("", "p50")?,
        p90: row.try_get("", "p90")?,
        p95: row.try_get("", "p95")?,
        p99: row.try_get("", "p99")?,
    })
}

fn feature(row: &QueryResult) -> Result<Feature> {
    Ok(Feature {
        window: place(row)?,
        value: row.try_get("", "value")?,
        events: row.try_get("", "events")?,
        users: row.try_get("", "users")?,
    })
}
