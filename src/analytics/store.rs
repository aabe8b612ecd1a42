//! The tables of requests.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sea_orm::{QueryResult, Value};
use uuid::Uuid;

use super::{
    figures::Grouping,
    latencies::Latencies,
    requests::{QUARTER, Row},
};
use crate::{
    error::{Context as _, Error, Result},
    isolation::{OperatorTx, TenantTx},
    platform::ids::TenantId,
    usage::Bounds,
};

/// The order of rows is the same everywhere: two servers that add to the same rows wait for each other and never both.
const ADD: &str = "
    insert into tenantry.request_quarters as known (tenant_id, begins, operation, outcome, requests, buckets)
    select tenant_id, begins, operation, outcome, requests, buckets::integer[]
    from unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::bigint[], $6::text[])
        as counted (tenant_id, begins, operation, outcome, requests, buckets)
    order by 1, 2, 3, 4
    on conflict (tenant_id, begins, operation, outcome) do update set
        requests = known.requests + excluded.requests,
        buckets = (select array_agg(coalesce(own, 0) + coalesce(added, 0) order by place)
            from unnest(known.buckets, excluded.buckets) with ordinality as bucket (own, added, place))";
const ADD_CALLERS: &str = "
    insert into tenantry.request_callers (tenant_id, begins, caller)
    select tenant_id, begins, caller from unnest($1::uuid[], $2::timestamptz[], $3::uuid[]) as seen (tenant_id, begins, caller)
    order by 1, 2, 3 on conflict do nothing";

pub(super) async fn add(tx: &OperatorTx, rows: &[(&Row, &Latencies)], callers: &[(TenantId, i64, Uuid)]) -> Result<()> {
    let tenants: Vec<_> = rows.iter().map(|((tenant, ..), _)| tenant.uuid()).collect();
    let begins: Vec<_> = rows.iter().map(|((_, quarter, ..), _)| begin(*quarter)).collect();
    let operations: Vec<_> = rows.iter().map(|((_, _, operation, _), _)| operation.to_string()).collect();
    let outcomes: Vec<_> = rows.iter().map(|((.., outcome), _)| (*outcome).to_owned()).collect();
    let requests = rows.iter().map(|(_, latencies)| i64::try_from(latencies.count()).map_err(Error::internal));
    let requests = requests.collect::<Result<Vec<_>>>()?;
    let buckets: Vec<_> = rows.iter().map(|(_, latencies)| array(latencies.counts())).collect();
    let values: [Value; 6] =
        [tenants.into(), begins.into(), operations.into(), outcomes.into(), requests.into(), buckets.into()];
    tx.execute(ADD, values).await?;
    let tenants: Vec<_> = callers.iter().map(|(tenant, ..)| tenant.uuid()).collect();
    let begins: Vec<_> = callers.iter().map(|(_, quarter, _)| begin(*quarter)).collect();
    let seen: Vec<_> = callers.iter().map(|(.., caller)| *caller).collect();
    tx.execute(ADD_CALLERS, [tenants.into(), begins.into(), seen.into()] as [Value; 3]).await?;
    Ok(())
}

fn begin(quarter: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(quarter * QUARTER, 0).unwrap_or_default()
}

fn array(counts: &[u64]) -> String {
    let counts: Vec<_> = counts.iter().map(u64::to_string).collect();
    format!("{{{}}}", counts.join(","))
}

const REMOVE: &str = "
    delete from tenantry.request_quarters where ctid = any (array(
        select ctid from tenantry.request_quarters where begins < $1 limit $2))";
const REMOVE_CALLERS: &str = "
    delete from tenantry.request_callers where ctid = any (array(
        select ctid from tenantry.request_callers where begins < $1 limit $2))";

/// Removes at most so many rows of each table that are of quarters before a moment; answers how many.
pub(super) async fn remove_before(tx: &OperatorTx, before: DateTime<Utc>, rows: i64) -> Result<[u64; 2]> {
    let requests = tx.execute(REMOVE, [before.into(), rows.into()]).await?;
    Ok([requests, tx.execute(REMOVE_CALLERS, [before.into(), rows.into()]).await?])
}

macro_rules! windows {
    () => {
        "windows as materialized (
            select place, begins, ends from unnest($2::timestamptz[], $3::timestamptz[]) with ordinality as windows (begins, ends, place)
        )"
    };
}

const FIGURES: &str = concat!(
    "with ", windows!(), ", parts as materialized (
        select place, case when $4 then operation else '' end as operation, outcome, requests, buckets
        from windows join tenantry.request_quarters known
            on known.tenant_id = $1 and known.begins >= windows.begins and known.begins < windows.ends
    ), outcomes as (
        select place, operation, json_object_agg(outcome, requests)::text as outcomes
        from (select place, operation, outcome, sum(requests)::bigint as requests from parts group by 1, 2, 3) counted group by 1, 2
    ), buckets as (
        select place, operation, json_object_agg(bucket, requests)::text as buckets
        from (
            select place, operation, bucket - 1 as bucket, sum(requests)::bigint as requests
            from (select place, operation, counted.requests, bucket from parts, unnest(buckets) with ordinality as counted (requests, bucket)) each
            where requests > 0 group by 1, 2, 3
        ) counted group by 1, 2
    )
    select place, operation, outcomes, buckets from outcomes join buckets using (place, operation) order by 1, 2 limit $5"
);
const CALLERS: &str = concat!(
    "with ",
    windows!(),
    " select place, count(distinct caller) as callers from windows join tenantry.request_callers known
        on known.tenant_id = $1 and known.begins >= windows.begins and known.begins < windows.ends
    group by 1 order by 1"
);

/// Of one window and, where it was asked for, one operation.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) window: usize,
    pub(super) operation: String,
    /// Requests by outcome.
    pub(super) outcomes: BTreeMap<String, i64>,
    pub(super) latencies: Latencies,
}

pub(super) async fn figures(tx: &TenantTx, windows: &[Bounds], grouping: Grouping, most: i64) -> Result<Vec<Found>> {
    let mut values = asked(tx, windows);
    values.extend([(grouping == Grouping::ByOperation).into(), most.into()]);
    tx.rows(FIGURES, values).await?.iter().map(found).collect()
}

/// How many there were in each window that had any.
pub(super) async fn callers(tx: &TenantTx, windows: &[Bounds]) -> Result<Vec<(usize, i64)>> {
    let rows = tx.rows(CALLERS, asked(tx, windows)).await?;
    rows.iter().map(|row| Ok((place(row)?, row.try_get("", "callers")?))).collect()
}

fn asked(tx: &TenantTx, windows: &[Bounds]) -> Vec<Value> {
    let (begins, ends): (Vec<_>, Vec<_>) = windows.iter().copied().unzip();
    vec![tx.tenant().into(), begins.into(), ends.into()]
}

fn found(row: &QueryResult) -> Result<Found> {
    let outcomes: String = row.try_get("", "outcomes")?;
    let buckets: String = row.try_get("", "buckets")?;
    let buckets: BTreeMap<usize, u64> = serde_json::from_str(&buckets).context("read buckets")?;
    let mut counts = vec![0; buckets.keys().last().map_or(0, |last| last + 1)];
    for (place, requests) in buckets {
        counts[place] = requests;
    }
    Ok(Found {
        window: place(row)?,
        operation: row.try_get("", "operation")?,
        outcomes: serde_json::from_str(&outcomes).context("read outcomes")?,
        latencies: Latencies::of_counts(counts),
    })
}

fn place(row: &QueryResult) -> Result<usize> {
    let place: i64 = row.try_get("", "place")?;
    usize::try_from(place - 1).map_err(Error::internal)
}
