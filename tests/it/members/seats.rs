//! There are never more members than seats, and no seat is lost.

use futures::future::join_all;
use sea_orm::ConnectionTrait as _;
use serde_json::json;
use tenantry::{isolation::TenantScope, platform::ids::TenantId};

use super::{DEACTIVATE, INVITE, REACTIVATE, join, limit_seats, refused, seats};
use crate::support::{Client, TestApp};

async fn invite_many(clients: &[&Client], count: usize) -> (usize, usize) {
    let invited = (0..count).map(|index| {
        let input = json!({ "email": format!("m{index}@example.com"), "roles": ["viewer"] });
        clients[index % clients.len()].graphql(INVITE, json!({ "input": input }))
    });
    let answers = join_all(invited).await;
    let of = |code: &str| answers.iter().filter(|answer| answer.code() == code).count();
    assert_eq!(
        of("none") + of("quota_exceeded"),
        count,
        "{:?}",
        answers.iter().map(|answer| answer.code()).collect::<Vec<_>>()
    );
    (of("none"), of("quota_exceeded"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_that_invite_at_once_take_all_seats_and_not_one_more() {
    let first = TestApp::start().await;
    let second = first.replica("").await;
    let acme = first.tenant("acme").await;
    limit_seats(&first, &acme, 10).await;
    let (here, there) = (first.full_service(&acme).await, second.full_service(&acme).await);
    assert_eq!(invite_many(&[&here, &there], 30).await, (10, 20));
    assert_eq!(seats(&first, &acme).await, (10, 10, 0));
    let members = "{ members(first: 100) { edges { node { id } } } }";
    let members = here.ok(members, json!({})).await["members"]["edges"].clone();
    assert_eq!(members.as_array().unwrap().len(), 10);
}

#[tokio::test]
async fn a_deactivated_member_takes_no_seat() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    limit_seats(&app, &acme, 2).await;
    let service = app.full_service(&acme).await;
    let anna = join(&app, &service, "anna@example.com", &["viewer"]).await;
    join(&app, &service, "ben@example.com", &["viewer"]).await;
    let carl = json!({ "email": "carl@example.com", "roles": ["viewer"] });
    assert_eq!(refused(&service, INVITE, carl.clone()).await.0, "quota_exceeded");
    service.ok(DEACTIVATE, json!({ "input": { "id": anna } })).await;
    assert_eq!(seats(&app, &acme).await, (2, 1, 0));
    service.ok(INVITE, json!({ "input": carl })).await;
    assert_eq!(refused(&service, REACTIVATE, json!({ "id": anna })).await.0, "quota_exceeded");
    assert_eq!(seats(&app, &acme).await, (2, 2, 0));
}

#[tokio::test]
async fn what_is_refused_takes_no_seat() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let service = app.full_service(&acme).await;
    let anna = join(&app, &service, "anna@example.com", &["viewer"]).await;
    for (query, input) in [
        (INVITE, json!({ "email": "Anna@example.com", "roles": ["viewer"] })),
        (INVITE, json!({ "email": "ben@example.com", "roles": ["nothing"] })),
        (REACTIVATE, json!({ "id": anna })),
        (REACTIVATE, json!({ "id": acme.id })),
    ] {
        refused(&service, query, input).await;
    }
    assert_eq!(seats(&app, &acme).await, (10, 1, 0));
}

/// What a server leaves that dies: before the member is written, a reservation; after it, a row that nobody has counted.
#[tokio::test]
async fn a_crash_loses_no_seat_and_takes_none() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let (service, members) = (app.full_service(&acme).await, &app.app.members);
    let scope = TenantScope::system("test", acme.id);
    drop(members.take_seats(&scope, 3).await.unwrap());
    assert_eq!(seats(&app, &acme).await, (10, 0, 3));
    join(&app, &service, "anna@example.com", &["viewer"]).await;
    assert_eq!(seats(&app, &acme).await, (10, 1, 3));

    let held = members.take_seats(&scope, 2).await.unwrap();
    note(&app, acme.id, &format!("'{}'", reservation(&held)), 2).await;
    note(&app, acme.id, "null", -1).await;
    app.advance(chrono::TimeDelta::seconds(6));
    app.run_due().await;
    assert_eq!(seats(&app, &acme).await, (10, 2, 3));
    app.run_due().await;
    assert_eq!(seats(&app, &acme).await, (10, 2, 3), "once");

    // Nobody was there for so long that the reservation ended; the members are there all the same.
    let held = members.take_seats(&scope, 4).await.unwrap();
    app.advance(chrono::TimeDelta::minutes(61));
    app.run_due().await;
    assert_eq!(seats(&app, &acme).await, (10, 2, 0), "what nobody took is free");
    note(&app, acme.id, &format!("'{}'", reservation(&held)), 4).await;
    app.advance(chrono::TimeDelta::seconds(6));
    app.run_due().await;
    assert_eq!(seats(&app, &acme).await, (10, 6, 0));
}

fn reservation(seats: &tenantry::members::Seats) -> String {
    seats.reservation().unwrap().to_string()
}

async fn note(app: &TestApp, tenant: TenantId, reservation: &str, amount: i64) {
    let at = app.app.clock.now().to_rfc3339();
    let sql = format!(
        "insert into tenantry.member_seats (tenant_id, change_id, reservation_id, amount, created_at)
         values ('{tenant}', gen_random_uuid(), {reservation}, {amount}, '{at}')"
    );
    app.database.superuser().await.execute_unprepared(&sql).await.unwrap();
}
