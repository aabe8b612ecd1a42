//! The first things that a person does.

use serde_json::json;
use tenantry::access::Role;

use crate::support::TestApp;

#[tokio::test]
async fn a_server_lives_and_is_ready() {
    let app = TestApp::start().await;
    let anonymous = app.anonymous();
    assert_eq!(anonymous.get("/livez").await.status, 200);
    let ready = anonymous.get("/readyz").await;
    assert_eq!((ready.status, &ready.body["checks"]["database"]), (200, &json!(true)), "{}", ready.text);
}

#[tokio::test]
async fn an_operator_creates_a_tenant_and_moves_it_through_its_life() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let admin = app.operator(Role::Admin).await;
    for (step, expected) in [
        ("suspendTenant(input: {id: $id, reason: BILLING, mode: HARD})", "SUSPENDED"),
        ("archiveTenant(input: {id: $id})", "ARCHIVED"),
        ("deleteTenant(input: {id: $id})", "DELETED"),
        ("cancelTenantDeletion(input: {id: $id})", "ARCHIVED"),
        ("unarchiveTenant(input: {id: $id})", "SUSPENDED"),
        ("resumeTenant(input: {id: $id})", "ACTIVE"),
    ] {
        let field = step.split('(').next().unwrap();
        let data = admin
            .ok(
                &format!("mutation($id: ID!) {{ {step} {{ tenant {{ status version }} }} }}"),
                json!({ "id": tenant.id }),
            )
            .await;
        assert_eq!(data[field]["tenant"]["status"], expected, "{step}");
    }
}

#[tokio::test]
async fn a_service_reads_its_own_tenant_and_nobody_elses() {
    let app = TestApp::start().await;
    let (own, other) = (app.tenant("own").await, app.tenant("other").await);
    let service = app.full_service(&own).await;
    let read = "query($id: ID) { tenant(id: $id) { id slug name } }";
    assert_eq!(service.ok(read, json!({})).await["tenant"]["name"], json!(own.canary));
    assert_eq!(service.ok(read, json!({ "id": other.id })).await["tenant"], json!(null));
}
