//! What one replica changes, the other answers.

use std::time::{Duration, Instant};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use serde_json::json;

use super::{UPDATE, define_switch, evaluate, set};
use crate::support::TestApp;

const KILL: &str = "select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and application_name = 'tenantry listener'";

/// The last that connected. It is idle, so that it holds nothing that others wait for.
const NEWEST: &str = "select pid from pg_stat_activity
    where datname = current_database() and application_name = 'tenantry listener' order by backend_start desc limit 1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flag_changed_on_one_replica_is_what_the_other_answers_from_then_on() {
    let first = TestApp::start().await;
    let second = first.replica("").await;
    let (acme, admin) = (first.tenant("acme").await, first.admin().await);
    define_switch(&admin, "beta", json!({})).await;
    let (here, there) = (first.service(&acme, "auth:flag:read").await, second.service(&acme, "auth:flag:read").await);
    let (mut slowest, mut value) = (Duration::ZERO, false);
    for round in 0..20 {
        evaluate(&there, "beta").await; // in memory
        value = !value;
        let asked = Instant::now();
        // By turns the tenant's value and the definition.
        match round % 2 {
            0 => drop(set(&admin, &acme, "beta", json!(value)).await),
            _ => {
                let input =
                    json!({ "key": "beta", "enabled": round % 4 == 1, "offValue": value, "defaultValue": value });
                set(&admin, &acme, "beta", json!(null)).await;
                drop(admin.ok(UPDATE, json!({ "input": input })).await);
            }
        }
        slowest = slowest.max(asked.elapsed());
        assert_eq!(evaluate(&here, "beta").await["value"], json!(value), "round {round}, where it was changed");
        // Not in its time, but at once: who has acknowledged the change knew that this replica has heard of it.
        assert_eq!(evaluate(&there, "beta").await["value"], json!(value), "round {round}, on the other replica");
        if round % 2 == 1 {
            admin.ok(UPDATE, json!({ "input": { "key": "beta", "enabled": true } })).await;
        }
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    println!("a flag was changed on both replicas after at most {} ms (20 changes)", slowest.as_millis());
}

/// Waits until the replica hears of changes.
async fn listening(replica: &TestApp) {
    for _ in 0..5_000 {
        if replica.app.tenancy.snapshots().is_listening() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("the replica is still deaf");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_cannot_hear_never_answers_an_old_flag() {
    let first = TestApp::start().await;
    let second = first.replica("").await;
    let (acme, admin) = (first.tenant("acme").await, first.admin().await);
    define_switch(&admin, "beta", json!({})).await;
    let there = second.service(&acme, "auth:flag:read").await;
    let superuser = first.database.superuser().await;
    let (mut value, mut slowest) = (false, Duration::ZERO);
    for round in 0..30 {
        listening(&second).await;
        evaluate(&there, "beta").await; // in memory
        value = !value;
        superuser.execute_unprepared(KILL).await.unwrap();
        // At once: whether the replica has noticed by now or not.
        let cut = Instant::now();
        set(&admin, &acme, "beta", json!(value)).await;
        slowest = slowest.max(cut.elapsed());
        for _ in 0..5 {
            assert_eq!(evaluate(&there, "beta").await["value"], json!(value), "round {round}");
        }
    }
    println!("30 cuts, each change acknowledged within {} ms; no old value", slowest.as_millis());
}

/// No connection is closed and nothing fails: one just says nothing any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_connection_falls_silent_never_answers_an_old_flag() {
    let first = TestApp::start().await;
    let second = first.replica("").await;
    let (acme, admin) = (first.tenant("acme").await, first.admin().await);
    define_switch(&admin, "beta", json!({})).await;
    let there = second.service(&acme, "auth:flag:read").await;
    let mut value = false;
    for round in 0..3 {
        listening(&second).await;
        evaluate(&there, "beta").await; // in memory
        value = !value;
        let silent = Silent::newest_listener(&first).await;
        let changed = Instant::now();
        set(&admin, &acme, "beta", json!(value)).await;
        let acknowledged = changed.elapsed();
        for _ in 0..5 {
            assert_eq!(evaluate(&there, "beta").await["value"], json!(value), "round {round}");
        }
        drop(silent);
        println!("a change is acknowledged {} ms after a connection fell silent", acknowledged.as_millis());
    }
}

/// A backend of PostgreSQL that is stopped as long as this lives.
struct Silent(Pid);

impl Silent {
    async fn newest_listener(app: &TestApp) -> Self {
        let statement = Statement::from_string(DbBackend::Postgres, NEWEST);
        let row = app.database.superuser().await.query_one_raw(statement).await.unwrap().unwrap();
        let pid = Pid::from_raw(row.try_get("", "pid").unwrap());
        kill(pid, Signal::SIGSTOP).unwrap();
        Self(pid)
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        let _gone = kill(self.0, Signal::SIGCONT);
    }
}
