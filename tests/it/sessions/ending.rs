//! What ends sessions, at once and on every server.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use serde_json::json;

use super::{END, SESSIONS, SIGN_OUT, Signed, at, member, sign_in, status, try_refresh, try_sign_in};
use crate::{
    members::{DEACTIVATE, PASSWORD, REACTIVATE, SET_ROLES},
    support::{Received, Tenant, TestApp},
};

pub(super) const SUSPEND: &str =
    "mutation($id: ID!) { suspendTenant(input: {id: $id, mode: HARD, reason: SECURITY}) { tenant { status } } }";
pub(super) const RESUME: &str = "mutation($id: ID!) { resumeTenant(input: {id: $id}) { tenant { status } } }";
const CHANGE: &str = "mutation($input: ChangePasswordInput!) { changePassword(input: $input) { member { id } } }";

/// A session that is in use at two servers, as requests and as a stream.
struct InUse {
    first: TestApp,
    second: TestApp,
    acme: Tenant,
    anna: Signed,
}

impl InUse {
    async fn start() -> Self {
        let first = TestApp::start().await;
        let second = first.replica("").await;
        let acme = first.tenant("acme").await;
        let anna = member(&first, &acme, "anna@example.com", &["viewer"]).await;
        let in_use = Self { first, second, acme, anna };
        for _ in 0..3 {
            assert_eq!((status(&in_use.anna.client).await, status(&in_use.there()).await), (200, 200));
        }
        in_use
    }

    fn there(&self) -> crate::support::Client {
        at(&self.anna, &self.second, &self.acme)
    }

    /// Requests at the second server go on while `end` is done at the first; from its answer on none is let in.
    async fn ends_with(&self, end: impl Future<Output = ()>) {
        let mut socket = self.second.socket(&self.there()).await;
        socket.subscribe("s", "subscription { tenantEvents { cursor } }", json!({})).await;
        let asking = self.there();
        let (done, mut told) = tokio::sync::watch::channel(false);
        let asking = tokio::spawn(async move {
            let mut let_in = 0;
            while !*told.borrow_and_update() {
                if status(&asking).await == 200 {
                    let_in += 1;
                }
            }
            let_in
        });
        let began = Instant::now();
        end.await;
        let acknowledged = began.elapsed();
        let (here, there) = (status(&self.anna.client).await, status(&self.there()).await);
        done.send(true).unwrap();
        println!(
            "ended after {} ms, {} requests were let in at the other server until then",
            acknowledged.as_millis(),
            asking.await.unwrap()
        );
        assert!(![here, there].contains(&200), "{here} {there}");
        assert!(acknowledged < Duration::from_secs(1), "{acknowledged:?}");
        assert_ne!(try_refresh(&self.second, &self.anna.refresh_token).await.code(), "none");
        let closed = tokio::time::timeout(Duration::from_secs(1), async {
            while !matches!(socket.next().await, Received::Closed { .. }) {}
        });
        closed.await.expect("the stream ends within a second");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspension_ends_sessions_on_both_servers_in_the_middle_of_use() {
    let in_use = InUse::start().await;
    let admin = in_use.first.admin().await;
    in_use.ends_with(async { drop(admin.ok(SUSPEND, json!({ "id": in_use.acme.id })).await) }).await;
    let nobody = in_use.first.anonymous();
    let suspended = try_sign_in(&nobody, "acme", "anna@example.com", PASSWORD).await;
    assert_eq!(suspended.code(), "tenant_suspended");
    assert_eq!(try_sign_in(&nobody, "acme", "anna@example.com", "wrong").await.code(), "unauthenticated");
    // What ended stays so.
    admin.ok(RESUME, json!({ "id": in_use.acme.id })).await;
    assert_eq!(status(&in_use.anna.client).await, 401);
    assert_eq!(try_refresh(&in_use.first, &in_use.anna.refresh_token).await.code(), "unauthenticated");
    sign_in(&in_use.first, &in_use.acme, "anna@example.com").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_deactivated_is_out_on_both_servers() {
    let in_use = InUse::start().await;
    let service = in_use.first.full_service(&in_use.acme).await;
    let id = json!({ "input": { "id": in_use.anna.member } });
    in_use.ends_with(async { drop(service.ok(DEACTIVATE, id.clone()).await) }).await;
    let tried = try_sign_in(&in_use.first.anonymous(), "acme", "anna@example.com", PASSWORD).await;
    assert_eq!(tried.code(), "unauthenticated");
    service.ok(REACTIVATE, id).await;
    assert_eq!(status(&in_use.anna.client).await, 401, "its sessions do not come back");
    sign_in(&in_use.second, &in_use.acme, "anna@example.com").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_password_ends_all_sessions() {
    let in_use = InUse::start().await;
    let other = sign_in(&in_use.second, &in_use.acme, "anna@example.com").await;
    let wrong = json!({ "currentPassword": "wrong", "newPassword": "another sentence" });
    assert_eq!(other.client.refused(CHANGE, json!({ "input": wrong.clone() })).await, "invalid_input");
    // Nor may who has the session guess it.
    for waited in [0, 0, 0, 0, 0, 1, 2, 4] {
        in_use.first.advance(TimeDelta::seconds(waited));
        other.client.refused(CHANGE, json!({ "input": wrong.clone() })).await;
    }
    assert_eq!(other.client.refused(CHANGE, json!({ "input": wrong.clone() })).await, "rate_limited");
    in_use.first.advance(TimeDelta::seconds(10));
    let input = json!({ "currentPassword": PASSWORD, "newPassword": "another sentence" });
    in_use.ends_with(async { drop(other.client.ok(CHANGE, json!({ "input": input })).await) }).await;
    assert_eq!(status(&other.client).await, 401);
    let nobody = in_use.first.anonymous();
    assert_eq!(try_sign_in(&nobody, "acme", "anna@example.com", PASSWORD).await.code(), "unauthenticated");
    assert_eq!(try_sign_in(&nobody, "acme", "anna@example.com", "another sentence").await.code(), "none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ended_session_is_out_on_both_servers_and_others_go_on() {
    let in_use = InUse::start().await;
    let other = sign_in(&in_use.first, &in_use.acme, "anna@example.com").await;
    let service = in_use.first.service(&in_use.acme, "auth:session:write").await;
    let id = json!({ "input": { "id": in_use.anna.session } });
    in_use.ends_with(async { drop(service.ok(END, id.clone()).await) }).await;
    assert_eq!(status(&other.client).await, 200);
    assert_eq!(service.ok(END, id).await["endSession"]["session"]["endReason"], "ENDED", "twice is once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_is_taken_away_or_given_holds_at_once_and_ends_streams_that_had_more() {
    let in_use = InUse::start().await;
    let (service, there) = (in_use.first.full_service(&in_use.acme).await, in_use.there());
    let quotas = "{ quotas { key } }";
    let audit = "{ audit(first: 1) { edges { cursor } } }";
    there.ok(quotas, json!({})).await;
    assert_eq!(there.refused(audit, json!({})).await, "forbidden");
    let mut socket = in_use.second.socket(&there).await;
    let set = async |roles: serde_json::Value| {
        service.ok(SET_ROLES, json!({ "input": { "id": in_use.anna.member, "roles": roles } })).await;
    };
    set(json!(["admin"])).await;
    there.ok(audit, json!({})).await;
    // An own role is widened and narrowed under who has it.
    let role = async |scopes: serde_json::Value| {
        service.ok(crate::members::SET_ROLE, json!({ "input": { "key": "own", "scopes": scopes } })).await;
    };
    role(json!(["auth:tenant:read"])).await;
    set(json!(["own"])).await;
    assert_eq!(there.refused(quotas, json!({})).await, "forbidden");
    let closed = tokio::time::timeout(Duration::from_secs(1), async {
        while !matches!(socket.next().await, Received::Closed { .. }) {}
    });
    closed.await.expect("who was let in with more asks anew");
    role(json!(["auth:tenant:read", "auth:quota:read"])).await;
    there.ok(quotas, json!({})).await;
    role(json!(["auth:tenant:read"])).await;
    assert_eq!(there.refused(quotas, json!({})).await, "forbidden");
}

#[tokio::test]
async fn sessions_are_listed_and_ended_by_who_may() {
    let app = TestApp::start().await;
    let (acme, other) = (app.tenant("acme").await, app.tenant("other").await);
    let anna = member(&app, &acme, "anna@example.com", &["viewer"]).await;
    let ben = member(&app, &acme, "ben@example.com", &["admin"]).await;
    let foreign = member(&app, &other, "anna@example.com", &["owner"]).await;
    let list = async |who: &crate::support::Client, variables: serde_json::Value| {
        let found = who.ok(SESSIONS, variables).await["sessions"]["edges"].clone();
        found.as_array().unwrap().iter().map(|edge| edge["node"]["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(list(&anna.client, json!({})).await, std::slice::from_ref(&anna.session));
    assert_eq!(list(&ben.client, json!({})).await, [ben.session.clone(), anna.session.clone()]);
    assert_eq!(list(&ben.client, json!({ "member": anna.member })).await, std::slice::from_ref(&anna.session));
    assert_eq!(list(&app.admin().await, json!({ "id": acme.id })).await.len(), 2);
    assert_eq!(anna.client.refused(SESSIONS, json!({ "member": ben.member })).await, "forbidden");
    let end = |id: &str| json!({ "input": { "id": id } });
    assert_eq!(anna.client.refused(END, end(&ben.session)).await, "forbidden");
    assert_eq!(ben.client.refused(END, end(&foreign.session)).await, "not_found");
    assert_eq!(anna.client.ok(END, end(&anna.session)).await["endSession"]["session"]["endReason"], "SIGNED_OUT");
    assert_eq!(status(&anna.client).await, 401);
    ben.client.ok(SIGN_OUT, json!({})).await;
    assert_eq!(status(&ben.client).await, 401);
    let input = json!({ "tenantId": other.id, "id": foreign.session });
    app.admin().await.ok(END, json!({ "input": input })).await;
    assert_eq!(status(&foreign.client).await, 401);
    let service = app.full_service(&acme).await;
    assert_eq!(list(&service, json!({})).await.len(), 0);
    assert_eq!(service.refused(SIGN_OUT, json!({})).await, "forbidden");
}

#[tokio::test]
async fn a_session_ends_by_itself_and_its_tokens_with_it() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let anna = member(&app, &acme, "anna@example.com", &["viewer"]).await;
    app.advance(TimeDelta::minutes(59));
    assert_eq!(status(&anna.client).await, 401, "the access token is over");
    let again = super::refresh(&app, &acme, &anna.refresh_token).await;
    assert_eq!(status(&again.client).await, 200);
    app.advance(TimeDelta::minutes(60));
    assert_eq!(try_refresh(&app, &again.refresh_token).await.code(), "unauthenticated", "idle for an hour");
    // Refreshed again and again it lasts twelve hours.
    let mut signed = sign_in(&app, &acme, "anna@example.com").await;
    for _ in 0..14 {
        app.advance(TimeDelta::minutes(50));
        signed = super::refresh(&app, &acme, &signed.refresh_token).await;
    }
    app.advance(TimeDelta::minutes(20));
    assert_eq!(try_refresh(&app, &signed.refresh_token).await.code(), "unauthenticated");
    app.advance(TimeDelta::days(31));
    app.run_due().await;
    let superuser = app.database.superuser().await;
    let sql = "select count(*) as left from tenantry.member_sessions";
    let statement = sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, sql);
    let row = sea_orm::ConnectionTrait::query_one_raw(&superuser, statement).await.unwrap().unwrap();
    assert_eq!(row.try_get::<i64>("", "left").unwrap(), 0);
}
