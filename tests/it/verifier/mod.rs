//! Each rule of the isolation verifier is broken once or more, in a transaction that is rolled back: the verifier names
//! what was broken, and its remedy heals it.

use std::collections::BTreeSet;

use sea_orm::{ConnectOptions, ConnectionTrait as _, DatabaseConnection, DatabaseTransaction, TransactionTrait as _};
use tenantry::isolation::{Finding, rules, verify};

use crate::support;

mod breaks;
mod harmless;

use breaks::{BREAKS, Break};
use harmless::HARMLESS;

const LOGIN: &str = "tenantry_login";

/// No SQL makes an older server; a unit test beside the rule has it.
const NOT_BY_SQL: [&str; 1] = ["server-version"];

#[tokio::test]
async fn a_migrated_database_is_safe() {
    let database = superuser().await;
    let tx = begin(&database).await;
    assert_eq!(found(&tx).await, []);
}

#[tokio::test]
async fn the_login_role_can_verify_itself() {
    let database = superuser().await;
    let tx = begin(&database).await;
    run(&tx, "alter table tenantry.journal no force row level security").await;
    run(&tx, "set local session authorization tenantry_login; set local role tenantry_operator").await;
    assert_eq!(ids(&found(&tx).await), BTreeSet::from(["rls-forced"]));
}

#[tokio::test]
async fn an_empty_database_is_not_safe() {
    let database = superuser().await;
    let tx = begin(&database).await;
    run(&tx, "drop schema tenantry cascade").await;
    assert_eq!(ids(&found(&tx).await), BTreeSet::from(["schema-owner", "trigger-guard"]));
}

#[tokio::test]
async fn every_broken_rule_is_named_and_healed_by_its_remedy() {
    let database = superuser().await;
    let mut failures = Vec::new();
    for case in BREAKS {
        let tx = begin(&database).await;
        run(&tx, case.sql).await;
        let mut findings = found(&tx).await;
        // Roles are the whole cluster's: those that other tests make at the same time are not this case's.
        findings.retain(|finding| !finding.object.starts_with("unsafe_login"));
        if !findings.iter().any(|finding| (finding.rule, finding.object.as_str()) == (case.rule, case.object)) {
            failures
                .push(format!("{} on {} is not found after: {}\nbut: {findings:#?}", case.rule, case.object, case.sql));
        } else if ids(&findings) != case.ids() {
            failures.push(format!("not only {:?} after: {}\n{findings:#?}", case.ids(), case.sql));
        } else if case.heals {
            failures.extend(heal(&tx, findings).await.map(|failure| format!("{failure}\nafter: {}", case.sql)));
        }
        tx.rollback().await.unwrap();
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n\n"));
}

#[tokio::test]
async fn what_is_harmless_is_not_found() {
    let database = superuser().await;
    for (what, sql) in HARMLESS {
        let tx = begin(&database).await;
        run(&tx, sql).await;
        assert_eq!(found(&tx).await, [], "{what}");
        tx.rollback().await.unwrap();
    }
}

#[test]
fn every_rule_is_broken_in_a_test() {
    let tried: BTreeSet<_> = BREAKS.iter().map(|case| case.rule).chain(NOT_BY_SQL).collect();
    let known: BTreeSet<_> = rules().iter().map(|rule| rule.id).collect();
    assert_eq!(known, tried, "add what breaks the rule to tests/it/verifier/breaks.rs");
    assert_eq!(rules().len(), known.len(), "two rules have one id");
}

/// Runs each remedy and tells what goes wrong.
async fn heal(tx: &DatabaseTransaction, findings: Vec<Finding>) -> Option<String> {
    for Finding { remedy, .. } in &findings {
        if let Err(error) = tx.execute_unprepared(remedy).await {
            return Some(format!("`{remedy}` fails: {error}"));
        }
    }
    let left = found(tx).await;
    (!left.is_empty()).then(|| format!("after the remedies of {findings:#?} there is still {left:#?}"))
}

impl Break {
    fn ids(&self) -> BTreeSet<&'static str> {
        self.also.iter().copied().chain([self.rule]).collect()
    }
}

fn ids(findings: &[Finding]) -> BTreeSet<&'static str> {
    findings.iter().map(|finding| finding.rule).collect()
}

async fn found(tx: &DatabaseTransaction) -> Vec<Finding> {
    verify(tx, LOGIN).await.unwrap()
}

async fn run(tx: &DatabaseTransaction, sql: &str) {
    if let Err(error) = tx.execute_unprepared(sql).await {
        panic!("{error}\nin: {sql}");
    }
}

async fn superuser() -> DatabaseConnection {
    let mut options = ConnectOptions::new(support::database().await.superuser_url());
    options.max_connections(1).sqlx_logging(false);
    sea_orm::Database::connect(options).await.unwrap()
}

#[expect(clippy::disallowed_methods, reason = "a superuser's transaction, which no session of the product is")]
async fn begin(database: &DatabaseConnection) -> DatabaseTransaction {
    database.begin().await.unwrap()
}
