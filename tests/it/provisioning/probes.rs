//! What one tenant can do to another is tried for real, says so where something is open, and leaves nothing behind.

use redis::cmd;
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};
use tenantry::{
    access::Role,
    isolation::{OperatorScope, Outcome},
    platform::ids::TenantId,
    probes::{LayerProbe, Round},
};

use super::{
    ON, active,
    clusters::{Cluster, inventory, register},
    create,
};
use crate::support::{Client, Tenant, TestApp, moto::Moto, nats::NatsServer, redis::RedisServer};

pub(super) fn settings(layers: &str, rest: &str) -> String {
    let layers = ON.replace("\"schema\"]", &format!("\"schema\"{layers}]"));
    format!("{layers}\n{rest}").replace("[cells]", "[cells]\nown = false")
}

/// A PostgreSQL that asks tenants for passwords, with a cell for each of two tiers.
async fn cluster(admin: &Client) -> Cluster {
    let cluster = Cluster::start().asking_for_passwords();
    let postgres = cluster.connect("postgres", "postgres").await;
    postgres.execute_unprepared("create database roomy").await.unwrap();
    register(admin, "shared", "STANDARD", &cluster.url("postgres", "postgres")).await;
    register(admin, "roomy", "ENTERPRISE", &cluster.url("roomy", "postgres")).await;
    cluster
}

pub(super) const VERIFY: &str =
    "mutation { verifyIsolation { probes { ranAt outcome stale layers { layer cell outcome reason
    attempts { what outcome reason } } } } }";

pub(super) async fn verify(admin: &Client) -> Value {
    admin.ok(VERIFY, json!({})).await["verifyIsolation"]["probes"].clone()
}

/// Layer, cell and outcome of each.
pub(super) fn outcomes(probes: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let layers = probes["layers"].as_array().unwrap();
    layers.iter().map(|layer| (text(&layer["layer"]), text(&layer["cell"]), text(&layer["outcome"]))).collect()
}

const ATTEST: &str = "query($id: ID!) { tenant(id: $id) { isolationAttestation } }";

/// Why nothing is attested.
async fn withheld(admin: &Client, tenant: TenantId) -> String {
    let answer = admin.graphql(ATTEST, json!({ "id": tenant })).await;
    assert_eq!(answer.code(), "unavailable", "{}", answer.text);
    answer.body["errors"][0]["message"].as_str().unwrap().to_owned()
}

pub(super) async fn attested(client: &Client, tenant: TenantId) -> String {
    let got = client.ok(ATTEST, json!({ "id": tenant })).await;
    got["tenant"]["isolationAttestation"].as_str().unwrap().to_owned()
}

/// One run by hand: `tamper` comes between the making of the two and what they try.
pub(super) async fn run_with(app: &TestApp, mut tamper: impl AsyncFnMut(&mut Round)) -> Vec<LayerProbe> {
    let (probes, scope) = (&app.app.probes, OperatorScope::system("test"));
    let seed = probes.take(&scope, None).await.unwrap().expect("nobody else runs them");
    let mut all = Vec::new();
    for mut round in probes.rounds(seed).await.unwrap() {
        round.open().await;
        tamper(&mut round).await;
        all.extend(round.attempt().await);
        // moto does not take the signature of a list; what is left on other servers shows in their inventories.
        let _ = round.close().await;
    }
    probes.record(&scope, (0, all.clone()), &[]).await.unwrap();
    all
}

/// What was let through, by layer.
pub(super) fn let_through(probes: &[LayerProbe]) -> Vec<(&str, &str)> {
    let all = probes.iter().flat_map(|probe| probe.let_through().map(|one| (probe.layer.as_str(), one.what.as_str())));
    all.collect()
}

/// How often something else was open than before, and how often nothing was any more.
async fn told(admin: &Client) -> [usize; 2] {
    // The newest first: the oldest are listed behind no transaction that is still open, and those of other tests are.
    let query =
        "query($events: [String!]) { audit(first: 100, filter: { events: $events }) { edges { node { event } } } }";
    let events = ["IsolationBreached", "IsolationRestored"];
    let found = admin.ok(query, json!({ "events": events })).await;
    let edges = found["audit"]["edges"].as_array().unwrap();
    events.map(|event| edges.iter().filter(|edge| edge["node"]["event"] == event).count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_one_tenant_tries_on_another_is_refused_attested_and_leaves_nothing_behind() {
    let (redis, nats) = (RedisServer::forgetful(), NatsServer::start());
    let beside = format!("[redis]\nurl = \"{}\"\n{}", redis.url(), nats.settings());
    let app = TestApp::with(&settings(", \"redis\", \"nats\"", &beside)).await;
    let admin = app.admin().await;
    let cluster = cluster(&admin).await;
    let id = create(&admin, "kept", "STANDARD").await;
    active(&admin, id).await;
    assert!(withheld(&admin, id).await.contains("have not run yet"));

    // What a server left that was killed in the middle is found by the next.
    let seed = app.app.probes.take(&OperatorScope::system("test"), None).await.unwrap().unwrap();
    let before = inventory(&cluster).await;
    for mut left in app.app.probes.rounds(seed).await.unwrap() {
        left.open().await;
    }
    assert_ne!(inventory(&cluster).await, before, "something was left");
    assert_eq!(admin.refused(VERIFY, json!({})).await, "conflict", "its lease stands");
    app.advance(chrono::TimeDelta::hours(1));
    let admin = app.admin().await;
    let probes = verify(&admin).await;
    let refused: Vec<_> = [
        ("nats", ""),
        ("redis", ""),
        ("registry", ""),
        ("database", "roomy"),
        ("role", "roomy"),
        ("schema", "roomy"),
        ("role", "shared"),
        ("schema", "shared"),
    ]
    .map(|(layer, cell)| (layer.to_owned(), cell.to_owned(), "REFUSED".to_owned()))
    .to_vec();
    let mut seen = outcomes(&probes);
    seen.sort_by(|one, other| (&one.1, &one.0).cmp(&(&other.1, &other.0)));
    assert_eq!(seen, refused, "{probes:#}");
    let tried = |layer: &str| {
        let all = probes["layers"].as_array().unwrap().iter().filter(|one| one["layer"] == layer);
        all.map(|one| one["attempts"].as_array().unwrap().len()).max().unwrap()
    };
    assert!(tried("registry") > 40 && tried("schema") > 20 && tried("redis") > 20 && tried("nats") > 15);

    assert_eq!(inventory(&cluster).await, before, "nothing is left on PostgreSQL");
    let mut owner = redis.connect().await;
    let users: Vec<String> = cmd("ACL").arg("USERS").query_async(&mut owner).await.unwrap();
    let of_kept = |name: &String| name.contains(&id.uuid().simple().to_string());
    assert!(users.iter().filter(|user| user.starts_with("t_")).all(of_kept), "{users:?}");
    assert_eq!(cmd("DBSIZE").query_async::<u64>(&mut owner).await.unwrap(), 0);
    for round in app.app.probes.rounds(seed).await.unwrap() {
        for layer in app.app.provisioning.layers().iter().filter(|layer| layer.name() == "nats") {
            assert_eq!(layer.residue(&round.intruder.site).await.unwrap(), [""; 0]);
        }
    }
    // No customers: neither listed nor counted.
    let tenants = admin.ok("{ tenants(first: 50) { edges { node { id } } } cells { name placed } }", json!({})).await;
    assert_eq!(tenants["tenants"]["edges"].as_array().unwrap().len(), 1);
    assert_eq!(tenants["cells"], json!([{ "name": "roomy", "placed": 0 }, { "name": "shared", "placed": 1 }]));

    app.probe().await;
    statement_is_good(&app, &admin, id).await;
    assert_eq!(
        admin.ok("{ isolationReport { probes { outcome stale } } }", json!({})).await["isolationReport"]["probes"],
        json!({ "outcome": "REFUSED", "stale": false })
    );
    // Too old, it attests nothing.
    app.advance(chrono::TimeDelta::hours(4));
    assert!(withheld(&app.admin().await, id).await.contains("too long ago"));
}

/// By another library than the one that signed, and by none that takes access tokens.
async fn statement_is_good(app: &TestApp, admin: &Client, id: TenantId) {
    let tenant = Tenant { id, slug: "kept".to_owned(), canary: String::new() };
    let service = app.service(&tenant, "auth:tenant:read").await;
    let statement = attested(&service, id).await;
    let header = jsonwebtoken::decode_header(&statement).unwrap();
    assert_eq!(header.typ.as_deref(), Some("isolation-attestation+jwt"));
    let keys: jsonwebtoken::jwk::JwkSet =
        serde_json::from_value(app.anonymous().get("/.well-known/jwks.json").await.body).unwrap();
    let key = jsonwebtoken::DecodingKey::from_jwk(keys.find(header.kid.as_deref().unwrap()).unwrap()).unwrap();
    let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
    rules.validate_aud = false;
    rules.set_issuer(&["http://tenantry.test"]);
    let told = jsonwebtoken::decode::<Value>(&statement, &key, &rules).unwrap().claims;
    assert_eq!((&told["sub"], &told["tier"]), (&json!(id), &json!("STANDARD")));
    assert_eq!(told["cell"], json!({ "name": "shared", "region": "eu-central-1" }));
    assert!(told["catalogue"]["rules"].as_array().unwrap().iter().any(|rule| rule == "rls-forced"));
    let probed: Vec<_> = told["probes"].as_array().unwrap().iter().map(|one| one["layer"].as_str().unwrap()).collect();
    assert!(["registry", "role", "schema", "redis", "nats"].iter().all(|layer| probed.contains(layer)), "{probed:?}");
    assert!(!probed.contains(&"database"), "another cell's: {probed:?}");
    assert!(told["layers"].as_array().unwrap().iter().all(|layer| layer["verifiedAt"].is_string()), "{told}");
    assert!(told["exp"].as_i64().unwrap() > told["iat"].as_i64().unwrap() && told.get("aud").is_none());

    let refused = admin.with_token(statement).graphql("{ viewer { subject } }", json!({})).await;
    assert_eq!(refused.code(), "unauthenticated", "it opens nothing: {}", refused.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_open_is_let_through_on_every_layer_told_loudly_and_attests_nothing() {
    let (redis, nats) = (RedisServer::forgetful(), NatsServer::start());
    let beside = format!("[redis]\nurl = \"{}\"\n{}", redis.url(), nats.settings());
    let app = TestApp::with(&settings(", \"redis\", \"nats\"", &beside)).await;
    let admin = app.admin().await;
    let cluster = cluster(&admin).await;
    let id = create(&admin, "kept", "STANDARD").await;
    active(&admin, id).await;
    let before = inventory(&cluster).await;
    assert_eq!(app.anonymous().get("/readyz").await.body["checks"]["isolation"], true);

    let mut owner = redis.connect().await;
    let found = run_with(&app, async |round: &mut Round| {
        let [a, b] = [&round.intruder, &round.victim].map(|tenant| tenant.site.names.stem().to_owned());
        let Some(cell) = round.intruder.site.cell.clone() else {
            cmd("ACL").arg("SETUSER").arg(format!("{a}_a")).arg("~*").exec_async(&mut owner).await.unwrap();
            let all = nats.all_rights(round.intruder.site.tenant.id);
            round.intruder.credentials.get_mut("nats").unwrap().secret = all;
            return;
        };
        let owner = cluster.connect(&cell.address.0.database, "postgres").await;
        let open = match cell.name.as_str() {
            "shared" => format!("grant usage, create on schema \"{b}\" to \"{a}\"; grant \"{b}\" to \"{a}\""),
            _ => format!("grant connect on database \"{b}\" to \"{a}_a\""),
        };
        owner.execute_unprepared(&open).await.unwrap();
    })
    .await;
    let through = let_through(&found);
    for (layer, what) in [
        ("role", "become the other tenant's role"),
        ("schema", "create a table of the other tenant's schema"),
        ("schema", "use any tenant's schema of this database"),
        ("database", "enter the other tenant's database"),
        ("redis", "read a key"),
        ("nats", "publish to <other>.news"),
        ("nats", "listen to $SYS.>"),
    ] {
        assert!(through.contains(&(layer, what)), "{layer}: {what}: {through:#?}");
    }
    assert_eq!(inventory(&cluster).await, before, "what was let through left nothing");
    assert_eq!(told(&admin).await, [1, 0]);
    assert_eq!(app.anonymous().get("/readyz").await.body["checks"]["isolation"], false);
    assert_eq!(app.anonymous().get("/readyz").await.status, 200, "it is told; nobody is helped by an outage");
    // The metric is of the whole process: other tests' servers write it, too.
    assert!(app.anonymous().get("/metrics").await.text.contains("tenantry_isolation_let_through"));
    assert!(app.metric("tenantry_isolation_breaches_total").await.unwrap() >= 1.0);
    let why = withheld(&admin, id).await;
    assert!(why.contains("reached another's things") || why.contains("was not tried"), "{why}");

    // A table without its policy: found by the probe of the registry, with rows of the tenant that there is.
    let superuser = app.database.superuser().await;
    superuser.execute_unprepared("alter table tenantry.placements disable row level security").await.unwrap();
    let probes = verify(&admin).await;
    let registry = probes["layers"].as_array().unwrap().iter().find(|one| one["layer"] == "registry").unwrap().clone();
    assert_eq!(registry["outcome"], "LET_THROUGH", "{registry}");
    let open: Vec<_> =
        registry["attempts"].as_array().unwrap().iter().filter(|one| one["outcome"] == "LET_THROUGH").collect();
    assert_eq!(open[0]["what"], "read another tenant's rows of tenantry.\"placements\"", "{open:?}");
    assert!(withheld(&admin, id).await.contains("breaks"));
    assert_eq!(told(&admin).await, [2, 0], "something else is open");
    verify(&admin).await;
    assert_eq!(told(&admin).await, [2, 0], "the same is open");
    assert_eq!(app.anonymous().get("/readyz").await.body["checks"]["isolation"], false);
    superuser.execute_unprepared("alter table tenantry.placements enable row level security").await.unwrap();
    app.probe().await;
    assert_eq!(verify(&admin).await["outcome"], "REFUSED");
    assert_eq!(told(&admin).await, [2, 1], "told once");
    assert_eq!(app.app.probes.last().await.unwrap().outcome, Some(Outcome::Refused));
    assert_eq!(app.anonymous().get("/readyz").await.body["checks"]["isolation"], true);
    attested(&admin, id).await;
    assert_eq!(app.operator(Role::Auditor).await.refused(VERIFY, json!({})).await, "forbidden");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_down_shows_nothing_either_way_and_holds_up_no_other() {
    let (mut redis, mut nats) = (RedisServer::forgetful(), NatsServer::start());
    let beside = format!("[redis]\nurl = \"{}\"\n{}", redis.url(), nats.settings());
    let layers = ", \"redis\", \"nats\"]\nbest_effort = [\"redis\", \"nats\"";
    let app = TestApp::with(&settings(layers, &beside)).await;
    let admin = app.admin().await;
    let mut cluster = cluster(&admin).await;
    let id = create(&admin, "kept", "STANDARD").await;
    active(&admin, id).await;
    redis.stop();
    nats.stop();
    let probes = verify(&admin).await;
    assert_eq!(probes["outcome"], "INCONCLUSIVE");
    for (layer, cell, outcome) in outcomes(&probes) {
        let expected = if ["redis", "nats"].contains(&layer.as_str()) { "INCONCLUSIVE" } else { "REFUSED" };
        assert_eq!(outcome, expected, "{layer} {cell}: {probes:#}");
    }
    assert!(withheld(&admin, id).await.contains("could not be shown"));
    assert_eq!(told(&admin).await, [0, 0]);
    cluster.stop();
    let probes = verify(&admin).await;
    for (layer, cell, outcome) in outcomes(&probes) {
        let expected = if layer == "registry" { "REFUSED" } else { "INCONCLUSIVE" };
        assert_eq!(outcome, expected, "{layer} {cell}: {probes:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cell_that_asks_nobody_for_a_password_is_not_said_to_refuse() {
    let app = TestApp::with(ON).await;
    let admin = app.admin().await;
    let probes = verify(&admin).await;
    let role = probes["layers"].as_array().unwrap().iter().find(|one| one["layer"] == "role").unwrap().clone();
    assert_eq!(role["outcome"], "INCONCLUSIVE", "{role}");
    let open: Vec<_> = role["attempts"].as_array().unwrap().iter().filter(|one| one["outcome"] != "REFUSED").collect();
    assert_eq!((open.len(), &open[0]["what"]), (1, &json!("log in as the other tenant")), "{open:?}");
    let why = open[0]["reason"].as_str().unwrap();
    assert_eq!(role["reason"], format!("log in as the other tenant: {why}"), "the layer says it, too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_runs_the_probes_when_their_time_has_come() {
    let app = TestApp::with("[isolation]\nprobe_interval = \"1h\"").await;
    let other = app.replica("[isolation]\nprobe_interval = \"1h\"").await;
    // Its own loop may be at it already, after the start.
    super::eventually("they ran after the start", async || app.app.probes.last().await.unwrap().ran_at).await;
    let first = app.app.probes.last().await.unwrap();
    assert_eq!((first.outcome, first.stale), (Some(Outcome::Refused), false));
    assert!(!app.app.probes.run_due().await.unwrap() && !other.app.probes.run_due().await.unwrap());
    app.advance(chrono::TimeDelta::minutes(61));
    let (one, two) = tokio::join!(app.app.probes.run_due(), other.app.probes.run_due());
    assert!(usize::from(one.unwrap()) + usize::from(two.unwrap()) <= 1, "not both");
    super::eventually("they ran again", async || {
        let last = app.app.probes.last().await.unwrap();
        (last.ran_at > first.ran_at).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_s3_that_reaches_more_than_its_folder_is_let_through() {
    let Some(moto) = Moto::with_storage().await else {
        println!("moto could not be had here (scripts/moto says why): sessions of S3 are not probed");
        return;
    };
    let app = TestApp::with(&settings(", \"storage\"", &moto.storage_settings(&moto.address))).await;
    let before = moto.objects().await;
    // Of a session's policy moto knows nothing: as it is, each reaches everything.
    let open = run_with(&app, async |_| {}).await;
    assert!(let_through(&open).contains(&("storage", "read an object of the other tenant's")), "{open:#?}");
    assert_eq!(moto.objects().await, before, "nothing is left");
    // The role is narrowed to what the intruder's session may; moto knows no conditions, so nothing is listed.
    let shut = run_with(&app, async |round: &mut Round| {
        let stem = round.intruder.site.names.stem().to_owned();
        moto.narrow_role(&moto.session_policy(&stem).await).await;
    })
    .await;
    let tried = &shut[0].attempts.0;
    let refused = tried.iter().filter(|attempt| attempt.outcome == Outcome::Refused).count();
    assert!(
        refused >= 7 && !tried.iter().any(|one| one.outcome == Outcome::LetThrough && !one.what.starts_with("list")),
        "{shut:#?}"
    );
}
