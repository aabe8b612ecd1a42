//! Entries by filter, in order, page by page. Every list goes along an index and starts at its cursor.

use async_graphql::{Enum, InputObject};
use chrono::{DateTime, Utc};
use sea_orm::{FromQueryResult as _, Value};

use super::{
    Audit, Reach,
    record::{COLUMNS, Cursor, NAMES, Record, Row, foreign_cursor},
};
use crate::{
    error::{Context as _, Error, Result},
    platform::{
        db::Tx,
        ids::TenantId,
        page::{Page, PageRequest},
    },
};

const MOST_EVENTS: usize = 20;
const LONGEST_TEXT: usize = 500;

/// Which entries are wanted: all conditions hold at once.
#[derive(Clone, Debug, Default, InputObject)]
#[graphql(name = "AuditFilter")]
pub struct Filter {
    /// One of these events, e.g. `TenantSuspended`; at most 20.
    pub events: Option<Vec<String>>,
    /// Name of who did it: a token's subject, exactly.
    pub actor: Option<String>,
    /// What it was done to, e.g. `tenant`, `plan`, `client`.
    pub subject_kind: Option<String>,
    /// The id of what it was done to, exactly.
    pub subject_id: Option<String>,
    /// Done at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Done before this time.
    pub until: Option<DateTime<Utc>>,
    /// Only the platform's own entries, which belong to no tenant. For operators, and not beside `tenantId`.
    #[graphql(default)]
    pub platform: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Enum)]
#[graphql(name = "AuditOrder")]
pub enum Order {
    #[default]
    NewestFirst,
    /// As it was recorded. Over all tenants an entry shows once every transaction that began before it has ended, so that
    /// paging on never skips one.
    OldestFirst,
}

/// A piece of the journal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// Whose chain; `None`: everyone's.
    pub(super) tenant: Option<TenantId>,
    pub(super) filter: &'a Filter,
    pub(super) order: Order,
    pub(super) after: Option<Cursor>,
    /// A snapshot of PostgreSQL: only what it did not see yet.
    pub(super) unseen: Option<&'a str>,
    pub(super) limit: usize,
}

impl Audit {
    pub async fn list(&self, reach: &Reach, filter: &Filter, order: Order, request: &PageRequest) -> Result<Page<Row>> {
        let after = request.after.as_deref().map(Cursor::decode).transpose()?;
        let limit = request.first + 1;
        let tx = self.read(reach).await?;
        let found = rows(&tx, Wanted { tenant: reach.tenant(), filter, order, after, unseen: None, limit }).await?;
        if let (true, Reach::Chain(chain)) = (found.is_empty(), reach)
            && head(&tx, chain.tenant()).await?.is_none()
        {
            chain.nothing_there()?;
        }
        tx.end().await?;
        Ok(request.page(found))
    }
}

/// The sequence of a chain's last entry, as its head has it.
pub(super) async fn head(tx: &Tx, tenant: TenantId) -> Result<Option<i64>> {
    let row = tx.row("select sequence from tenantry.journal_heads where tenant_id = $1", [tenant.into()]).await?;
    Ok(row.map(|row| row.try_get("", "sequence")).transpose()?)
}

pub(super) async fn rows(tx: &Tx, wanted: Wanted<'_>) -> Result<Vec<Row>> {
    let (sql, values) = statement(wanted)?;
    let rows = tx.rows(&sql, values).await?;
    rows.iter()
        .map(|row| {
            let record = Record::from_query_result(row, "")?;
            let cursor = match wanted.tenant {
                Some(_) => Cursor::Sequence(record.sequence),
                None => {
                    let transaction: String = row.try_get("", "xid")?;
                    Cursor::Place(
                        transaction.parse().context("read a transaction's number")?,
                        row.try_get("", "position")?,
                    )
                }
            };
            Ok(Row { cursor, record })
        })
        .collect()
}

impl Filter {
    fn check(&self) -> Result<()> {
        let events = self.events.as_deref();
        if events.is_some_and(|events| events.is_empty() || events.len() > MOST_EVENTS) {
            return Err(Error::invalid(
                "filter.events",
                format!("must name 1 to {MOST_EVENTS} events, or be left out"),
            ));
        }
        let texts = events.into_iter().flatten().map(|event| ("events", Some(event)));
        let others = [("actor", &self.actor), ("subjectKind", &self.subject_kind), ("subjectId", &self.subject_id)];
        for (field, text) in texts.chain(others.map(|(field, text)| (field, text.as_ref()))) {
            if text.is_some_and(|text| text.is_empty() || text.len() > LONGEST_TEXT || text.contains('\0')) {
                return Err(Error::invalid(
                    format!("filter.{field}"),
                    format!("must have 1 to {LONGEST_TEXT} bytes, and no NUL"),
                ));
            }
        }
        if let (Some(since), Some(until)) = (self.since, self.until)
            && since >= until
        {
            return Err(Error::invalid("filter.until", "must be later than `since`"));
        }
        Ok(())
    }
}

/// Values of a statement, and the names that they have in it.
#[derive(Default)]
struct Values(Vec<Value>);

impl Values {
    fn bind(&mut self, value: impl Into<Value>) -> String {
        self.0.push(value.into());
        format!("${}", self.0.len())
    }
}

/// Several events are several index scans that stop at the page's end each, merged; `event in (…)` would sort all there are.
fn statement(wanted: Wanted<'_>) -> Result<(String, Vec<Value>)> {
    wanted.filter.check()?;
    let mut values = Values::default();
    let conditions = conditions(&wanted, &mut values)?;
    let mut events = wanted.filter.events.clone().unwrap_or_default();
    events.sort_unstable();
    events.dedup();
    let limit = values.bind(wanted.limit as i64);
    let order = order_by(&wanted);
    // The order names the table's columns: a bare `transaction` would be the text of the same name, and sort as text.
    let (columns, names) = match wanted.tenant {
        Some(_) => (COLUMNS.to_owned(), NAMES.to_owned()),
        None => {
            (format!("{COLUMNS}, transaction, transaction::text as xid, position"), format!("{NAMES}, xid, position"))
        }
    };
    let mut select = |event: Option<String>| {
        let event = event.map(|event| format!("event = {}", values.bind(event)));
        let all: Vec<_> = conditions.iter().cloned().chain(event).collect();
        let filter = if all.is_empty() { String::new() } else { format!("where {}", all.join(" and ")) };
        format!("select {columns} from tenantry.journal {filter} order by {order} limit {limit}")
    };
    let parts: Vec<_> = match events.is_empty() {
        true => vec![select(None)],
        false => events.into_iter().map(|event| select(Some(event))).collect(),
    };
    let parts = format!("({})", parts.join(") union all ("));
    Ok((format!("select {names} from ({parts}) journal order by {order} limit {limit}"), values.0))
}

fn order_by(wanted: &Wanted<'_>) -> &'static str {
    match (wanted.tenant, wanted.order) {
        (Some(_), Order::OldestFirst) => "journal.sequence",
        (Some(_), Order::NewestFirst) => "journal.sequence desc",
        (None, Order::OldestFirst) => "journal.transaction, journal.position",
        (None, Order::NewestFirst) => "journal.transaction desc, journal.position desc",
    }
}

fn conditions(wanted: &Wanted<'_>, values: &mut Values) -> Result<Vec<String>> {
    let (filter, beyond) = (wanted.filter, if wanted.order == Order::OldestFirst { ">" } else { "<" });
    let mut conditions = Vec::new();
    if let Some(tenant) = wanted.tenant {
        conditions.push(format!("tenant_id = {}", values.bind(tenant)));
    } else if wanted.order == Order::OldestFirst {
        conditions.push("transaction < pg_snapshot_xmin(pg_current_snapshot())".to_owned());
    }
    match (wanted.after, wanted.tenant) {
        (None, _) => {}
        (Some(Cursor::Sequence(sequence)), Some(_)) => {
            conditions.push(format!("sequence {beyond} {}", values.bind(sequence)))
        }
        (Some(Cursor::Place(transaction, position)), None) => {
            let (transaction, position) = (values.bind(transaction.to_string()), values.bind(position));
            conditions.push(format!("(transaction, position) {beyond} ({transaction}::xid8, {position})"));
        }
        (Some(Cursor::Sequence(_)), None) | (Some(Cursor::Place(..)), Some(_)) => return Err(foreign_cursor()),
    }
    if let Some(snapshot) = wanted.unseen {
        conditions.push(format!("not pg_visible_in_snapshot(transaction, {}::pg_snapshot)", values.bind(snapshot)));
    }
    for (column, text) in
        [("actor", &filter.actor), ("subject_kind", &filter.subject_kind), ("subject_id", &filter.subject_id)]
    {
        conditions.extend(text.as_deref().map(|text| format!("{column} = {}", values.bind(text))));
    }
    conditions.extend(filter.since.map(|since| format!("at >= {}", values.bind(since))));
    conditions.extend(filter.until.map(|until| format!("at < {}", values.bind(until))));
    Ok(conditions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(filter: &Filter) -> Wanted<'_> {
        Wanted {
            tenant: Some(TenantId::PLATFORM),
            filter,
            order: Order::OldestFirst,
            after: None,
            unseen: None,
            limit: 10,
        }
    }

    #[test]
    fn a_chain_is_never_read_without_its_tenant() {
        let filter = Filter { events: Some(vec!["B".to_owned(), "A".to_owned(), "B".to_owned()]), ..Filter::default() };
        let (sql, values) = statement(wanted(&filter)).expect("a statement");
        assert_eq!(
            sql.matches("from tenantry.journal where tenant_id = $1").count(),
            2,
            "one part for each event, once: {sql}"
        );
        assert_eq!(values.len(), 4);
        assert!(!sql.contains("xid"), "a tenant's rows carry no global numbers: {sql}");
    }

    #[test]
    fn over_all_tenants_oldest_first_waits_for_open_transactions() {
        let filter = Filter::default();
        let all = Wanted { tenant: None, after: Some(Cursor::Place(7, 1)), ..wanted(&filter) };
        let (sql, _) = statement(all).expect("a statement");
        assert!(sql.contains("transaction < pg_snapshot_xmin(pg_current_snapshot())"), "{sql}");
        assert!(sql.ends_with("order by journal.transaction, journal.position limit $3"), "{sql}");
    }

    #[test]
    fn a_cursor_of_another_list_is_refused() {
        let filter = Filter::default();
        let foreign = [
            Wanted { after: Some(Cursor::Place(1, 1)), ..wanted(&filter) },
            Wanted { tenant: None, after: Some(Cursor::Sequence(1)), ..wanted(&filter) },
        ];
        for wanted in foreign {
            assert_eq!(statement(wanted).expect_err("a foreign cursor").field(), Some("after"));
        }
    }

    #[test]
    fn filters_have_bounds() {
        let text = |text: &str| Some(text.to_owned());
        let at = |seconds| DateTime::from_timestamp(seconds, 0);
        let bad = [
            (Filter { events: Some(Vec::new()), ..Filter::default() }, "filter.events"),
            (Filter { events: Some(vec!["A".to_owned(); 21]), ..Filter::default() }, "filter.events"),
            (Filter { actor: text("a\0"), ..Filter::default() }, "filter.actor"),
            (Filter { subject_id: text(""), ..Filter::default() }, "filter.subjectId"),
            (Filter { since: at(2), until: at(2), ..Filter::default() }, "filter.until"),
        ];
        for (filter, field) in bad {
            assert_eq!(filter.check().expect_err("out of bounds").field(), Some(field));
        }
    }
}
