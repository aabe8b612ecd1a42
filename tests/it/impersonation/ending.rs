//! What ends an impersonation, at once and on every server.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use serde_json::{Value, json};

use super::{END, Inside, LIST, OPERATOR, at, begin, begin_with, journal, list, status};
use crate::{
    sessions::member,
    support::{Client, Received, Socket, Tenant, TestApp},
};

const SUSPEND: &str =
    "mutation($id: ID!) { suspendTenant(input: {id: $id, mode: HARD, reason: SECURITY}) { tenant { status } } }";
const RESUME: &str = "mutation($id: ID!) { resumeTenant(input: {id: $id}) { tenant { status } } }";

/// An impersonation that is in use at two servers, as requests and as a stream.
struct InUse {
    first: TestApp,
    second: TestApp,
    acme: Tenant,
    inside: Inside,
}

impl InUse {
    async fn start() -> Self {
        let first = TestApp::start().await;
        let second = first.replica("").await;
        let acme = first.tenant("acme").await;
        let inside = begin(&first, &first.admin().await, &acme).await;
        let in_use = Self { first, second, acme, inside };
        for _ in 0..3 {
            assert_eq!((status(&in_use.inside.client).await, status(&in_use.there()).await), (200, 200));
        }
        in_use
    }

    fn there(&self) -> Client {
        at(&self.inside.client, &self.second, &self.acme)
    }

    /// Requests at the second server go on while `end` is done at the first; from its answer on none is let in.
    async fn ends_with(&self, end: impl Future<Output = ()>) {
        let mut socket = followed(&self.second, &self.there()).await;
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
        let (here, there) = (status(&self.inside.client).await, status(&self.there()).await);
        done.send(true).unwrap();
        println!(
            "ended after {} ms, {} requests were let in at the other server until then",
            acknowledged.as_millis(),
            asking.await.unwrap()
        );
        assert!(![here, there].contains(&200), "{here} {there}");
        assert!(acknowledged < Duration::from_secs(1), "{acknowledged:?}");
        closes(&mut socket).await;
    }
}

async fn followed(app: &TestApp, client: &Client) -> Socket {
    let mut socket = app.socket(client).await;
    socket.subscribe("s", "subscription { tenantEvents { cursor } }", json!({})).await;
    socket
}

async fn closes(socket: &mut Socket) {
    let closed = tokio::time::timeout(Duration::from_secs(1), async {
        while !matches!(socket.next().await, Received::Closed { .. }) {}
    });
    closed.await.expect("the stream ends within a second");
}

fn ended(answer: &Value) -> Value {
    answer["endImpersonation"]["impersonation"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_ends_it_on_both_servers_in_the_middle_of_use() {
    let in_use = InUse::start().await;
    let admin = in_use.first.admin().await;
    let other = begin(&in_use.first, &admin, &in_use.acme).await;
    let input = json!({ "input": { "tenantId": in_use.acme.id, "id": in_use.inside.id } });
    in_use.ends_with(async { drop(admin.ok(END, input.clone()).await) }).await;
    assert_eq!(status(&other.client).await, 200, "another one goes on");
    let by = json!({ "kind": "OPERATOR", "name": OPERATOR });
    let entries = journal(&in_use.first, &in_use.acme, "ImpersonationEnded").await;
    assert_eq!((entries.len(), &entries[0]["actor"]), (1, &by));
    assert_eq!(entries[0]["subject"]["id"], in_use.inside.id);
    // Twice is once.
    let again = ended(&admin.ok(END, input).await);
    assert_eq!((&again["endedBy"], &again["running"]), (&by, &json!(false)));
    assert_eq!(journal(&in_use.first, &in_use.acme, "ImpersonationEnded").await.len(), 1);
    let listed = list(&admin, Some(&in_use.acme)).await;
    let told: Vec<_> = listed.iter().map(|node| (&node["running"], node["endedAt"].is_null())).collect();
    assert_eq!(told, [(&json!(true), true), (&json!(false), false)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tenants_own_administrator_sends_an_operator_away() {
    let in_use = InUse::start().await;
    let anna = member(&in_use.first, &in_use.acme, "anna@example.com", &["admin"]).await;
    let input = json!({ "input": { "id": in_use.inside.id } });
    in_use.ends_with(async { drop(anna.client.ok(END, input).await) }).await;
    let listed = list(&anna.client, None).await[0].clone();
    assert_eq!(listed["endedBy"], json!({ "kind": "MEMBER", "name": anna.member }));
    assert_eq!(status(&anna.client).await, 200, "whose own session goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspension_ends_it_for_good() {
    let in_use = InUse::start().await;
    let admin = in_use.first.admin().await;
    in_use.ends_with(async { drop(admin.ok(SUSPEND, json!({ "id": in_use.acme.id })).await) }).await;
    admin.ok(RESUME, json!({ "id": in_use.acme.id })).await;
    assert_eq!((status(&in_use.inside.client).await, status(&in_use.there()).await), (401, 401));
    let listed = list(&admin, Some(&in_use.acme)).await[0].clone();
    assert_eq!((&listed["running"], &listed["endedAt"]), (&json!(false), &json!(null)));
}

#[tokio::test]
async fn it_ends_by_its_time_with_its_streams_and_there_is_no_way_on() {
    let app = TestApp::with("socket.reauthorize_every = \"100ms\"").await;
    let (acme, admin) = (app.tenant("acme").await, app.admin().await);
    let inside = begin_with(&app, &admin, &acme, json!({ "seconds": 120 })).await;
    let longer = begin(&app, &admin, &acme).await;
    let mut socket = followed(&app, &inside.client).await;
    app.advance(TimeDelta::seconds(60));
    assert_eq!(status(&inside.client).await, 200);
    app.advance(TimeDelta::seconds(60));
    assert_eq!((status(&inside.client).await, status(&longer.client).await), (401, 200));
    closes(&mut socket).await;
    let refresh =
        "mutation($token: String!) { refreshSession(input: {refreshToken: $token}) { tokens { accessToken } } }";
    let token = json!({ "token": inside.client.token() });
    assert_eq!(app.anonymous().refused(refresh, token).await, "unauthenticated");
    app.advance(TimeDelta::minutes(13));
    assert_eq!(status(&longer.client).await, 401, "a quarter of an hour where nothing is said");
    // To end one that has run out changes nothing.
    let admin = app.admin().await;
    let input = json!({ "input": { "tenantId": acme.id, "id": inside.id } });
    let over = ended(&admin.ok(END, input).await);
    assert_eq!((&over["endedAt"], &over["running"]), (&json!(null), &json!(false)));
    assert_eq!(journal(&app, &acme, "ImpersonationEnded").await.len(), 0);
    // It is remembered for 400 days.
    app.run_due().await;
    assert!(app.metric("tenantry_impersonations_running").await.is_some());
    app.advance(TimeDelta::days(399));
    app.run_due().await;
    assert_eq!(list(&app.admin().await, Some(&acme)).await.len(), 2);
    app.advance(TimeDelta::days(2));
    app.run_due().await;
    assert_eq!(list(&app.admin().await, Some(&acme)).await.len(), 0);
}

#[tokio::test]
async fn nobody_else_ends_it() {
    let app = TestApp::start().await;
    let (acme, other) = (app.tenant("acme").await, app.tenant("other").await);
    let inside = begin(&app, &app.admin().await, &acme).await;
    let input = json!({ "input": { "id": inside.id } });
    let foreign = app.full_service(&other).await;
    assert_eq!(foreign.refused(END, input.clone()).await, "not_found");
    let theirs = json!({ "input": { "tenantId": acme.id, "id": inside.id } });
    assert_eq!(foreign.refused(END, theirs).await, "not_found");
    let reader = app.service(&acme, "auth:impersonation:read").await;
    reader.ok(LIST, json!({})).await;
    assert_eq!(reader.refused(END, input).await, "forbidden");
    let nothing = json!({ "input": { "id": "no id" } });
    assert_eq!(app.full_service(&acme).await.refused(END, nothing).await, "not_found");
    assert_eq!(status(&inside.client).await, 200);
}

#[tokio::test]
async fn the_tenants_network_rules_hold_inside() {
    let app = TestApp::start().await;
    let (acme, admin) = (app.tenant("acme").await, app.admin().await);
    let inside = begin(&app, &admin, &acme).await;
    assert_eq!(status(&inside.client).await, 200);
    let fence = "mutation($id: ID!) { setNetworkRules(input: {tenantId: $id, allowed: [{name: \"office\", network: \"203.0.113.0/24\"}]}) {
        networkRules { version } } }";
    admin.ok(fence, json!({ "id": acme.id })).await;
    assert_eq!(inside.client.refused(super::VIEWER, json!({})).await, "forbidden");
    let refused = super::try_begin(&admin, &acme, json!({})).await;
    assert_eq!(refused.code(), "forbidden", "{}", refused.text);
    assert_eq!(list(&admin, Some(&acme)).await.len(), 1);
}
