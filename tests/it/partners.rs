//! Partners: delegated access to named other tenants, for some scopes, until a time.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::support::{Client, Received, Tenant, TestApp};

const GRANT: &str = "mutation($input: GrantPartnerAccessInput!) { grantPartnerAccess(input: $input) {
    access { partnerId tenantId scopes expiresAt reason grantedBy revokedAt inForce version } } }";
const REVOKE: &str =
    "mutation($input: RevokePartnerAccessInput!) { revokePartnerAccess(input: $input) { access { inForce version } } }";
const SLUG: &str = "query($id: ID!) { tenant(id: $id) { slug } }";
const QUOTAS: &str = "query($id: ID!) { tenant(id: $id) { quotas { key } } }";
const RENAME: &str =
    "mutation($id: ID!, $name: String!) { updateTenant(input: {id: $id, name: $name}) { tenant { name } } }";
const PARTNERS: &str = "query($id: ID!, $ended: Boolean!) { tenant(id: $id) { partnerAccess(includeEnded: $ended) {
    edges { node { partnerId scopes reason inForce } } } } }";
const ALL: &str = "auth:tenant:read auth:tenant:write auth:quota:read auth:audit:read auth:client:write auth:partner:read auth:partner:write";

/// A partner, a tenant that it works for, and one that it does not.
struct House {
    app: TestApp,
    admin: Client,
    partner: Tenant,
    tenant: Tenant,
    other: Tenant,
}

impl House {
    async fn with(settings: &str) -> Self {
        let app = TestApp::with(settings).await;
        let (partner, tenant, other) =
            (app.tenant("integrator").await, app.tenant("agency").await, app.tenant("stranger").await);
        let admin = app.admin().await;
        Self { admin, app, partner, tenant, other }
    }

    /// A service of the partner. What it may see of the tenant is the tenant's: the oracle must not take it for a leak.
    async fn partner(&self, scopes: &str) -> Client {
        let token = self.app.service_token(&self.partner, scopes).await;
        Client::operator(self.app.url(""), token, self.app.canaries.clone())
    }

    fn input(&self, scopes: &[&str], lasts: TimeDelta) -> Value {
        json!({
            "partnerId": self.partner.id, "tenantId": self.tenant.id, "scopes": scopes,
            "expiresAt": self.in_future(lasts), "reason": "rollout of the case system",
        })
    }

    async fn grant(&self, scopes: &[&str], lasts: TimeDelta) -> Value {
        let granted = self.admin.ok(GRANT, json!({ "input": self.input(scopes, lasts) })).await;
        granted["grantPartnerAccess"]["access"].clone()
    }

    async fn revoke(&self) -> Value {
        let input = json!({ "partnerId": self.partner.id, "tenantId": self.tenant.id });
        self.admin.ok(REVOKE, json!({ "input": input })).await["revokePartnerAccess"]["access"].clone()
    }

    fn in_future(&self, lasts: TimeDelta) -> DateTime<Utc> {
        self.app.app.clock.now() + lasts
    }
}

async fn slug(client: &Client, tenant: &Tenant) -> Value {
    client.ok(SLUG, json!({ "id": tenant.id })).await["tenant"]["slug"].clone()
}

#[tokio::test]
async fn a_partner_reaches_the_tenant_it_was_let_into_and_no_other() {
    let house = House::with("").await;
    let partner = house.partner(ALL).await;
    assert_eq!(slug(&partner, &house.tenant).await, Value::Null, "nothing is granted yet");
    let granted = house.grant(&["auth:tenant:read", "auth:quota:read"], TimeDelta::days(30)).await;
    assert_eq!(
        (&granted["inForce"], &granted["version"], &granted["revokedAt"]),
        (&json!(true), &json!(1), &Value::Null)
    );
    assert_eq!(slug(&partner, &house.tenant).await, "agency");
    assert_eq!(slug(&partner, &house.other).await, Value::Null);
    assert_eq!(slug(&partner, &house.partner).await, "integrator", "its own tenant as ever");
    let tenant = house.app.full_service(&house.tenant).await;
    assert_eq!(slug(&tenant, &house.partner).await, Value::Null, "access goes one way");
    let second = house.app.service(&house.other, ALL).await;
    assert_eq!(slug(&second, &house.tenant).await, Value::Null, "and is one partner's");
}

#[tokio::test]
async fn it_may_do_what_both_its_token_and_the_grant_are_good_for() {
    let house = House::with("").await;
    house.grant(&["auth:tenant:read", "auth:tenant:write", "auth:audit:read"], TimeDelta::days(1)).await;
    let id = json!({ "id": house.tenant.id });
    let full = house.partner(ALL).await;
    assert_eq!(full.refused(QUOTAS, id.clone()).await, "forbidden", "the grant has no auth:quota:read");
    let audit = "query($id: ID!) { tenant(id: $id) { audit(first: 1) { edges { node { event } } } } }";
    full.ok(audit, id.clone()).await;
    let narrow = house.partner("auth:tenant:read auth:tenant:write auth:partner:read").await;
    assert_eq!(narrow.refused(audit, id.clone()).await, "forbidden", "the token has no auth:audit:read");
    let rename = json!({ "id": house.tenant.id, "name": "Renamed" });
    assert_eq!(narrow.refused(RENAME, rename.clone()).await, "not_found", "auth:partner:write is needed to write");
    full.ok(RENAME, rename).await;
    let without = house.partner("auth:tenant:read auth:tenant:write").await;
    assert_eq!(slug(&without, &house.tenant).await, Value::Null, "and auth:partner:read to read");
    let client = "mutation($id: ID!) { createOAuthClient(input: {tenantId: $id, name: \"x\", scopes: [\"auth:tenant:read\"]}) { secret } }";
    assert_eq!(full.refused(client, id.clone()).await, "forbidden", "no credentials that would outlive the grant");
    let suspend = "mutation($id: ID!) { suspendTenant(input: {id: $id, reason: POLICY}) { tenant { id } } }";
    assert_eq!(full.refused(suspend, id).await, "forbidden");
}

#[tokio::test]
async fn what_it_does_stands_in_the_accessed_tenants_journal_with_the_partner_as_its_actor() {
    let house = House::with("").await;
    house.grant(&["auth:tenant:read", "auth:tenant:write"], TimeDelta::days(1)).await;
    house.partner(ALL).await.ok(RENAME, json!({ "id": house.tenant.id, "name": "Renamed" })).await;
    let read = "query($id: ID!, $event: String!) { audit(tenantId: $id, filter: {events: [$event]}) { edges { node { actor { kind name } after } } } }";
    let entries = async |tenant: &Tenant, event: &str| {
        let found = house.admin.ok(read, json!({ "id": tenant.id, "event": event })).await;
        found["audit"]["edges"].as_array().unwrap().clone()
    };
    let updated = entries(&house.tenant, "TenantUpdated").await;
    let actor = &updated[0]["node"]["actor"];
    assert_eq!(actor["kind"], "PARTNER");
    let name = actor["name"].as_str().unwrap();
    assert!(name.starts_with(&format!("{}/", house.partner.id)), "{name}");
    assert!(entries(&house.partner, "TenantUpdated").await.is_empty());
    let granted = entries(&house.tenant, "PartnerAccessGranted").await;
    assert_eq!(granted[0]["node"]["actor"]["kind"], "OPERATOR");
    assert_eq!(granted[0]["node"]["after"]["partnerId"], json!(house.partner.id));
    let verify = "query($id: ID!) { verifyAudit(tenantId: $id) { problemCount } }";
    assert_eq!(house.admin.ok(verify, json!({ "id": house.tenant.id })).await["verifyAudit"]["problemCount"], 0);
}

#[tokio::test]
async fn access_ends_at_its_time_and_at_a_revocation_on_every_replica() {
    let house = House::with("").await;
    let replica = house.app.replica("").await;
    let partner = house.partner(ALL).await;
    let there = Client::operator(replica.url(""), partner.token().unwrap().to_owned(), house.app.canaries.clone());
    house.grant(&["auth:tenant:read"], TimeDelta::minutes(5)).await;
    assert_eq!(
        (slug(&partner, &house.tenant).await, slug(&there, &house.tenant).await),
        (json!("agency"), json!("agency"))
    );
    assert_eq!(house.revoke().await, json!({ "inForce": false, "version": 2 }));
    assert_eq!((slug(&partner, &house.tenant).await, slug(&there, &house.tenant).await), (Value::Null, Value::Null));
    assert_eq!(house.revoke().await["version"], 2, "to revoke it again changes nothing");
    assert_eq!(house.grant(&["auth:tenant:read"], TimeDelta::minutes(5)).await["version"], 3);
    assert_eq!(slug(&there, &house.tenant).await, "agency");
    house.app.advance(TimeDelta::minutes(5) - TimeDelta::seconds(1));
    assert_eq!(slug(&there, &house.tenant).await, "agency");
    house.app.advance(TimeDelta::seconds(1));
    assert_eq!((slug(&partner, &house.tenant).await, slug(&there, &house.tenant).await), (Value::Null, Value::Null));
}

#[tokio::test]
async fn what_is_over_looks_like_what_never_was() {
    let house = House::with("").await;
    house.grant(&["auth:tenant:read", "auth:tenant:write"], TimeDelta::days(1)).await;
    house.revoke().await;
    let partner = house.partner(ALL).await;
    let shape = async |id: Value| {
        let answer = partner.graphql(RENAME, json!({ "id": id, "name": "x" })).await;
        let mut error = answer.body["errors"][0].clone();
        error["extensions"].as_object_mut().unwrap().remove("requestId");
        (answer.status, error)
    };
    let nobody = shape(json!("00000000-0000-4000-8000-000000000000")).await;
    assert_eq!(nobody.1["extensions"]["code"], "not_found");
    for id in [json!(house.tenant.id), json!(house.other.id), json!("not an id")] {
        assert_eq!(shape(id.clone()).await, nobody, "{id}");
    }
}

#[tokio::test]
async fn the_tenant_sees_who_may_reach_in_and_the_partner_where_it_reaches() {
    let house = House::with("").await;
    house.grant(&["auth:tenant:read"], TimeDelta::days(1)).await;
    let tenant = house.app.service(&house.tenant, "auth:tenant:read").await;
    let list = async |client: &Client, ended: bool| {
        let found = client.ok(PARTNERS, json!({ "id": house.tenant.id, "ended": ended })).await;
        found["tenant"]["partnerAccess"]["edges"].clone()
    };
    let mut shown = json!({ "partnerId": house.partner.id, "scopes": ["auth:tenant:read"],
        "reason": "rollout of the case system", "inForce": true });
    for client in [&tenant, &house.admin] {
        assert_eq!(list(client, false).await, json!([{ "node": shown }]));
    }
    let reach = "query($id: ID) { tenant(id: $id) { partnerOf { edges { node { id scopes } } } } }";
    let reached = json!([{ "node": { "id": house.tenant.id, "scopes": ["auth:tenant:read"] } }]);
    let partner = house.partner("auth:tenant:read auth:partner:read").await;
    assert_eq!(partner.ok(reach, json!({})).await["tenant"]["partnerOf"]["edges"], reached);
    assert_eq!(house.admin.ok(reach, json!({ "id": house.partner.id })).await["tenant"]["partnerOf"]["edges"], reached);
    let other = house.app.full_service(&house.other).await;
    assert_eq!(other.ok(reach, json!({})).await["tenant"]["partnerOf"]["edges"], json!([]));
    assert_eq!(tenant.refused(reach, json!({})).await, "forbidden");
    house.revoke().await;
    assert_eq!((list(&tenant, false).await, list(&partner, true).await), (json!([]), Value::Null));
    shown["inForce"] = json!(false);
    assert_eq!(list(&tenant, true).await, json!([{ "node": shown }]));
    assert_eq!(partner.ok(reach, json!({})).await["tenant"]["partnerOf"]["edges"], json!([]));
}

#[tokio::test]
async fn a_grant_that_makes_no_sense_is_refused_with_its_field() {
    let house = House::with("[tenancy]\nmax_partner_access = \"10days\"").await;
    let good = house.input(&["auth:tenant:read"], TimeDelta::days(10));
    let (deleted, child) = (house.app.tenant("deleted").await, house.app.tenant("child").await);
    let delete = "mutation($id: ID!) { deleteTenant(input: {id: $id}) { tenant { id } } }";
    house.admin.ok(delete, json!({ "id": deleted.id })).await;
    let parent = "mutation($id: ID!, $parent: ID) { setParentTenant(input: {id: $id, parentId: $parent, barrier: true}) { tenant { id } } }";
    house.admin.ok(parent, json!({ "id": child.id, "parent": house.tenant.id })).await;
    let nobody = json!("00000000-0000-4000-8000-000000000000");
    let wrong = [
        ("partnerId", json!({ "partnerId": house.tenant.id })),
        ("partnerId", json!({ "partnerId": nobody })),
        ("partnerId", json!({ "partnerId": deleted.id })),
        ("partnerId", json!({ "partnerId": child.id })),
        ("partnerId", json!({ "partnerId": house.tenant.id, "tenantId": child.id })),
        ("tenantId", json!({ "tenantId": nobody })),
        ("tenantId", json!({ "tenantId": deleted.id })),
        ("scopes", json!({ "scopes": [] })),
        ("scopes[1]", json!({ "scopes": ["auth:tenant:read", "auth:tenant:delete"] })),
        ("scopes[0]", json!({ "scopes": ["auth:lifecycle:write"] })),
        ("scopes[0]", json!({ "scopes": ["auth:client:write"] })),
        ("scopes[0]", json!({ "scopes": ["auth:children:read"] })),
        ("scopes[0]", json!({ "scopes": ["auth:partner:write"] })),
        ("expiresAt", json!({ "expiresAt": house.in_future(TimeDelta::zero()) })),
        ("expiresAt", json!({ "expiresAt": house.in_future(TimeDelta::days(10) + TimeDelta::minutes(1)) })),
        ("reason", json!({ "reason": " " })),
        ("reason", json!({ "reason": "a\u{0}b" })),
        ("reason", json!({ "reason": "r".repeat(2001) })),
    ];
    for (field, change) in wrong {
        let mut input = good.clone();
        input.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let answer = house.admin.graphql(GRANT, json!({ "input": input })).await;
        assert_eq!(answer.code(), "invalid_input", "{change}: {}", answer.text);
        assert_eq!(answer.body["errors"][0]["extensions"]["field"], field, "{change}");
    }
    house.admin.ok(GRANT, json!({ "input": good })).await;
    let mut stale = good;
    stale["expectedVersion"] = json!(0);
    assert_eq!(house.admin.refused(GRANT, json!({ "input": stale })).await, "conflict");
    let unknown = json!({ "partnerId": house.other.id, "tenantId": house.tenant.id });
    assert_eq!(house.admin.refused(REVOKE, json!({ "input": unknown })).await, "not_found");
    let service = house.app.full_service(&house.tenant).await;
    let input = house.input(&["auth:tenant:read"], TimeDelta::days(1));
    assert_eq!(service.refused(GRANT, json!({ "input": input })).await, "forbidden");
}

#[tokio::test]
async fn the_state_of_both_tenants_holds_a_partner_back() {
    let house = House::with("").await;
    house.grant(&["auth:tenant:read", "auth:tenant:write"], TimeDelta::days(300)).await;
    let partner = house.partner(ALL).await;
    let suspend = "mutation($id: ID!, $mode: SuspensionMode!) { suspendTenant(input: {id: $id, mode: $mode, reason: POLICY}) { tenant { id } } }";
    let resume = "mutation($id: ID!) { resumeTenant(input: {id: $id}) { tenant { id } } }";
    let rename = json!({ "id": house.tenant.id, "name": "Renamed" });
    for held in [&house.tenant, &house.partner] {
        house.admin.ok(suspend, json!({ "id": held.id, "mode": "GRACEFUL" })).await;
        assert_eq!(partner.refused(RENAME, rename.clone()).await, "tenant_suspended", "{}", held.slug);
        assert_eq!(slug(&partner, &house.tenant).await, "agency");
        house.admin.ok(resume, json!({ "id": held.id })).await;
    }
    house.admin.ok(suspend, json!({ "id": house.tenant.id, "mode": "HARD" })).await;
    assert_eq!(partner.refused(SLUG, json!({ "id": house.tenant.id })).await, "tenant_suspended");
    house.admin.ok(resume, json!({ "id": house.tenant.id })).await;
    house.admin.ok(suspend, json!({ "id": house.partner.id, "mode": "HARD" })).await;
    house.admin.ok(resume, json!({ "id": house.partner.id })).await;
    assert_eq!(partner.refused(SLUG, json!({ "id": house.tenant.id })).await, "unauthenticated", "an epoch has passed");
    assert_eq!(slug(&house.partner(ALL).await, &house.tenant).await, "agency");
}

#[tokio::test]
async fn nothing_of_a_grant_is_usable_once_either_tenant_is_erased() {
    let house = House::with("").await;
    house.grant(&["auth:tenant:read"], TimeDelta::days(300)).await;
    let database = house.app.database.superuser().await;
    let delete = "mutation($id: ID!) { deleteTenant(input: {id: $id}) { tenant { id } } }";
    let erase = async |tenant: &Tenant| {
        use sea_orm::ConnectionTrait as _;
        house.admin.ok(delete, json!({ "id": tenant.id })).await;
        let sql = format!(
            "update tenantry.tenants set status = 'ERASED', version = version + 1 where tenant_id = '{}'",
            tenant.id
        );
        database.execute_unprepared(&sql).await.unwrap();
        house.app.app.tenancy.snapshots().refresh(tenant.id).await;
    };
    let partner = house.partner(ALL).await;
    let deleted = house.app.tenant("bystander").await;
    let mut input = house.input(&["auth:tenant:read"], TimeDelta::days(300));
    input["tenantId"] = json!(deleted.id);
    house.admin.ok(GRANT, json!({ "input": input })).await;
    house.admin.ok(delete, json!({ "id": deleted.id })).await;
    assert_eq!(slug(&partner, &deleted).await, Value::Null, "deleted is not there");
    erase(&house.tenant).await;
    assert_eq!(slug(&partner, &house.tenant).await, Value::Null);
    let again = house.input(&["auth:tenant:read"], TimeDelta::days(1));
    assert_eq!(house.admin.refused(GRANT, json!({ "input": again })).await, "invalid_input");

    let mut input = house.input(&["auth:tenant:read"], TimeDelta::days(300));
    input["tenantId"] = json!(house.other.id);
    house.admin.ok(GRANT, json!({ "input": input })).await;
    assert_eq!(slug(&partner, &house.other).await, "stranger");
    erase(&house.partner).await;
    assert_eq!(partner.refused(SLUG, json!({ "id": house.other.id })).await, "unauthenticated");
}

#[tokio::test]
async fn a_partner_follows_no_stream_of_the_tenant() {
    let house = House::with("").await;
    house.grant(&["auth:tenant:read", "auth:audit:read"], TimeDelta::days(1)).await;
    let mut socket = house.app.socket(&house.partner(ALL).await).await;
    let stream = "subscription($id: ID) { tenantEvents(tenantId: $id) { cursor } }";
    socket.subscribe("1", stream, json!({ "id": house.tenant.id })).await;
    let Received::Message(refused) = socket.next().await else { panic!("the socket was closed") };
    assert_eq!(refused["payload"]["errors"][0]["extensions"]["code"], "not_found", "{refused}");
}
