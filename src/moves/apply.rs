//! Changes of the source as statements for the target, and which rows they touched.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    decode::{Change, Relation, Relations, Transaction, Value},
    place::Place,
};
use crate::{
    cells::{literal, quoted},
    error::{Error, Result},
};

/// Rows that are to be compared anew, by table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Touched(pub(super) BTreeMap<Place, Rows>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    /// It was emptied, or has no key.
    All,
    /// The columns of the key, and a literal for each of them.
    Some { key: Vec<String>, values: BTreeSet<Vec<String>> },
}

impl Touched {
    fn whole(&mut self, table: &Place) {
        self.0.insert(table.clone(), Rows::All);
    }

    fn row(&mut self, relation: &Relation, row: &[Value]) {
        if relation.is_full {
            return self.whole(&relation.place);
        }
        let keys: Vec<_> = relation.columns.iter().zip(row).filter(|(column, _)| column.is_key).collect();
        let values = keys.iter().map(|(_, value)| written(value)).collect();
        let key = keys.iter().map(|(column, _)| column.name.clone()).collect();
        let rows = self.0.entry(relation.place.clone()).or_insert(Rows::Some { key, values: BTreeSet::new() });
        if let Rows::Some { values: known, .. } = rows {
            known.insert(values);
        }
    }
}

/// The statements that do at the target what `transactions` did at the source.
pub(super) fn statements(
    relations: &Relations,
    transactions: &[Transaction],
    touched: &mut Touched,
) -> Result<Vec<String>> {
    let mut statements = Vec::new();
    for change in transactions.iter().flat_map(|transaction| &transaction.changes) {
        statements.push(statement(relations, change, touched)?);
    }
    Ok(statements)
}

fn statement(relations: &Relations, change: &Change, touched: &mut Touched) -> Result<String> {
    let known = |table: &u32| {
        relations.get(table).ok_or_else(|| Error::internal("a change is of a table that was not described"))
    };
    Ok(match change {
        Change::Insert { table, new } => {
            let relation = known(table)?;
            touched.row(relation, new);
            insert(relation, new)
        }
        Change::Update { table, old, new } => {
            let relation = known(table)?;
            touched.row(relation, new);
            if let Some(old) = old {
                touched.row(relation, old);
            }
            update(relation, old.as_ref(), new)
        }
        Change::Delete { table, old } => {
            let relation = known(table)?;
            touched.row(relation, old);
            format!("DELETE FROM ONLY {} WHERE {}", relation.place, the_row(relation, old))
        }
        Change::Truncate { tables } => {
            let relations = tables.iter().map(known).collect::<Result<Vec<_>>>()?;
            relations.iter().for_each(|relation| touched.whole(&relation.place));
            let places: Vec<_> = relations.iter().map(|relation| format!("ONLY {}", relation.place)).collect();
            format!("TRUNCATE {}", places.join(", "))
        }
    })
}

fn insert(relation: &Relation, new: &[Value]) -> String {
    let names: Vec<_> = relation.columns.iter().map(|column| quoted(&column.name)).collect();
    let values: Vec<_> = new.iter().map(written).collect();
    let (place, names, values) = (&relation.place, names.join(", "), values.join(", "));
    format!("INSERT INTO {place} ({names}) OVERRIDING SYSTEM VALUE VALUES ({values})")
}

fn update(relation: &Relation, old: Option<&Vec<Value>>, new: &[Value]) -> String {
    let set: Vec<_> = relation
        .columns
        .iter()
        .zip(new)
        .filter(|(_, value)| **value != Value::Unchanged)
        .map(|(column, value)| format!("{} = {}", quoted(&column.name), written(value)))
        .collect();
    let which = the_row(relation, old.map_or(new, Vec::as_slice));
    format!("UPDATE ONLY {} SET {} WHERE {which}", relation.place, set.join(", "))
}

/// By its key; where there is none, one row of those that are alike: by the texts that the stream has, which the types' own output
/// functions make. A cast to text is another thing: of a boolean it is `true`, not `t`.
fn the_row(relation: &Relation, row: &[Value]) -> String {
    let keys = relation.columns.iter().zip(row).filter(|(column, value)| column.is_key && **value != Value::Unchanged);
    if !relation.is_full {
        let terms: Vec<_> =
            keys.map(|(column, value)| format!("{} = {}", quoted(&column.name), written(value))).collect();
        return terms.join(" AND ");
    }
    let terms: Vec<_> = keys
        .map(|(column, value)| match value {
            Value::Text(text) => format!("pg_catalog.format('%s', {}) = {}", quoted(&column.name), literal(text)),
            Value::Null | Value::Unchanged => format!("{} IS NULL", quoted(&column.name)),
        })
        .collect();
    format!("ctid = (SELECT ctid FROM ONLY {} WHERE {} LIMIT 1)", relation.place, terms.join(" AND "))
}

fn written(value: &Value) -> String {
    match value {
        Value::Text(text) => literal(text),
        Value::Null | Value::Unchanged => "NULL".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::decode::Column, *};

    fn relation(is_full: bool) -> Relation {
        let column = |name: &str, is_key| Column { name: name.to_owned(), is_key };
        Relation { place: items(), is_full, columns: vec![column("id", true), column("note", is_full)] }
    }

    fn items() -> Place {
        Place { schema: "t_x".to_owned(), name: "it\"ems".to_owned() }
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn done(is_full: bool, change: Change) -> (String, Touched) {
        let mut touched = Touched::default();
        let relations = [(1, relation(is_full))].into();
        let transactions = [Transaction { changes: vec![change], ..Transaction::default() }];
        let statements = statements(&relations, &transactions, &mut touched).unwrap();
        (statements.join(";"), touched)
    }

    #[test]
    fn a_row_with_a_key_is_found_by_it() {
        let (sql, _) = done(false, Change::Insert { table: 1, new: vec![text("1"), text("a'b\\")] });
        assert_eq!(
            sql,
            r#"INSERT INTO "t_x"."it""ems" ("id", "note") OVERRIDING SYSTEM VALUE VALUES (E'1', E'a''b\\')"#
        );
        let (sql, touched) = done(
            false,
            Change::Update {
                table: 1,
                old: Some(vec![text("1"), Value::Null]),
                new: vec![text("2"), Value::Unchanged],
            },
        );
        assert_eq!(sql, r#"UPDATE ONLY "t_x"."it""ems" SET "id" = E'2' WHERE "id" = E'1'"#);
        let values = BTreeSet::from([vec!["E'1'".to_owned()], vec!["E'2'".to_owned()]]);
        assert_eq!(touched.0[&items()], Rows::Some { key: vec!["id".to_owned()], values });
        let (sql, _) = done(false, Change::Delete { table: 1, old: vec![text("1"), Value::Null] });
        assert_eq!(sql, r#"DELETE FROM ONLY "t_x"."it""ems" WHERE "id" = E'1'"#);
    }

    #[test]
    fn one_of_the_rows_that_are_alike_is_changed_where_there_is_no_key() {
        let (sql, touched) = done(true, Change::Delete { table: 1, old: vec![text("1"), Value::Null] });
        assert_eq!(
            sql,
            r#"DELETE FROM ONLY "t_x"."it""ems" WHERE ctid = (SELECT ctid FROM ONLY "t_x"."it""ems" WHERE pg_catalog.format('%s', "id") = E'1' AND "note" IS NULL LIMIT 1)"#
        );
        assert_eq!(touched.0[&items()], Rows::All);
        let (sql, touched) = done(false, Change::Truncate { tables: vec![1] });
        assert_eq!((sql.as_str(), &touched.0[&items()]), (r#"TRUNCATE ONLY "t_x"."it""ems""#, &Rows::All));
    }
}
