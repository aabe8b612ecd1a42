//! Several servers on one database.

use std::time::Duration;

use chrono::TimeDelta;
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use tenantry::isolation::TenantScope;

use super::{ask, exhaust, limit};
use crate::support::{Tenant, TestApp};

/// Takes one at a time until it is refused.
async fn drain(app: &TestApp, tenant: &Tenant) -> i64 {
    let scope = TenantScope::system("test", tenant.id);
    let mut taken = 0;
    while app.app.rates.check(&scope, "requests_per_second", 1).await.unwrap().unwrap().allowed {
        taken += 1;
        assert!(taken < 10_000);
    }
    taken
}

#[tokio::test]
async fn two_replicas_let_in_no_more_than_the_stated_bound() {
    const RATE: i64 = 100;
    const OVERRIDES: &str = "[rates]\nexchange = \"60s\""; // told by hand, below
    let first = TestApp::with(OVERRIDES).await;
    let second = first.replica(OVERRIDES).await;
    let tenant = first.tenant("replicated").await;
    limit(&first, &tenant, "requests_per_second", RATE).await;
    second.app.tenancy.snapshots().reread(tenant.id).await.unwrap();

    let (began, mut taken, mut longest, mut told) =
        (first.app.clock.now(), 0, TimeDelta::zero(), first.app.clock.now());
    let mut halfway = None;
    for step in 0..60 {
        for replica in [&first, &second] {
            taken += drain(replica, &tenant).await;
        }
        first.advance(TimeDelta::milliseconds(100));
        if step % 2 == 1 {
            for replica in [&first, &second] {
                replica.app.rates.exchange().await.unwrap();
            }
            let now = first.app.clock.now();
            (longest, told) = (longest.max(now - told), now);
        }
        if step == 30 {
            halfway = Some((first.app.clock.now(), taken));
        }
    }
    let whole = (first.app.clock.now() - began).as_seconds_f64();
    let rate = RATE as f64;
    let beyond = rate + 2.0 * rate * longest.as_seconds_f64();
    println!("{taken} in {whole:.2} s; exchanged every {longest} at most");
    assert!(taken as f64 <= rate + rate * whole + beyond, "{taken} in {whole} s");
    assert!(taken as f64 >= rate * whole * 0.9, "only {taken} in {whole} s");
    // What was too much at first is paid back: in the long run it is the rate.
    let (since, before) = halfway.unwrap();
    let (rest, seconds) = ((taken - before) as f64, (first.app.clock.now() - since).as_seconds_f64());
    assert!(rest <= rate * seconds * 1.2 + 1.0, "{rest} in {seconds} s");
}

#[tokio::test]
async fn replicas_tell_each_other_by_themselves() {
    let first = TestApp::with("[rates]\nexchange = \"20ms\"").await;
    let second = first.replica("[rates]\nexchange = \"20ms\"").await;
    let tenant = first.tenant("shared-limit").await;
    limit(&first, &tenant, "requests_per_second", 1).await;
    second.app.tenancy.snapshots().reread(tenant.id).await.unwrap();
    let (one, other) = (first.full_service(&tenant).await, second.full_service(&tenant).await);
    exhaust(&one).await;
    exhaust(&other).await;
    let database = first.database.superuser().await;
    for _ in 0..500 {
        let told = Statement::from_string(DbBackend::Postgres, "select consumed from tenantry.rate_usage");
        let row = database.query_one_raw(told).await.unwrap();
        if row.is_some_and(|row| row.try_get::<i64>("", "consumed").unwrap() >= 2) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nothing was told");
}

#[tokio::test]
async fn a_replica_that_can_tell_nobody_goes_on_alone_and_says_so() {
    let app = TestApp::with("[rates]\nexchange = \"10ms\"").await;
    let tenant = app.tenant("lonely").await;
    let service = app.full_service(&tenant).await;
    limit(&app, &tenant, "requests_per_second", 2).await;
    let database = app.database.superuser().await;
    database.execute_unprepared("alter table tenantry.rate_usage rename to away").await.unwrap();
    for _ in 0..500 {
        assert_eq!(exhaust(&service).await.code(), "rate_limited");
        app.advance(TimeDelta::seconds(1));
        assert_eq!(ask(&service).await.status, 200);
        if app.metric("tenantry_rate_exchanges_total{outcome=\"error\"}").await.is_some_and(|count| count > 0.0) {
            return;
        }
    }
    panic!("the metric says nothing");
}
