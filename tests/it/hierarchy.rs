//! Parents and children.

use serde_json::{Value, json};

use crate::support::{Client, Tenant, TestApp};

const SET: &str = "mutation($input: SetParentTenantInput!) { setParentTenant(input: $input) { tenant { parent { id barrier rollsUp version } } } }";
const RESERVE: &str = "mutation($amount: Int!) { reserveQuota(input: {lines: [{key: \"max_users\", amount: $amount}]}) { reservation { id } } }";
const USED: &str = "query($id: ID) { quotas(tenantId: $id, keys: [\"max_users\"]) { used reserved } }";

async fn put(admin: &Client, child: &Tenant, parent: Option<&Tenant>) -> String {
    let input = json!({ "id": child.id, "parentId": parent.map(|parent| parent.id), "rollsUp": true });
    admin.graphql(SET, json!({ "input": input })).await.code().to_owned()
}

#[tokio::test]
async fn a_tree_has_no_circle_and_is_not_too_deep() {
    let app = TestApp::with("tenancy.max_hierarchy_depth = 2").await;
    let [a, b, c, d] =
        [app.tenant("aaa").await, app.tenant("bbb").await, app.tenant("ccc").await, app.tenant("ddd").await];
    let admin = app.admin().await;
    assert_eq!(put(&admin, &b, Some(&a)).await, "none");
    assert_eq!(put(&admin, &c, Some(&b)).await, "none");
    for (child, parent) in [(&a, &a), (&a, &b), (&a, &c), (&d, &c)] {
        assert_eq!(put(&admin, child, Some(parent)).await, "invalid_input", "{} under {}", child.slug, parent.slug);
    }
    // D above A would make C the third level.
    assert_eq!(put(&admin, &a, Some(&d)).await, "invalid_input");
    let children = "query($id: ID!) { tenants(filter: {parentId: $id}) { edges { node { slug parent { id } } } } }";
    let found = admin.ok(children, json!({ "id": a.id })).await;
    assert_eq!(found["tenants"]["edges"], json!([{ "node": { "slug": "bbb", "parent": { "id": a.id } } }]));
    let stale = json!({ "input": { "id": b.id, "parentId": null, "expectedVersion": 0 } });
    assert_eq!(admin.refused(SET, stale).await, "conflict");
    assert_eq!(put(&admin, &b, None).await, "none");
    assert_eq!(put(&admin, &a, Some(&c)).await, "none", "nothing is above B any more");
    let nobody = json!({ "input": { "id": a.id, "parentId": "00000000-0000-4000-8000-000000000000" } });
    assert_eq!(admin.refused(SET, nobody).await, "invalid_input");
    let service = app.full_service(&a).await;
    assert_eq!(service.refused("{ tenant { parent { id } } }", json!({})).await, "forbidden");
}

#[tokio::test]
async fn two_changes_at_once_close_no_circle() {
    let app = TestApp::start().await;
    let (a, b, admin) = (app.tenant("aaa").await, app.tenant("bbb").await, app.admin().await);
    for _ in 0..5 {
        let (first, second) = tokio::join!(put(&admin, &a, Some(&b)), put(&admin, &b, Some(&a)));
        let mut codes = [first, second];
        codes.sort();
        assert_eq!(codes, ["invalid_input", "none"]);
        assert_eq!([put(&admin, &a, None).await, put(&admin, &b, None).await], ["none", "none"]);
    }
}

#[tokio::test]
async fn what_a_child_uses_counts_for_its_parents_quota_whose_figures_it_does_not_learn() {
    let app = TestApp::start().await;
    let (parent, left, right) = (app.tenant("parent").await, app.tenant("left").await, app.tenant("right").await);
    let admin = app.admin().await;
    let limit = "mutation($id: ID!) { setQuota(input: {tenantId: $id, key: \"max_users\", limit: 5, reason: \"shared\"}) { quota { limit } } }";
    admin.ok(limit, json!({ "id": parent.id })).await;
    for child in [&left, &right] {
        assert_eq!(put(&admin, child, Some(&parent)).await, "none");
    }
    let (left_service, right_service) = (app.full_service(&left).await, app.full_service(&right).await);
    let held = left_service.ok(RESERVE, json!({ "amount": 3 })).await["reserveQuota"]["reservation"]["id"].clone();
    let refused = right_service.graphql(RESERVE, json!({ "amount": 3 })).await;
    assert_eq!(refused.code(), "quota_exceeded");
    assert_eq!(refused.body["errors"][0]["extensions"]["details"], json!({ "key": "max_users", "requested": 3 }));
    let standing =
        async |tenant: &Tenant| -> Value { admin.ok(USED, json!({ "id": tenant.id })).await["quotas"][0].clone() };
    assert_eq!(standing(&right).await, json!({ "used": 0, "reserved": 0 }), "all or nothing");
    let commit = "mutation($id: ID!) { commitReservation(input: {reservationId: $id, lines: [{key: \"max_users\", amount: 2}]}) { reservation { state } } }";
    left_service.ok(commit, json!({ "id": held })).await;
    assert_eq!(standing(&parent).await, json!({ "used": 2, "reserved": 0 }));
    let used = "mutation { setQuotaUsage(input: {key: \"max_users\", used: 4}) { quota { used } } }";
    left_service.ok(used, json!({})).await;
    assert_eq!(standing(&parent).await, json!({ "used": 4, "reserved": 0 }));
    right_service.ok(RESERVE, json!({ "amount": 1 })).await;
    assert_eq!(right_service.refused(RESERVE, json!({ "amount": 1 })).await, "quota_exceeded");
}

const NAME: &str = "query($id: ID!) { tenant(id: $id) { slug } }";
const RENAME: &str =
    "mutation($id: ID!, $name: String!) { updateTenant(input: {id: $id, name: $name}) { tenant { name } } }";

#[tokio::test]
async fn administration_reaches_down_with_a_scope_as_far_as_configured_and_to_no_barrier() {
    let app = TestApp::with("tenancy.delegation_depth = 2").await;
    let [top, middle, low, lowest] =
        [app.tenant("top").await, app.tenant("middle").await, app.tenant("low").await, app.tenant("lowest").await];
    let admin = app.admin().await;
    for (child, parent) in [(&middle, &top), (&low, &middle), (&lowest, &low)] {
        assert_eq!(put(&admin, child, Some(parent)).await, "none");
    }
    // What it may see of its children is theirs: the oracle must not take it for a leak.
    let with = async |tenant: &Tenant, scopes: &str| {
        Client::operator(app.url(""), app.service_token(tenant, scopes).await, app.canaries.clone())
    };
    let reader = with(&top, "auth:tenant:read auth:tenant:write auth:children:read").await;
    let slug = async |client: &Client, tenant: &Tenant| {
        client.ok(NAME, json!({ "id": tenant.id })).await["tenant"]["slug"].clone()
    };
    assert_eq!(slug(&reader, &middle).await, "middle");
    assert_eq!(slug(&reader, &low).await, "low");
    assert_eq!(slug(&reader, &lowest).await, Value::Null, "three levels down");
    assert_eq!(
        reader.refused(RENAME, json!({ "id": middle.id, "name": "x" })).await,
        "not_found",
        "no scope to write below"
    );
    let without = with(&top, "auth:tenant:read").await;
    let upwards = with(&middle, "auth:tenant:read auth:children:read").await;
    assert_eq!((slug(&without, &middle).await, slug(&upwards, &top).await), (Value::Null, Value::Null));
    let lists =
        reader.refused("query($id: ID!) { tenant(id: $id) { quotas { key } } }", json!({ "id": middle.id })).await;
    assert_eq!(lists, "forbidden", "the field's own scope is needed, too");

    let writer = with(&top, "auth:tenant:read auth:tenant:write auth:children:read auth:children:write").await;
    writer.ok(RENAME, json!({ "id": low.id, "name": "Renamed" })).await;
    let events = admin
        .ok(
            "query($id: ID!) { audit(tenantId: $id, first: 1) { edges { node { event actor { kind } } } } }",
            json!({ "id": low.id }),
        )
        .await;
    assert_eq!(
        events["audit"]["edges"][0]["node"],
        json!({ "event": "TenantUpdated", "actor": { "kind": "SERVICE" } })
    );
    let suspend = "mutation($id: ID!, $mode: SuspensionMode!) { suspendTenant(input: {id: $id, mode: $mode, reason: POLICY}) { tenant { id } } }";
    admin.ok(suspend, json!({ "id": low.id, "mode": "GRACEFUL" })).await;
    assert_eq!(writer.refused(RENAME, json!({ "id": low.id, "name": "y" })).await, "tenant_suspended");
    assert_eq!(slug(&writer, &low).await, "low");
    let barrier = json!({ "input": { "id": middle.id, "parentId": top.id, "barrier": true } });
    admin.ok(SET, barrier).await;
    assert_eq!((slug(&writer, &middle).await, slug(&writer, &low).await), (Value::Null, Value::Null));
    assert_eq!(
        slug(&with(&middle, "auth:tenant:read auth:children:read").await, &low).await,
        "low",
        "below the barrier it goes on"
    );
    admin.ok(suspend, json!({ "id": top.id, "mode": "HARD" })).await;
    assert_eq!(writer.refused(NAME, json!({ "id": low.id })).await, "tenant_suspended");
}
