//! What one replica changes, the other answers.

use std::time::{Duration, Instant};

use sea_orm::ConnectionTrait as _;
use serde_json::json;

use super::{UPDATE, define_switch, evaluate, set};
use crate::support::TestApp;

const KILL: &str = "select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and application_name = 'tenantry listener'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flag_changed_on_one_replica_is_what_the_other_answers_within_a_second() {
    let first = TestApp::start().await;
    let second = first.replica("").await;
    let (acme, admin) = (first.tenant("acme").await, first.admin().await);
    define_switch(&admin, "beta", json!({})).await;
    let (here, there) = (first.service(&acme, "auth:flag:read").await, second.service(&acme, "auth:flag:read").await);
    let (mut slowest, mut value) = (Duration::ZERO, false);
    for round in 0..20 {
        evaluate(&there, "beta").await; // in memory
        value = !value;
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
        let acknowledged = Instant::now();
        assert_eq!(evaluate(&here, "beta").await["value"], json!(value), "round {round}, where it was changed");
        while evaluate(&there, "beta").await["value"] != json!(value) {
            assert!(
                acknowledged.elapsed() < Duration::from_secs(1),
                "round {round}: the other replica answers the old value"
            );
        }
        slowest = slowest.max(acknowledged.elapsed());
        if round % 2 == 1 {
            admin.ok(UPDATE, json!({ "input": { "key": "beta", "enabled": true } })).await;
        }
    }
    println!("a changed flag was answered by the other replica after at most {} ms (20 changes)", slowest.as_millis());
}

/// Waits until the replica hears of changes, or until it has noticed that it does not.
async fn until(replica: &TestApp, listening: bool) {
    for _ in 0..2_000 {
        if replica.app.tenancy.snapshots().is_listening() == listening {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("the replica is still {}", if listening { "deaf" } else { "sure to hear" });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_cannot_hear_never_answers_an_old_flag() {
    let first = TestApp::start().await;
    let second = first.replica("").await;
    let (acme, admin) = (first.tenant("acme").await, first.admin().await);
    define_switch(&admin, "beta", json!({})).await;
    let there = second.service(&acme, "auth:flag:read").await;
    let superuser = first.database.superuser().await;
    let (mut value, mut deaf, mut slowest) = (false, 0, Duration::ZERO);
    for round in 0..30 {
        until(&second, true).await;
        evaluate(&there, "beta").await; // in memory
        value = !value;
        superuser.execute_unprepared(KILL).await.unwrap();
        let killed = Instant::now();
        until(&second, false).await;
        slowest = slowest.max(killed.elapsed());
        set(&admin, &acme, "beta", json!(value)).await;
        // From here on the change is acknowledged, whether the replica hears again by now or not.
        deaf += usize::from(!second.app.tenancy.snapshots().is_listening());
        for _ in 0..5 {
            assert_eq!(evaluate(&there, "beta").await["value"], json!(value), "round {round}");
        }
    }
    println!(
        "30 cuts, noticed after at most {} ms; {deaf} changes acknowledged while deaf; no old value",
        slowest.as_millis()
    );
    assert!(deaf > 0, "no change was acknowledged while the replica was deaf");
}
