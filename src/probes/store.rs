//! The rows of `isolation_runs` and `isolation_probes`, inside a session of the platform.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sea_orm::FromQueryResult;
use uuid::Uuid;

use super::report::{LayerProbe, OpenThings};
use crate::{error::Result, isolation::Outcome, platform::db::Tx};

const ADD: &str = "insert into tenantry.isolation_runs (region) values ($1) on conflict do nothing";
/// Whoever comes first, once the one before is done or its lease has ended; where it is to be due, after that time.
const TAKE: &str = "
    update tenantry.isolation_runs set holder = $2, began_at = $3, lease_until = $4
    where region = $1 and (lease_until is null or lease_until <= $3) and ($5::timestamptz is null or began_at is null or began_at <= $5)
    returning *";
const HOLD: &str =
    "update tenantry.isolation_runs set lease_until = $3 where region = $1 and holder = $2 and lease_until is not null";
const RELEASE: &str = "
    update tenantry.isolation_runs set lease_until = null, began_at = ended_at where region = $1 and holder = $2 and lease_until is not null";
const END: &str = "
    update tenantry.isolation_runs set lease_until = null, ended_at = $3, outcome = $4, findings = $5, open = $6
    where region = $1 and holder = $2 and lease_until is not null";
const RUN: &str = "select * from tenantry.isolation_runs where region = $1";
const PROBES: &str = "select * from tenantry.isolation_probes where region = $1 order by cell, place, layer";
const NOT_SHOWN: &str =
    "select distinct layer from tenantry.isolation_probes where region = $1 and outcome = 'INCONCLUSIVE'";
const FORGET: &str = "delete from tenantry.isolation_probes where region = $1";
const KEEP: &str = "
    insert into tenantry.isolation_probes (region, place, layer, cell, outcome, reason, attempts, at)
    values ($1, $2, $3, $4, $5, $6, $7, $8)";

#[derive(Clone, Debug, FromQueryResult)]
pub(super) struct Run {
    pub(super) seed: Uuid,
    pub(super) ended_at: Option<DateTime<Utc>>,
    pub(super) outcome: Option<Outcome>,
    pub(super) findings: i64,
    pub(super) open: OpenThings,
}

/// Who runs the probes of which region, and until when others wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holder<'a> {
    pub(super) region: &'a str,
    pub(super) name: &'a str,
    pub(super) until: DateTime<Utc>,
}

pub(super) async fn take(
    tx: &Tx,
    holder: Holder<'_>,
    now: DateTime<Utc>,
    due: Option<DateTime<Utc>>,
) -> Result<Option<Run>> {
    tx.execute(ADD, [holder.region.into()]).await?;
    let values = [holder.region.into(), holder.name.into(), now.into(), holder.until.into(), due.into()];
    let row = tx.row(TAKE, values).await?;
    Ok(row.map(|row| Run::from_query_result(&row, "")).transpose()?)
}

/// Whether it is still this one's.
pub(super) async fn hold(tx: &Tx, holder: Holder<'_>) -> Result<bool> {
    Ok(tx.execute(HOLD, [holder.region.into(), holder.name.into(), holder.until.into()]).await? == 1)
}

/// As if it had not begun: another may.
pub(super) async fn release(tx: &Tx, holder: Holder<'_>) -> Result<()> {
    tx.execute(RELEASE, [holder.region.into(), holder.name.into()]).await?;
    Ok(())
}

/// Writes what the run came to, in the place of the last one; false where somebody else has taken over.
pub(super) async fn end(
    tx: &Tx,
    holder: Holder<'_>,
    (outcome, findings, open): (Outcome, i64, &OpenThings),
    probes: &[LayerProbe],
    now: DateTime<Utc>,
) -> Result<bool> {
    let values =
        [holder.region.into(), holder.name.into(), now.into(), outcome.into(), findings.into(), open.clone().into()];
    if tx.execute(END, values).await? == 0 {
        return Ok(false);
    }
    tx.execute(FORGET, [holder.region.into()]).await?;
    for probe in probes {
        let values = [
            holder.region.into(),
            probe.place.as_str().into(),
            probe.layer.as_str().into(),
            probe.cell.as_str().into(),
            probe.outcome.into(),
            probe.reason.as_str().into(),
            probe.attempts.clone().into(),
            probe.at.into(),
        ];
        tx.execute(KEEP, values).await?;
    }
    Ok(true)
}

pub(super) async fn run(tx: &Tx, region: &str) -> Result<Option<Run>> {
    let row = tx.row(RUN, [region.into()]).await?;
    Ok(row.map(|row| Run::from_query_result(&row, "")).transpose()?)
}

/// Layers of which the last run could not show anything, somewhere.
pub(super) async fn not_shown(tx: &Tx, region: &str) -> Result<BTreeSet<String>> {
    let rows = tx.rows(NOT_SHOWN, [region.into()]).await?;
    Ok(rows.iter().map(|row| row.try_get("", "layer")).collect::<Result<_, _>>()?)
}

pub(super) async fn probes(tx: &Tx, region: &str) -> Result<Vec<LayerProbe>> {
    let rows = tx.rows(PROBES, [region.into()]).await?;
    Ok(rows.iter().map(|row| LayerProbe::from_query_result(row, "")).collect::<Result<_, _>>()?)
}
