//! The tables of events and totals.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use sea_orm::Value;
use uuid::Uuid;

use super::event::Event;
use crate::{
    error::{Error, Result},
    isolation::{OperatorTx, TenantTx},
    platform::{db::Bound, ids::TenantId},
};

/// Claims the keys and keeps the events of those that were free, one row for each tenant; answers the places of all others. Keys are
/// claimed in one order everywhere, so that two batches with the same ones wait for each other and never both. What was used before a tenant's closing counts from now on.
const RECORD: &str = "
    with sent as materialized (
        select tenant_id, key, dimension, timestamptz 'epoch' + micros * interval '1 microsecond' as at, quantity::numeric, labels, subject, reason, place
        from unnest($1::uuid[], $2::uuid[], $3::int2[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[])
            with ordinality as sent (tenant_id, key, dimension, micros, quantity, labels, subject, reason, place)
    ), claimed as (
        insert into tenantry.usage_keys (tenant_id, key, received_on)
        select tenant_id, key, ($10::timestamptz at time zone 'UTC')::date from sent order by tenant_id, key
        on conflict do nothing returning tenant_id, key
    ), together as materialized (
        select tenant_id, min(at) as first_at, max(at) as last_at, count(*) as events, array_agg(key) as keys,
            array_agg(dimension) as dimensions, array_agg(at) as times, array_agg(quantity) as quantities, array_agg(labels) as groups,
            array_agg(subject) as subjects, array_agg(reason) as reasons
        from sent join claimed using (tenant_id, key) group by tenant_id
    ), booked as (
        select together.tenant_id, min(booked_at) as first_at, max(booked_at) as last_at, array_agg(booked_at order by place) as times
        from together join tenantry.usage_closings closing using (tenant_id), unnest(together.times) with ordinality as event (at, place),
            lateral (select case when at < closing.closing_until then greatest($10, closing.closing_until) else at end as booked_at) booked
        where together.first_at < closing.closing_until group by together.tenant_id
    ), kept as (
        insert into tenantry.usage_inbox
            (tenant_id, batch_id, received_at, first_at, last_at, events, keys, dimensions, times, quantities, groups, subjects, reasons, occurred)
        select tenant_id, $9, $10, coalesce(booked.first_at, together.first_at), coalesce(booked.last_at, together.last_at), together.events, keys,
            dimensions, coalesce(booked.times, together.times), quantities, groups, subjects, reasons,
            case when booked.times is not null then together.times end
        from together left join booked using (tenant_id)
    )
    select place from sent where (tenant_id, key) not in (select tenant_id, key from claimed)";

/// Events of different keys, in one transaction; answers for each whether it is new.
pub(super) async fn record(tx: &OperatorTx, batch: Uuid, events: &[&Event]) -> Result<Vec<bool>> {
    let texts = |of: fn(&Event) -> &str| events.iter().map(|event| of(event)).collect::<Vec<_>>();
    let bound = Bound::default()
        .and(events.iter().map(|event| event.tenant.uuid()).collect::<Vec<_>>())?
        .and(events.iter().map(|event| event.key).collect::<Vec<_>>())?
        .and(events.iter().map(|event| event.dimension).collect::<Vec<_>>())?
        .and(events.iter().map(|event| event.at.timestamp_micros()).collect::<Vec<_>>())?
        .and(events.iter().map(|event| event.quantity.to_string()).collect::<Vec<_>>())?
        .and(texts(|event| &event.labels))?
        .and(texts(|event| &event.subject))?
        .and(texts(|event| &event.reason))?
        .and(batch)?
        .and(tx.stamp().at)?;
    let mut is_new = vec![true; events.len()];
    for row in tx.rows_of(RECORD, bound).await? {
        let place: i64 = row.try_get("", "place")?;
        let place = usize::try_from(place - 1).map_err(Error::internal)?;
        *is_new.get_mut(place).ok_or_else(|| Error::internal("a place that was not sent"))? = false;
    }
    Ok(is_new)
}

/// Adds the events to the totals of one level.
macro_rules! totals {
    ($table:literal, $length:literal) => {
        concat!(
            "
        insert into tenantry.", $table, " as known
            (tenant_id, dimension_id, begins, labels, events, total, peak, latest, latest_at, latest_key)
        select tenant_id, dimension_id, date_bin('", $length, "', at, timestamptz 'epoch') as begins, labels, count(*), sum(quantity),
            max(quantity), (array_agg(quantity order by at desc, key desc))[1], max(at), (array_agg(key order by at desc, key desc))[1]
        from events group by 1, 2, 3, 4 order by 1, 2, 3, 4
        on conflict (tenant_id, dimension_id, begins, labels) do update set
            events = known.events + excluded.events, total = known.total + excluded.total,
            peak = greatest(known.peak, excluded.peak),
            latest = case when (known.latest_at, known.latest_key) > (excluded.latest_at, excluded.latest_key)
                then known.latest else excluded.latest end,
            latest_key = case when (known.latest_at, known.latest_key) > (excluded.latest_at, excluded.latest_key)
                then known.latest_key else excluded.latest_key end,
            latest_at = greatest(known.latest_at, excluded.latest_at)"
        )
    };
}

/// Moves the oldest rows from the inbox into totals, of at most so many events and one row more; answers how many rows there were. What
/// another replica is moving is passed by, and what tenants have alert rules or budgets for is marked to be looked at. A row that has several
/// days is kept as one of each: a partition has one day. The order of rows is the same everywhere: two that add to the same totals wait for each other and never both.
const FOLD: &str = concat!("
    with oldest as materialized (
        select tenant_id, batch_id, events from tenantry.usage_inbox order by batch_id limit 2000 for update skip locked
    ), picked as (
        select tenant_id, batch_id from (
            select tenant_id, batch_id, events, sum(events) over (order by batch_id, tenant_id) as so_far from oldest
        ) counted where so_far - events < $1
    ), taken as materialized (
        delete from tenantry.usage_inbox inbox using picked
        where inbox.tenant_id = picked.tenant_id and inbox.batch_id = picked.batch_id returning inbox.*
    ), kept as (
        insert into tenantry.usage_events
        select * from taken where date_bin('1 day', first_at, timestamptz 'epoch') = date_bin('1 day', last_at, timestamptz 'epoch')
        union all
        select tenant_id, batch_id, received_at, min(at), max(at), count(*)::integer, array_agg(key), array_agg(dimension), array_agg(at),
            array_agg(quantity), array_agg(labels), array_agg(subject), array_agg(reason), case when count(happened) > 0 then array_agg(happened) end
        from taken, unnest(keys, dimensions, times, quantities, groups, subjects, reasons, occurred)
            as event (key, dimension, at, quantity, labels, subject, reason, happened)
        where date_bin('1 day', first_at, timestamptz 'epoch') <> date_bin('1 day', last_at, timestamptz 'epoch')
        group by tenant_id, batch_id, received_at, date_bin('1 day', at, timestamptz 'epoch')
    ), events as materialized (
        select taken.tenant_id, taken.received_at, event.*, known.aggregation
        from taken, unnest(taken.keys, taken.dimensions, taken.times, taken.quantities, taken.groups, taken.subjects, taken.reasons, taken.occurred)
            as event (key, dimension_id, at, quantity, labels, subject, reason, occurred)
        join tenantry.usage_dimensions known using (dimension_id)
    ), quarters as (", totals!("usage_quarters", "15 minutes"), "), days as (", totals!("usage_days", "1 day"), "), members as (
        insert into tenantry.usage_members (tenant_id, dimension_id, begins, labels, member)
        select distinct tenant_id, dimension_id, date_bin('15 minutes', at, timestamptz 'epoch'), labels, md5(subject)::uuid
        from events where aggregation in ('UNIQUE_COUNT', 'DAILY_UNIQUE_COUNT') and subject <> '' order by 1, 2, 3, 4, 5
        on conflict do nothing
    ), points as (
        insert into tenantry.usage_points (tenant_id, dimension_id, labels, at, key, quantity)
        select tenant_id, dimension_id, labels, at, key, quantity from events where aggregation = 'TIME_WEIGHTED_AVERAGE'
    ), corrections as (
        insert into tenantry.usage_corrections
            (tenant_id, key, dimension_id, booked_at, occurred_at, received_at, quantity, labels, subject, reason)
        select tenant_id, key, dimension_id, at, coalesce(occurred, at), received_at, quantity, labels, subject, reason
        from events where reason <> '' or occurred <> at
        -- A key that was removed with its age may come again.
        on conflict (tenant_id, key) do nothing
    ), looks as (
        insert into tenantry.usage_alert_looks (tenant_id, look_id, dimension_id, first_at, last_at)
        select tenant_id, gen_random_uuid(), dimension_id, first_at, last_at
        from (select tenant_id, dimension_id, min(at) as first_at, max(at) as last_at from events group by 1, 2) used
        where exists (select from tenantry.usage_alert_rules rule
            where rule.tenant_id = used.tenant_id and rule.dimension_id = used.dimension_id)
        or exists (select from tenantry.usage_budgets budget
            where budget.tenant_id = used.tenant_id and (budget.dimension_id is null or budget.dimension_id = used.dimension_id))
    )
    select count(*) as taken from taken");

pub(super) async fn fold(tx: &OperatorTx, events: i64) -> Result<i64> {
    let row = tx.row(FOLD, [events.into()]).await?.ok_or_else(|| Error::internal("a count has a row"))?;
    Ok(row.try_get("", "taken")?)
}

const REMOVE_EVENTS: &str = "
    delete from tenantry.usage_events event using (
        select tenant_id, batch_id, last_at from tenantry.usage_events where last_at < $1 limit $2
    ) old where event.tenant_id = old.tenant_id and event.batch_id = old.batch_id and event.last_at = old.last_at";
const REMOVE_KEYS: &str = "
    delete from tenantry.usage_keys where ctid = any (array(
        select ctid from tenantry.usage_keys where received_on < ($1::timestamptz at time zone 'UTC')::date limit $2))";

/// Removes at most so many rows of events of before a moment.
pub(super) async fn remove_events(tx: &OperatorTx, before: DateTime<Utc>, rows: i64) -> Result<u64> {
    Ok(tx.execute(REMOVE_EVENTS, [before.into(), rows.into()]).await?)
}

/// Removes at most so many keys that came on a day before a moment's.
pub(super) async fn remove_keys(tx: &OperatorTx, before: DateTime<Utc>, rows: i64) -> Result<u64> {
    Ok(tx.execute(REMOVE_KEYS, [before.into(), rows.into()]).await?)
}

/// Where a piece of a window is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Day,
    Quarter,
}

/// A part of the `window`-th window whose rows are of one level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) window: i32,
    pub(super) level: Level,
    pub(super) begin: DateTime<Utc>,
    pub(super) end: DateTime<Utc>,
}

/// What is asked of the tables.
#[derive(Clone, Debug)]
pub(super) struct Question<'a> {
    pub(super) tenant: TenantId,
    pub(super) dimension: i16,
    pub(super) windows: &'a [(DateTime<Utc>, DateTime<Utc>)],
    pub(super) now: DateTime<Utc>,
    /// Groups that have these labels, a JSON object, are one; without it, each group is told by itself.
    pub(super) only: Option<&'a str>,
}

/// One window and one group of labels. Figures are texts of decimal numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) window: usize,
    pub(super) labels: String,
    pub(super) events: i64,
    pub(super) figure: String,
    /// The largest figure that was reported without naming a subject.
    pub(super) peak: String,
}

/// Events of the windows one by one: those that are in no total, and with `kept` those that are. `$6` and `$7` are what `Question::days`
/// answers: other days' partitions are not looked at. `following`: of windows that follow each other, the one of an event is looked up
/// rather than compared with each.
macro_rules! events {
    () => {
        events!("usage_inbox", "", "join windows spot on event.at >= spot.begins and event.at < spot.ends")
    };
    (kept) => {
        events!("usage_events", "and stored.last_at >= $6 and stored.last_at < $7",
            "join windows spot on event.at >= spot.begins and event.at < spot.ends")
    };
    (following) => {
        events!("usage_inbox", "",
            "join lateral (select width_bucket(event.at, $3::timestamptz[])::bigint as place) spot
                 on spot.place > 0 and event.at < ($4::timestamptz[])[spot.place]")
    };
    (following kept) => {
        events!("usage_events", "and stored.last_at >= $6 and stored.last_at < $7",
            "join lateral (select width_bucket(event.at, $3::timestamptz[])::bigint as place) spot
                 on spot.place > 0 and event.at < ($4::timestamptz[])[spot.place]")
    };
    ($table:literal, $days:literal, $join:literal) => {
        concat!(
            "select spot.place, event.labels, event.quantity, event.at, event.key, event.subject
             from tenantry.", $table, " stored,
             unnest(stored.keys, stored.dimensions, stored.times, stored.quantities, stored.groups, stored.subjects)
                 as event (key, dimension_id, at, quantity, labels, subject)
             ", $join, "
             where stored.tenant_id = $1 and event.dimension_id = $2
               and stored.last_at >= (select min(begins) from windows) and stored.first_at < (select max(ends) from windows) ", $days
        )
    };
}

/// The group that a row is told in.
macro_rules! group {
    ($only:literal) => {
        concat!("case when ", $only, "::text is null then labels else '' end as labels")
    };
}

/// Whether a row is asked for.
macro_rules! wanted {
    ($only:literal) => {
        concat!(
            "(",
            $only,
            "::text is null or case when labels = '' then '{}' else labels end::jsonb @> ",
            $only,
            "::text::jsonb)"
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

const FROM_TOTALS: &str = concat!(
    "with ", windows!(), ", pieces as materialized (
        select place, is_day, begins, ends from unnest($5::bigint[], $6::bool[], $7::timestamptz[], $8::timestamptz[])
            as pieces (place, is_day, begins, ends)
    ), parts as (
        select place, labels, events, total, peak, latest, latest_at, latest_key
        from pieces join tenantry.usage_days known on pieces.is_day and known.tenant_id = $1 and known.dimension_id = $2
            and known.begins >= pieces.begins and known.begins < pieces.ends
        union all
        select place, labels, events, total, peak, latest, latest_at, latest_key
        from pieces join tenantry.usage_quarters known on not pieces.is_day and known.tenant_id = $1 and known.dimension_id = $2
            and known.begins >= pieces.begins and known.begins < pieces.ends
        union all
        select place, labels, 1, quantity, quantity, quantity, at, key from (", events!(following), ") waiting
    )
    select place, ", group!("$9"), ", sum(events)::bigint as events, sum(total)::text as total, max(peak)::text as peak,
        (array_agg(latest order by latest_at desc, latest_key desc))[1]::text as latest
    from parts where ", wanted!("$9"), " group by 1, 2 order by 1, 2"
);

const FROM_EVENTS: &str = concat!(
    "with ",
    windows!(),
    ", parts as (",
    events!(following),
    " union all ",
    events!(following kept),
    ")
    select place, ",
    group!("$5"),
    ", count(*) as events, sum(quantity)::text as total, max(quantity)::text as peak,
        (array_agg(quantity order by at desc, key desc))[1]::text as latest
    from parts where ",
    wanted!("$5"),
    " group by 1, 2 order by 1, 2"
);

const MEMBERS_OF_TOTALS: &str = concat!(
    "with ", windows!(), ", seen as (
        select windows.place, labels, member from windows join tenantry.usage_members known
            on known.tenant_id = $1 and known.dimension_id = $2 and known.begins >= windows.begins and known.begins < windows.ends
        union all
        select place, labels, md5(subject)::uuid from (", events!(), ") waiting where subject <> ''
    )
    select place, ", group!("$5"), ", count(distinct member) as members from seen where ", wanted!("$5"), " group by 1, 2 order by 1, 2"
);

const MEMBERS_OF_EVENTS: &str = concat!(
    "with ",
    windows!(),
    ", seen as (",
    events!(),
    " union all ",
    events!(kept),
    ")
    select place, ",
    group!("$5"),
    ", count(distinct md5(subject)::uuid) as members from seen
    where subject <> '' and ",
    wanted!("$5"),
    " group by 1, 2 order by 1, 2"
);

/// Of different subjects of each stretch, how many were seen first in each of its windows: one look at each row, however many windows there are.
macro_rules! firsts {
    () => {
        "firsts as (
            select stretch, member, min(place) as place
            from seen join unnest($5::bigint[]) with ordinality as stretches (stretch, place) using (place) group by stretch, member
        )
        select place, count(*) as members from firsts group by place order by place"
    };
}

const FIRSTS_OF_TOTALS: &str = concat!(
    "with ", windows!(), ", seen as (
        select windows.place, member from windows join tenantry.usage_members known
            on known.tenant_id = $1 and known.dimension_id = $2 and known.begins >= windows.begins and known.begins < windows.ends
        union all
        select place, md5(subject)::uuid from (", events!(), ") waiting where subject <> ''
    ), ", firsts!()
);

const FIRSTS_OF_EVENTS: &str = concat!(
    "with ",
    windows!(),
    ", happened as (",
    events!(),
    " union all ",
    events!(kept),
    "), seen as (
        select place, md5(subject)::uuid as member from happened where subject <> ''
    ), ",
    firsts!()
);

/// Each quantity holds until the next of the same labels, and the last one until now.
const AVERAGES: &str = concat!(
    "with ", windows!(), ", points as (
        select labels, at, key, quantity from tenantry.usage_points
        where tenant_id = $1 and dimension_id = $2 and at < (select max(ends) from windows)
        union all
        select event.labels, event.at, event.key, event.quantity from tenantry.usage_inbox stored,
            unnest(stored.keys, stored.dimensions, stored.times, stored.quantities, stored.groups)
                as event (key, dimension_id, at, quantity, labels)
        where stored.tenant_id = $1 and event.dimension_id = $2 and event.at < (select max(ends) from windows)
    ), spans as (
        select labels, quantity, at, coalesce(lead(at) over (partition by labels order by at, key), 'infinity') as until from points
    )
    select place, labels, count(*) filter (where at >= windows.begins) as events,
        round(sum(quantity * extract(epoch from least(until, ends, $5) - greatest(at, begins)))
            / extract(epoch from least(ends, $5) - begins), 9)::text as average
    from windows join spans on at < least(ends, $5) and until > begins
    where begins < $5 group by 1, 2, begins, ends order by 1, 2"
);

impl Question<'_> {
    fn values(&self) -> Vec<Value> {
        let (begins, ends): (Vec<_>, Vec<_>) = self.windows.iter().copied().unzip();
        vec![self.tenant.into(), self.dimension.into(), begins.into(), ends.into()]
    }

    /// The days of UTC that have the windows.
    fn days(&self) -> [Value; 2] {
        let begin = self.windows.iter().map(|window| window.0).min().unwrap_or_default();
        let end = self.windows.iter().map(|window| window.1).max().unwrap_or_default();
        [begin.into(), end_of_day(end).into()]
    }

    /// Sums, peaks and latest figures, of which `column` is the one that is asked for. Windows follow each other.
    pub(super) async fn figures(&self, tx: &TenantTx, pieces: Option<&[Piece]>, column: &str) -> Result<Vec<Found>> {
        debug_assert!(self.windows.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{:?}", self.windows);
        let mut values = self.values();
        let statement = match pieces {
            None => FROM_EVENTS,
            Some(pieces) => {
                values.extend([
                    pieces.iter().map(|piece| i64::from(piece.window) + 1).collect::<Vec<_>>().into(),
                    pieces.iter().map(|piece| piece.level == Level::Day).collect::<Vec<_>>().into(),
                    pieces.iter().map(|piece| piece.begin).collect::<Vec<_>>().into(),
                    pieces.iter().map(|piece| piece.end).collect::<Vec<_>>().into(),
                ]);
                FROM_TOTALS
            }
        };
        values.push(self.only.into());
        if pieces.is_none() {
            values.extend(self.days());
        }
        let rows = tx.rows(statement, values).await?;
        rows.iter().map(|row| found(row, column, "peak")).collect()
    }

    /// How many different subjects there were. Beside figures, which tell of all events.
    pub(super) async fn members(&self, tx: &TenantTx, is_of_totals: bool) -> Result<Vec<(usize, String, i64)>> {
        let statement = if is_of_totals { MEMBERS_OF_TOTALS } else { MEMBERS_OF_EVENTS };
        let mut values = self.values();
        values.push(self.only.into());
        if !is_of_totals {
            values.extend(self.days());
        }
        let rows = tx.rows(statement, values).await?;
        let member = |row: &sea_orm::QueryResult| {
            Ok((place(row)?, row.try_get("", "labels")?, row.try_get::<i64>("", "members")?))
        };
        rows.iter().map(member).collect()
    }

    /// How many different subjects, whatever their labels, came with each window to those of the windows of its stretch before it. Windows follow
    /// each other; `stretches` has the stretch of each.
    pub(super) async fn firsts(
        &self,
        tx: &TenantTx,
        stretches: Vec<i64>,
        is_of_totals: bool,
    ) -> Result<Vec<(usize, i64)>> {
        let statement = if is_of_totals { FIRSTS_OF_TOTALS } else { FIRSTS_OF_EVENTS };
        let mut values = self.values();
        values.push(stretches.into());
        if !is_of_totals {
            values.extend(self.days());
        }
        let rows = tx.rows(statement, values).await?;
        rows.iter().map(|row| Ok((place(row)?, row.try_get::<i64>("", "members")?))).collect()
    }

    pub(super) async fn averages(&self, tx: &TenantTx) -> Result<Vec<Found>> {
        let mut values = self.values();
        values.push(self.now.into());
        let rows = tx.rows(AVERAGES, values).await?;
        rows.iter().map(|row| found(row, "average", "average")).collect()
    }
}

/// The begin of the day of UTC after a moment.
pub(super) fn end_of_day(at: DateTime<Utc>) -> DateTime<Utc> {
    let next = at.date_naive().succ_opt().unwrap_or(NaiveDate::MAX);
    next.and_time(NaiveTime::MIN).and_utc()
}

pub(super) fn place(row: &sea_orm::QueryResult) -> Result<usize> {
    let place: i64 = row.try_get("", "place")?;
    usize::try_from(place - 1).map_err(Error::internal)
}

fn found(row: &sea_orm::QueryResult, figure: &str, peak: &str) -> Result<Found> {
    Ok(Found {
        window: place(row)?,
        labels: row.try_get("", "labels")?,
        events: row.try_get("", "events")?,
        figure: row.try_get("", figure)?,
        peak: row.try_get("", peak)?,
    })
}
