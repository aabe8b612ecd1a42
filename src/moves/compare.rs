//! Whether both ends have the same rows: by count, and by a sum of hashes of rows as texts.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    apply::{Rows, Touched},
    place::Place,
    source::Table,
};
use crate::{
    cells::{literal, quoted},
    error::{Error, Result},
    platform::db::CellSession,
};

/// More touched rows than these are not named one by one: the whole table is compared.
const NAMED: usize = 20_000;

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Sum {
    rows: u64,
    hash: String,
}

/// Compares all rows of `tables`.
pub(super) async fn all(tables: &[Table], sides: (&mut CellSession, &mut CellSession)) -> Result<()> {
    let queries: Vec<_> = tables.iter().map(|table| part(&table.place, "")).collect();
    compare(&queries, sides).await
}

/// Compares the rows that were touched.
pub(super) async fn touched(touched: &Touched, sides: (&mut CellSession, &mut CellSession)) -> Result<()> {
    let queries: Vec<_> = touched.0.iter().map(|(table, rows)| part(table, &condition(rows))).collect();
    compare(&queries, sides).await
}

fn condition(rows: &Rows) -> String {
    match rows {
        Rows::All => String::new(),
        Rows::Some { values, .. } if values.len() > NAMED => String::new(),
        Rows::Some { key, values } => {
            let names: Vec<_> = key.iter().map(|name| quoted(name)).collect();
            let rows: Vec<_> = values.iter().map(|row| format!("({})", row.join(", "))).collect();
            format!(" where ({}) in ({})", names.join(", "), rows.join(", "))
        }
    }
}

/// `record_out` is called by name: a cast of a row to text could be a function of the tenant's own, which must not run with other
/// rights than the tenant's.
fn part(place: &Place, condition: &str) -> String {
    format!(
        "select {} as name, jsonb_build_object('rows', count(*), 'hash', coalesce(sum(hashtextextended(textin(record_out(t)), 0)::numeric), 0)::text) as sum
         from only {place} t{condition}",
        literal(&place.to_string())
    )
}

async fn compare(queries: &[String], (source, target): (&mut CellSession, &mut CellSession)) -> Result<()> {
    if queries.is_empty() {
        return Ok(());
    }
    let query = format!("select jsonb_object_agg(name, sum)::text from ({}) as found", queries.join(" union all "));
    let both = tokio::join!(source.json(&query, &[]), target.json(&query, &[]));
    let (there, here): (BTreeMap<String, Sum>, BTreeMap<String, Sum>) = (both.0?, both.1?);
    match there.iter().find(|(table, sum)| here.get(*table) != Some(sum)) {
        None => Ok(()),
        Some((table, sum)) => {
            let rows = here.get(table).map_or(0, |sum| sum.rows);
            let rule = format!(
                "table {table} is not the same at both ends: {} rows at the source, {rows} at the target",
                sum.rows
            );
            Err(Error::conflict(rule))
        }
    }
}
