//! What a refusal of PostgreSQL means for a migration, in a sentence that shows nothing of what is in the cell.

use super::{
    migration::Migration,
    script::{DEFERRED_CODE, OTHER_MARK},
};
use crate::platform::db::Refusal;

/// What is to be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The schema is at another version than was thought.
    OtherMark,
    /// It may pass by itself.
    Again(String),
    /// Only a person can do something.
    Failed(String),
}

/// PostgreSQL, appendix A: the codes that are told apart.
pub(super) fn meaning(refusal: &Refusal, migrations: &[Migration]) -> Meaning {
    let at = place(refusal, migrations);
    let code = refusal.code.as_str();
    match code {
        OTHER_MARK => Meaning::OtherMark,
        DEFERRED_CODE => Meaning::Failed(
            "the schema has deferred triggers of its own, which no migration can run beside; make them immediate"
                .to_owned(),
        ),
        "55P03" => {
            Meaning::Again(format!("{at}a lock was not to be had within the lock timeout: its tables are in use"))
        }
        "40P01" | "40001" => Meaning::Again(format!("{at}it met another transaction of the tenant's ({code})")),
        "3F000" => Meaning::Again("the tenant has no schema yet".to_owned()),
        "57014" => Meaning::Failed(format!("{at}it took longer than the statement timeout")),
        _ if ["53", "57", "58", "08"].iter().any(|class| code.starts_with(class)) => {
            Meaning::Again(format!("the cell's PostgreSQL cannot do it now ({code})"))
        }
        _ => Meaning::Failed(format!("{at}{} ({code})", why(code))),
    }
}

fn why(code: &str) -> &'static str {
    match code {
        "42P07" | "42710" | "42701" | "42723" | "42P06" => "something of this name is there already",
        "42P01" | "42703" | "42704" | "42883" => "something that it names is not there",
        "42501" => "it reaches for what the tenant's role may not do",
        "42601" => "it is not well-formed SQL",
        "23502" => "a column that may not be null is null in some row",
        "23503" => "a row refers to one that is not there",
        "23505" => "a value that has to be unique is there more than once",
        "23514" => "a row breaks a check",
        "2BP01" => "something else depends on what it drops",
        "25001" | "0A000" => "it has a statement that cannot run in a transaction",
        "P0001" => "it raised an exception",
        _ => "PostgreSQL refuses it",
    }
}

/// `V0002__notes.sql, line 3: `, as far as it is known.
fn place(refusal: &Refusal, migrations: &[Migration]) -> String {
    if let Some((text, position)) = &refusal.place
        && let Some(migration) = migrations.iter().find(|migration| migration.sql == *text)
    {
        let line = 1 + text.chars().take(position.saturating_sub(1)).filter(|letter| *letter == '\n').count();
        return format!("{}, line {line}: ", migration.name);
    }
    let mut named = migrations.iter().filter(|migration| refusal.context.contains(migration.sql.trim_end()));
    match (named.next(), migrations) {
        (Some(migration), _) | (None, [migration]) => format!("{}: ", migration.name),
        (None, _) => String::new(),
    }
}
