//! Application planes: programs that speak HTTP to the server, with a client of their own, and make a part of tenants' environments.

use std::time::Duration;

use chrono::TimeDelta;
use reqwest::Method;
use serde_json::{Value, json};
use tenantry::{access::Role, platform::ids::TenantId};
use tokio::task::JoinSet;

use super::{
    ON, active,
    clusters::{Cluster, register as register_cell, texts},
    create, events, eventually, look, observed,
};
use crate::{
    binary::Binary,
    support::{self, Client, TestApp},
};

const CLIENT: &str =
    "mutation($input: CreateOAuthClientInput!) { createOAuthClient(input: $input) { secret client { id } } }";
const REGISTER: &str = "mutation($input: RegisterApplicationPlaneInput!) { registerApplicationPlane(input: $input) {
    plane { name layer essential deadline longest version } } }";
const JOBS: &str = "query($plane: String!, $first: Int = 25, $after: String) { provisioningJobs(plane: $plane, first: $first, after: $after) {
    edges { node { id tenantId kind state attempt deadline inUse dataRegion tenant { slug plan isolationTier region } } }
    pageInfo { hasNextPage endCursor } } }";
const REPORT: &str = "mutation($input: ReportProvisioningInput!) { reportProvisioning(input: $input) {
    job { id state percent deadline closedAt } } }";
const LAYERS: &str =
    "query($id: ID!) { tenant(id: $id) { status layers { name essential wanted observed attempts lastError
    nextAttemptAt outputs job { id state attempt percent message } } } }";

/// A program with a client of its own, as it stands before the server.
pub(super) struct Plane {
    pub(super) name: String,
    pub(super) client: Client,
}

impl Plane {
    /// Registered with these settings beside name and client.
    pub(super) async fn register(admin: &Client, name: &str, settings: Value) -> Self {
        let (id, client) = sign_in(admin, name).await;
        let mut input = json!({ "name": name, "clientId": id, "deadline": "PT1M" });
        for (key, value) in settings.as_object().unwrap() {
            input[key] = value.clone();
        }
        let made = admin.ok(REGISTER, json!({ "input": input })).await;
        assert_eq!(made["registerApplicationPlane"]["plane"]["layer"], format!("plane:{name}"));
        Self { name: name.to_owned(), client }
    }

    pub(super) async fn jobs(&self) -> Vec<Value> {
        let found = self.client.ok(JOBS, json!({ "plane": self.name })).await;
        let edges = found["provisioningJobs"]["edges"].as_array().unwrap();
        edges.iter().map(|edge| edge["node"].clone()).collect()
    }

    /// Waits until it is asked something for the tenant, other than the jobs that it knows.
    pub(super) async fn asked(&self, tenant: TenantId, known: &[&Value]) -> Value {
        eventually("the plane is asked", async || {
            let jobs = self.jobs().await;
            let is_new = |job: &Value| known.iter().all(|known| known["id"] != job["id"]);
            jobs.into_iter().find(|job| job["tenantId"] == tenant.to_string() && is_new(job))
        })
        .await
    }

    fn input(&self, job: &Value, more: &Value) -> Value {
        let mut input = json!({ "job": job["id"], "tenantId": job["tenantId"], "plane": self.name });
        for (key, value) in more.as_object().unwrap() {
            input[key] = value.clone();
        }
        json!({ "input": input })
    }

    pub(super) async fn report(&self, job: &Value, more: Value) -> Value {
        self.client.ok(REPORT, self.input(job, &more)).await["reportProvisioning"]["job"].clone()
    }

    /// Of a server that may be gone before it answers.
    pub(super) async fn try_report(&self, job: &Value, more: Value) {
        let body = json!({ "query": REPORT, "variables": self.input(job, &more) });
        let _ = self.client.post("/graphql").json(&body).send().await;
    }

    /// The code of the refusal, and where.
    pub(super) async fn refused(&self, job: &Value, more: Value) -> (String, String) {
        refused(&self.client, self.input(job, &more)).await
    }

    /// Answers all that it is asked for with SUCCESS, in a task of its own.
    pub(super) fn obey(&self) -> JoinSet<()> {
        let plane = Self { name: self.name.clone(), client: self.client.clone() };
        let mut task = JoinSet::new();
        task.spawn(async move {
            loop {
                for job in plane.jobs().await {
                    plane.report(&job, json!({ "outcome": "SUCCESS" })).await;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        task
    }
}

/// A client of the platform with the role of planes alone, and its token.
async fn sign_in(admin: &Client, name: &str) -> (String, Client) {
    let made = admin.ok(CLIENT, json!({ "input": { "name": name, "roles": ["plane"] } })).await;
    let (id, secret) = (&made["createOAuthClient"]["client"]["id"], &made["createOAuthClient"]["secret"]);
    let (id, secret) = (id.as_str().unwrap(), secret.as_str().unwrap());
    let stranger = admin.without_token();
    let request = stranger.request(Method::POST, "/oauth/token").basic_auth(id, Some(secret));
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let granted = stranger.send(request.body("grant_type=client_credentials")).await;
    assert_eq!(granted.body["scope"], "auth:provisioning:report", "{}", granted.text);
    (id.to_owned(), admin.with_token(granted.body["access_token"].as_str().unwrap()))
}

async fn refused(client: &Client, input: Value) -> (String, String) {
    let answer = client.graphql(REPORT, input).await;
    let field = answer.body["errors"][0]["extensions"]["field"].as_str().unwrap_or_default().to_owned();
    (answer.code().to_owned(), field)
}

pub(super) fn code(code: &str, field: &str) -> (String, String) {
    (code.to_owned(), field.to_owned())
}

/// The tenant's layer of this plane, when it is as `is` has it.
pub(super) async fn layer(client: &Client, tenant: TenantId, plane: &Plane, is: impl Fn(&Value) -> bool) -> Value {
    eventually("the plane's layer is as it should be", async || {
        let seen = client.ok(LAYERS, json!({ "id": tenant })).await;
        let layers = seen["tenant"]["layers"].as_array().unwrap();
        let found = layers.iter().find(|layer| layer["name"] == format!("plane:{}", plane.name))?;
        is(found).then(|| found.clone())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_is_active_once_an_essential_plane_has_answered_and_shows_what_it_told() {
    let app = TestApp::with(ON).await;
    let admin = app.admin().await;
    let shop = Plane::register(&admin, "shop", json!({})).await;
    let tenant = create(&admin, "first", "STANDARD").await;
    let job = shop.asked(tenant, &[]).await;
    assert_eq!((&job["kind"], &job["state"], &job["attempt"]), (&json!("PROVISION"), &json!("OPEN"), &json!(1)));
    assert_eq!(job["tenant"]["slug"], "first");
    let waiting = layer(&admin, tenant, &shop, |layer| layer["observed"] == "WAITING").await;
    assert_eq!((&waiting["nextAttemptAt"], &waiting["job"]["id"]), (&job["deadline"], &job["id"]));
    let plan = "query($id: ID!) { provisioningPlan(tenantId: $id) { layer essential steps } }";
    let planned = admin.ok(plan, json!({ "id": tenant })).await["provisioningPlan"].as_array().unwrap().clone();
    let of_plane = planned.last().unwrap();
    assert_eq!((&of_plane["layer"], &of_plane["essential"]), (&json!("plane:shop"), &json!(true)));
    assert!(of_plane["steps"][0].as_str().unwrap().starts_with("wait for the application plane shop"), "{of_plane}");
    let told = shop.report(&job, json!({ "outcome": "PROGRESS", "percent": 40, "message": "half of it" })).await;
    assert_eq!((&told["state"], &told["percent"]), (&json!("OPEN"), &json!(40)));
    assert_eq!(look(&admin, tenant).await["status"], "CREATED");
    let outputs = json!({ "address": "https://first.shop.example" });
    shop.report(&job, json!({ "outcome": "SUCCESS", "message": "made", "outputs": outputs })).await;
    let seen = active(&admin, tenant).await;
    assert_eq!(observed(&seen).last(), Some(&("plane:shop", "PRESENT")));
    let present = layer(&admin, tenant, &shop, |layer| layer["observed"] == "PRESENT").await;
    assert_eq!(present["outputs"], outputs);
    assert_eq!(shop.jobs().await, [] as [Value; 0]);
    let told = events(&app, tenant).await;
    let tail = [
        "PlaneJobIssued",
        "PlaneJobProgressed",
        "PlaneJobSucceeded",
        "LayerReady",
        "ProvisioningSucceeded",
        "TenantActivated",
    ];
    assert_eq!(told[told.len() - tail.len()..], tail);
    let names = "select event || ' ' || (after::jsonb ->> 'sbt') from tenantry.journal
        where event like 'PlaneJob%' and after::jsonb ->> 'sbt' is not null order by sequence";
    let expected = ["PlaneJobIssued onboardingRequest", "PlaneJobSucceeded provisionSuccess"];
    assert_eq!(texts(&app.database.superuser().await, names).await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_taken_once_from_the_planes_own_client_and_for_its_own_job_alone() {
    let app = TestApp::with(ON).await;
    let admin = app.admin().await;
    let (shop, other) = (
        Plane::register(&admin, "shop", json!({})).await,
        Plane::register(&admin, "other", json!({ "essential": false })).await,
    );
    let tenant = create(&admin, "first", "STANDARD").await;
    let neighbour = create(&admin, "second", "STANDARD").await;
    let (job, foreign) = (shop.asked(tenant, &[]).await, other.asked(tenant, &[]).await);
    let success = json!({ "outcome": "SUCCESS" });
    // Another plane's job, another tenant's, another plane, somebody else's token.
    assert_eq!(shop.refused(&foreign, success.clone()).await, code("not_found", "job"));
    let elsewhere = json!({ "id": job["id"], "tenantId": neighbour.to_string() });
    assert_eq!(shop.refused(&elsewhere, success.clone()).await, code("not_found", "job"));
    assert_eq!(refused(&other.client, shop.input(&job, &success)).await, code("not_found", "plane"));
    assert_eq!(refused(&admin, shop.input(&job, &success)).await, code("not_found", "plane"));
    assert_eq!(other.client.refused(JOBS, json!({ "plane": "shop" })).await, "not_found");
    for role in [Role::Support, Role::Auditor] {
        assert_eq!(refused(&app.operator(role).await, shop.input(&job, &success)).await.0, "forbidden");
    }
    let made = app.tenant("service").await;
    assert_eq!(refused(&app.full_service(&made).await, shop.input(&job, &success)).await.0, "forbidden");
    for beyond in [
        "{ cells { id } }",
        "{ applicationPlanes { name } }",
        "{ tenants { edges { cursor } } }",
        "{ audit { edges { cursor } } }",
    ] {
        assert_eq!(shop.client.refused(beyond, json!({})).await, "forbidden", "{beyond}");
    }
    // What is said must make sense.
    for (more, field) in [
        (json!({ "outcome": "SUCCESS", "percent": 10 }), "percent"),
        (json!({ "outcome": "PROGRESS", "percent": 100 }), "percent"),
        (json!({ "outcome": "FAILURE", "outputs": { "a": 1 } }), "outputs"),
        (json!({ "outcome": "SUCCESS", "outputs": { "a": "x".repeat(9000) } }), "outputs"),
        (json!({ "outcome": "FAILURE", "message": "x".repeat(501) }), "message"),
    ] {
        assert_eq!(shop.refused(&job, more.clone()).await, code("invalid_input", field), "{more}");
    }
    let first = shop.report(&job, success.clone()).await;
    assert_eq!(shop.report(&job, success.clone()).await, first, "the same again");
    assert_eq!(shop.refused(&job, json!({ "outcome": "FAILURE" })).await, code("conflict", "job"));
    let others = json!({ "outcome": "SUCCESS", "outputs": { "a": 1 } });
    assert_eq!(shop.refused(&job, others).await, code("conflict", "job"));
    let told = events(&app, tenant).await;
    assert_eq!(told.iter().filter(|event| *event == "PlaneJobSucceeded").count(), 1, "{told:?}");
    let page = shop.client.ok(JOBS, json!({ "plane": "shop", "first": 1 })).await["provisioningJobs"].clone();
    assert_eq!(page["edges"].as_array().unwrap().len(), 1);
    let after = json!({ "plane": "shop", "first": 25, "after": page["pageInfo"]["endCursor"] });
    let rest = shop.client.ok(JOBS, after).await["provisioningJobs"]["edges"].as_array().unwrap().clone();
    assert!(rest.iter().all(|edge| edge["node"]["id"] != page["edges"][0]["node"]["id"]), "{rest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plane_that_fails_or_is_late_is_asked_again_under_another_job() {
    let app = TestApp::with(ON).await;
    let admin = app.admin().await;
    let shop = Plane::register(&admin, "shop", json!({})).await;
    let tenant = create(&admin, "first", "STANDARD").await;
    let failed = shop.asked(tenant, &[]).await;
    shop.report(&failed, json!({ "outcome": "FAILURE", "message": "no room left" })).await;
    let late = shop.asked(tenant, &[&failed]).await;
    assert_eq!(late["attempt"], 2);
    let told = layer(&admin, tenant, &shop, |layer| layer["observed"] == "WAITING").await;
    assert_eq!(told["lastError"], "the application plane shop failed: no room left");
    app.advance(TimeDelta::seconds(70));
    assert_eq!(shop.refused(&late, json!({ "outcome": "SUCCESS" })).await, code("conflict", "job"));
    let kept = shop.asked(tenant, &[&failed, &late]).await;
    assert_eq!(shop.refused(&late, json!({ "outcome": "SUCCESS" })).await, code("conflict", "job"));
    shop.report(&kept, json!({ "outcome": "PROGRESS", "percent": 10 })).await;
    app.advance(TimeDelta::seconds(50));
    shop.report(&kept, json!({ "outcome": "PROGRESS" })).await;
    app.advance(TimeDelta::seconds(50));
    shop.report(&kept, json!({ "outcome": "SUCCESS" })).await;
    active(&admin, tenant).await;
    let told = events(&app, tenant).await;
    let of = |event: &str| told.iter().filter(|told| *told == event).count();
    assert_eq!([of("PlaneJobIssued"), of("PlaneJobFailed"), of("PlaneJobExpired")], [3, 1, 1], "{told:?}");
    assert_eq!([of("LayerFailed"), of("ProvisioningFailed"), of("ProvisioningSucceeded")], [2, 1, 1], "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_a_best_effort_plane_or_for_one_that_serves_others() {
    let app = TestApp::with(ON).await;
    let admin = app.admin().await;
    let silent = Plane::register(&admin, "silent", json!({ "essential": false })).await;
    let others = Plane::register(&admin, "others", json!({ "tiers": ["ENTERPRISE"] })).await;
    let tenant = create(&admin, "first", "STANDARD").await;
    active(&admin, tenant).await;
    layer(&admin, tenant, &silent, |layer| layer["observed"] == "WAITING").await;
    app.advance(TimeDelta::seconds(70));
    let failed = layer(&admin, tenant, &silent, |layer| layer["attempts"] == 1).await;
    assert_eq!(failed["lastError"], "the application plane silent did not answer by its deadline");
    assert_eq!(look(&admin, tenant).await["status"], "ACTIVE");
    assert!(others.jobs().await.is_empty());
    // A plane that comes later makes its part, and takes nothing away until it has.
    let late = Plane::register(&admin, "late", json!({})).await;
    let job = late.asked(tenant, &[]).await;
    assert!(app.app.provisioning.is_ready(tenant).await.unwrap());
    late.report(&job, json!({ "outcome": "SUCCESS" })).await;
    layer(&admin, tenant, &late, |layer| layer["observed"] == "PRESENT").await;
    // A plane that is retired is asked to let go.
    let retire = "mutation($name: String!) { retireApplicationPlane(input: {name: $name}) { plane { retiredAt } } }";
    let retired = admin.ok(retire, json!({ "name": "late" })).await;
    assert_eq!(admin.ok(retire, json!({ "name": "late" })).await, retired, "once more changes nothing");
    let job = late.asked(tenant, &[]).await;
    assert_eq!(job["kind"], "DEPROVISION");
    late.report(&job, json!({ "outcome": "SUCCESS" })).await;
    layer(&admin, tenant, &late, |layer| layer["observed"] == "ABSENT" && layer["wanted"] == "ABSENT").await;
    let (id, _) = sign_in(&admin, "again").await;
    let again = json!({ "input": { "name": "late", "clientId": id, "deadline": "PT10M" } });
    assert_eq!(admin.refused(REGISTER, again).await, "conflict");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_plane_is_refused_by_field_and_rule() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let (id, _) = sign_in(&admin, "shop").await;
    let broad = json!({ "input": { "name": "broad", "roles": ["admin"] } });
    let broad = admin.ok(CLIENT, broad).await["createOAuthClient"]["client"]["id"].clone();
    for (field, value) in [
        ("name", json!("Shop")),
        ("clientId", json!("nobody")),
        ("clientId", json!(TenantId::generate().to_string())),
        ("clientId", broad),
        ("deadline", json!("30m")),
        ("deadline", json!("PT4S")),
        ("longest", json!("PT1M")),
        ("position", json!(100)),
    ] {
        let mut input = json!({ "name": "shop", "clientId": id, "deadline": "PT10M" });
        input[field] = value.clone();
        let answer = admin.graphql(REGISTER, json!({ "input": input })).await;
        let told = answer.body["errors"][0]["extensions"]["field"].clone();
        assert_eq!((answer.code(), &told), ("invalid_input", &json!(field)), "{value} {}", answer.text);
    }
    let input = json!({ "input": { "name": "shop", "clientId": id, "deadline": "PT10M" } });
    let first = admin.graphql_once("one", REGISTER, input.clone()).await;
    assert_eq!(admin.graphql_once("one", REGISTER, input).await.body, first.body);
    let change = "mutation($input: ChangeApplicationPlaneInput!) { changeApplicationPlane(input: $input) {
        plane { deadline version } } }";
    let changed = admin.ok(change, json!({ "input": { "name": "shop", "deadline": "PT90M" } })).await;
    assert_eq!(changed["changeApplicationPlane"]["plane"], json!({ "deadline": "PT1H30M", "version": 2 }));
    let stale = json!({ "input": { "name": "shop", "essential": false, "expectedVersion": 1 } });
    assert_eq!(admin.refused(change, stale).await, "conflict");
    let listed = admin.ok("{ applicationPlanes { name longest } }", json!({})).await;
    assert_eq!(listed["applicationPlanes"], json!([{ "name": "shop", "longest": "PT1H40M" }]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_waits_for_planes_and_goes_on_without_those_that_never_answer() {
    let settings = ON.replace("[cells]", "plane_removal_attempts = 2\n[cells]");
    let app = TestApp::with(&settings).await;
    let admin = app.admin().await;
    let answering = Plane::register(&admin, "answering", json!({})).await;
    let silent = Plane::register(&admin, "silent", json!({ "essential": false })).await;
    let tenant = create(&admin, "first", "STANDARD").await;
    let job = answering.asked(tenant, &[]).await;
    answering.report(&job, json!({ "outcome": "SUCCESS" })).await;
    active(&admin, tenant).await;
    silent.asked(tenant, &[]).await;
    let refused = app.app.provisioning.remove_all(tenant).await.unwrap_err();
    assert_eq!(refused.kind().code(), "unavailable", "{refused}");
    let removal = answering.asked(tenant, &[]).await;
    assert_eq!(removal["kind"], "DEPROVISION");
    assert_eq!(observed(&look(&admin, tenant).await)[0], ("placement", "PRESENT"), "what it stands on is there");
    answering.report(&removal, json!({ "outcome": "SUCCESS" })).await;
    for attempt in 1..=2 {
        eventually("the silent plane is asked to let go", async || {
            let jobs = silent.jobs().await;
            jobs.iter().any(|job| job["kind"] == "DEPROVISION" && job["attempt"] == attempt).then_some(())
        })
        .await;
        app.advance(TimeDelta::seconds(70));
    }
    eventually("all else is gone", async || {
        let told = events(&app, tenant).await;
        told.iter().any(|event| event == "DeprovisioningSucceeded").then_some(())
    })
    .await;
    let removal = app.app.provisioning.removal(tenant).await.unwrap();
    assert_eq!(removal.unconfirmed, ["plane:silent"]);
    assert_eq!(removal.removed["plane:answering"].0["confirmations"], 1);
    assert_eq!(removal.residue, [""; 0]);
    let told = events(&app, tenant).await;
    let of = |event: &str| told.iter().filter(|told| *told == event).count();
    assert_eq!([of("PlaneJobWithdrawn"), of("PlaneJobExpired"), of("LayerRemovalUnconfirmed")], [1, 2, 1], "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_ask_a_plane_once_and_either_takes_its_answer() {
    let app = TestApp::with(ON).await;
    let second = app.replica(ON).await;
    let admin = app.admin().await;
    let shop = Plane::register(&admin, "shop", json!({})).await;
    let mut tenants = Vec::new();
    for n in 0..6 {
        tenants.push(create(&admin, &format!("tenant-{n}"), "STANDARD").await);
    }
    for tenant in &tenants {
        shop.asked(*tenant, &[]).await;
    }
    let there = Plane { name: shop.name.clone(), client: second.anonymous().with_token(shop.client.token().unwrap()) };
    let _obeying = (shop.obey(), there.obey());
    for tenant in tenants {
        active(&admin, tenant).await;
    }
    let told = "select count(*)::text from tenantry.journal where event = 'PlaneJobIssued'
        union all select count(*)::text from tenantry.journal where event = 'PlaneJobSucceeded'";
    assert_eq!(texts(&app.database.superuser().await, told).await, ["6", "6"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_between_question_and_answer_takes_the_answer_when_it_is_back() {
    let (cluster, database) = (Cluster::start(), support::database().await);
    let settings = [
        ("PROVISIONING__LAYERS", "placement,role,database,schema"),
        ("PROVISIONING__LEASE", "1500ms"),
        ("PROVISIONING__LAYER_TIMEOUT", "1s"),
        ("PROVISIONING__FIRST_RETRY", "50ms"),
        ("PROVISIONING__LONGEST_RETRY", "200ms"),
        ("TENANCY__ACTIVATION", "automatic"),
        ("CELLS__OWN", "false"),
        ("WORKER__INTERVAL", "100ms"),
    ];
    let binary = settings.into_iter().fold(Binary::on(&database), |binary, (key, value)| binary.set(key, value));
    let server = binary.serve().await;
    let admin = server.admin().await;
    register_cell(&admin, "only", "STANDARD", &cluster.url("postgres", "postgres")).await;
    let shop = Plane::register(&admin, "shop", json!({})).await;
    let tenant = create(&admin, "first", "STANDARD").await;
    let job = shop.asked(tenant, &[]).await;
    server.kill().await;
    let server = binary.serve().await;
    let back = Plane { name: shop.name.clone(), client: server.with_token(shop.client.token().unwrap()) };
    assert_eq!(back.asked(tenant, &[]).await["id"], job["id"], "a plane that was away misses nothing");
    back.report(&job, json!({ "outcome": "SUCCESS" })).await;
    // Answered, and killed before anybody may have acted upon it.
    server.kill().await;
    let server = binary.serve().await;
    active(&server.admin().await, tenant).await;
    let told = "select count(*)::text from tenantry.journal where event = 'PlaneJobIssued'
        union all select count(*)::text from tenantry.journal where event = 'ProvisioningSucceeded'";
    assert_eq!(texts(&database.superuser().await, told).await, ["1", "1"]);
}
