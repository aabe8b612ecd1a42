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
