//! Tenants' users on a Redis.

use chrono::TimeDelta;
use redis::{Value, aio::MultiplexedConnection, cmd};
use serde_json::json;
use tenantry::platform::ids::TenantId;

use super::{
    ON, active,
    clusters::{stem, texts},
    create, events, eventually, look, mended,
};
use crate::support::{Client, Tenant, TestApp, redis::RedisServer};

/// With a Redis, too. `rest` are further settings of provisioning.
fn settings(redis: &RedisServer, rest: &str) -> String {
    let on = ON.replace("\"schema\"]", &format!("\"schema\", \"redis\"]\n{rest}"));
    format!("{on}\n[redis]\nurl = \"{}\"\n", redis.url())
}

async fn tenant(admin: &Client, slug: &str) -> Tenant {
    let id = create(admin, slug, "STANDARD").await;
    active(admin, id).await;
    Tenant { id, slug: slug.to_owned(), canary: String::new() }
}

/// User and password for Redis.
async fn fetch(app: &TestApp, tenant: &Tenant) -> (String, String) {
    let query = "{ dataplaneCredentials { layer details { name value } secret } }";
    let got = app.service(tenant, "auth:dataplane:read").await.ok(query, json!({})).await;
    let all = got["dataplaneCredentials"].as_array().unwrap();
    let own = all.iter().find(|one| one["layer"] == "redis").unwrap();
    let user = own["details"].as_array().unwrap().iter().find(|detail| detail["name"] == "user").unwrap();
    (user["value"].as_str().unwrap().to_owned(), own["secret"].as_str().unwrap().to_owned())
}

async fn run(db: &mut MultiplexedConnection, line: &str) -> redis::RedisResult<Value> {
    let mut words = line.split(' ');
    let mut command = cmd(words.next().unwrap());
    command.arg(words.collect::<Vec<_>>());
    command.query_async(db).await
}

/// What A's user tries, in this order; `A` and `B` are the tenants' stems.
const ATTEMPTS: &[&str] = &[
    "GET B:secret",
    "SET B:secret forged",
    "DEL B:secret",
    "UNLINK B:secret",
    "EXISTS B:secret",
    "TYPE B:secret",
    "TTL B:secret",
    "EXPIRE B:secret 1",
    "APPEND B:secret x",
    "GETDEL B:secret",
    "STRLEN B:secret",
    "DUMP B:secret",
    "OBJECT ENCODING B:secret",
    "RENAME B:secret A:mine",
    "RENAME A:own B:secret",
    "COPY B:secret A:mine",
    "MOVE A:own 1",
    "SELECT 1",
    "SWAPDB 0 1",
    "MGET A:own B:secret",
    "SUNIONSTORE A:mine B:set",
    "SUNION A:own B:set",
    "BITOP AND A:mine B:secret",
    "PFMERGE A:mine B:log",
    "ZUNIONSTORE A:mine 1 B:ranks",
    "SORT A:list BY B:* GET B:*",
    "LMOVE B:list A:mine LEFT RIGHT",
    "XREAD STREAMS B:stream 0",
    "WATCH B:secret",
    "PUBLISH B:news forged",
    "SUBSCRIBE B:news",
    "PSUBSCRIBE *",
    "PSUBSCRIBE B:*",
    "SSUBSCRIBE B:news",
    "PSUBSCRIBE __keyspace@0__:*",
    "SUBSCRIBE __redis__:invalidate",
    "KEYS *",
    "SCAN 0",
    "RANDOMKEY",
    "DBSIZE",
    "FLUSHALL",
    "FLUSHDB",
    "PUBSUB CHANNELS",
    "PUBSUB NUMPAT",
    "PUBSUB SHARDCHANNELS",
    "MONITOR",
    "INFO",
    "CLIENT LIST",
    "CLIENT INFO",
    "CLIENT KILL USER B_a",
    "CLIENT TRACKING on BCAST PREFIX B",
    "CLIENT NO-EVICT on",
    "CLIENT PAUSE 1000",
    "CONFIG GET *",
    "SLOWLOG GET",
    "LATENCY DOCTOR",
    "MEMORY STATS",
    "MEMORY USAGE B:secret",
    "DEBUG SLEEP 0",
    "SAVE",
    "SHUTDOWN",
    "REPLICAOF NO ONE",
    "CLUSTER NODES",
    "MIGRATE 127.0.0.1 1 B:secret 0 1",
    "RESTORE B:secret 0 x",
    "ACL LIST",
    "ACL USERS",
    "ACL GETUSER B_a",
    "ACL SETUSER A_a ~*",
    "ACL SETUSER B_a >mine",
    "ACL DELUSER B_a",
    "ACL LOG",
    "ACL SAVE",
    "EVAL return 0",
    "EVALSHA x 0",
    "SCRIPT FLUSH",
    "SCRIPT EXISTS x",
    "FUNCTION LIST",
    "FUNCTION FLUSH",
    "FCALL x 0",
    "MODULE LIST",
    "AUTH B_a guessed",
    "GET secret",
    "SET A 1",
    "SET Ax:1 1",
    "LASTSAVE",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_redis_user_reaches_its_own_keys_alone_and_its_attempts_are_journaled() {
    let redis = RedisServer::keeping_users();
    let app = TestApp::with(&settings(&redis, "")).await;
    let admin = app.admin().await;
    let (a, b) = tokio::join!(tenant(&admin, "intruder"), tenant(&admin, "victim"));
    let ((user, password), (other, others)) = (fetch(&app, &a).await, fetch(&app, &b).await);
    let mut victim = redis.connect_as(&other, &others).await.unwrap();
    let (a_stem, b_stem) = (stem(a.id), stem(b.id));
    for line in [
        "SET B:secret kept",
        "SADD B:set 1",
        "ZADD B:ranks 1 x",
        "RPUSH B:list 1",
        "XADD B:stream * a 1",
        "PFADD B:log x",
    ] {
        run(&mut victim, &line.replace('B', &b_stem)).await.unwrap();
    }
    let mut intruder = redis.connect_as(&user, &password).await.unwrap();
    for line in [
        "SET A:own 1",
        "GET A:own",
        "RPUSH A:list 1 2",
        "PUBLISH A:news hello",
        "PING",
        "MULTI",
        "INCR A:own",
        "EXEC",
        "ACL WHOAMI",
        "EXPIRE A:own 60",
    ] {
        run(&mut intruder, &line.replace("A:", &format!("{a_stem}:")))
            .await
            .unwrap_or_else(|error| panic!("{line}: {error}"));
    }
    for attempt in ATTEMPTS {
        let line = attempt.replace("B:", &format!("{b_stem}:")).replace("B_a", &format!("{b_stem}_a"));
        let line = line.replace("A:", &format!("{a_stem}:")).replace("A_a", &format!("{a_stem}_a"));
        let line = line.replace("SET Ax", &format!("SET {a_stem}x")).replace("SET A ", &format!("SET {a_stem} "));
        let error = run(&mut intruder, &line).await.expect_err(attempt);
        assert!(["NOPERM", "WRONGPASS"].contains(&error.code().unwrap_or_default()), "{attempt}: {error}");
    }
    assert_eq!(run(&mut victim, &format!("GET {b_stem}:secret")).await.unwrap(), Value::BulkString(b"kept".to_vec()));

    app.advance(TimeDelta::seconds(11));
    app.run_due().await;
    let told = app.database.superuser().await;
    let journal = "select after::text from tenantry.journal where event = 'DataplaneAccessDenied'";
    let told = eventually("the attempts are journaled", async || {
        let told = texts(&told, journal).await;
        told.iter().any(|one| one.contains("command lastsave")).then(|| told.concat())
    })
    .await;
    assert!(told.contains("\"otherTenant\": true") || told.contains("\"otherTenant\":true"), "{told}");
    assert!(told.contains(&user) && told.contains("127.0.0.1") && told.contains("command keys"), "{told}");
    assert!(!told.contains("secret"), "names of keys are nobody else's: {told}");
    // Metrics are the whole process's: other tests may add to them.
    for kind in ["another_tenant", "not_allowed"] {
        let metrics = app.anonymous().get("/metrics").await.text;
        let counts = |line: &str| line.starts_with("tenantry_dataplane_denials_total{") && line.contains(kind);
        assert!(metrics.lines().any(|line| counts(line) && line.contains("layer=\"redis\"")), "{kind}: {metrics}");
    }
    assert!(events(&app, a.id).await.contains(&"DataplaneAccessDenied".to_owned()));
    assert!(
        !events(&app, b.id).await.contains(&"DataplaneAccessDenied".to_owned()),
        "who guesses at another's password with a credential of its own is known by that"
    );
}

/// Whether this opens a connection.
async fn opens(redis: &RedisServer, (user, password): &(String, String)) -> bool {
    redis.connect_as(user, password).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_users_are_renewed_at_half_of_their_life_shut_at_its_end_and_gone_with_their_keys() {
    let redis = RedisServer::keeping_users();
    let app = TestApp::with(&settings(&redis, "")).await;
    let served = tenant(&app.admin().await, "served").await;
    let first = fetch(&app, &served).await;
    let mut early = redis.connect_as(&first.0, &first.1).await.unwrap();
    run(&mut early, &format!("SET {}:1 x", stem(served.id))).await.unwrap();
    app.advance(TimeDelta::hours(7));
    app.run_due().await;
    let second = fetch(&app, &served).await;
    assert_ne!(first, second);
    assert!(opens(&redis, &first).await && opens(&redis, &second).await, "both open until the first ends");
    let wrong = (first.0.clone(), second.1.clone());
    assert!(!opens(&redis, &wrong).await);
    // Nobody asks, and nothing is renewed: what has ended is shut all the same.
    app.advance(TimeDelta::minutes(5 * 60 + 1));
    app.app.provisioning.retire_due().await.unwrap();
    assert!(!opens(&redis, &first).await, "it has ended");
    assert!(run(&mut early, "PING").await.is_err(), "and so has who came with it");
    assert!(opens(&redis, &second).await);
    assert!(events(&app, served.id).await.contains(&"DataplaneCredentialRetired".to_owned()));

    let mut owner = redis.connect().await;
    let mut fill = redis::pipe();
    for number in 0..2500 {
        fill.cmd("SET").arg(format!("{}:{number}", stem(served.id))).arg("x").ignore();
    }
    fill.cmd("SET").arg(format!("{}x:1", stem(served.id))).arg("another's").ignore();
    fill.exec_async(&mut owner).await.unwrap();
    let removal = app.app.provisioning.remove_all(served.id).await.unwrap();
    let gone = serde_json::to_value(&removal.removed["redis"]).unwrap();
    assert_eq!(gone, json!({ "keys": 2500, "users": 2 }));
    assert_eq!(removal.residue, [""; 0]);
    assert_eq!(run(&mut owner, "DBSIZE").await.unwrap(), Value::Int(1), "nothing else went");
    assert!(!opens(&redis, &second).await);
}

async fn health(admin: &Client) -> serde_json::Value {
    admin.ok("{ layerHealth { layer health reason since } }", json!({})).await["layerHealth"][0].clone()
}

async fn seen(admin: &Client, tenant: TenantId) -> String {
    let seen = look(admin, tenant).await;
    let layers = seen["layers"].as_array().unwrap();
    let redis = layers.iter().find(|layer| layer["name"] == "redis");
    redis.map(|layer| layer["observed"].as_str().unwrap().to_owned()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_down_holds_nobody_back_where_it_is_best_effort_and_is_healed_when_it_is_back() {
    let mut redis = RedisServer::forgetful();
    let app =
        TestApp::with(&settings(&redis, "best_effort = [\"redis\"]").replace("50ms", "10m").replace("200ms", "10m"))
            .await;
    let admin = app.admin().await;
    let early = tenant(&admin, "early").await;
    let credential = fetch(&app, &early).await;
    assert!(opens(&redis, &credential).await);
    app.advance(TimeDelta::seconds(16));
    app.run_due().await;
    assert_eq!(health(&admin).await["health"], "HEALTHY");

    let before = app.app.clock.now();
    redis.stop();
    app.advance(TimeDelta::seconds(16));
    app.run_due().await;
    let down = eventually("the outage is said", async || {
        let now = health(&admin).await;
        (now["health"] == "UNHEALTHY").then_some(now)
    })
    .await;
    assert_eq!(down["reason"], "Redis cannot be reached");
    let since: chrono::DateTime<chrono::Utc> = down["since"].as_str().unwrap().parse().unwrap();
    assert!(since >= before && since <= app.app.clock.now(), "{down}");
    let late = tenant(&admin, "late").await;
    let layers = look(&admin, late.id).await;
    let layer = layers["layers"].as_array().unwrap().iter().find(|layer| layer["name"] == "redis").unwrap().clone();
    assert_eq!(
        (&layer["essential"], &layer["lastError"]),
        (&json!(false), &json!("Redis cannot be reached")),
        "{layer}"
    );

    // It comes back without its users, which were in its memory alone; ten minutes of pause are not waited for.
    redis.start_again();
    assert!(!opens(&redis, &credential).await, "it has forgotten");
    app.advance(TimeDelta::seconds(16));
    app.run_due().await;
    eventually("what was missing is made", async || (seen(&admin, late.id).await == "PRESENT").then_some(())).await;
    eventually("what was forgotten is made again, and opens with what was given out", async || {
        opens(&redis, &credential).await.then_some(())
    })
    .await;
    assert_eq!(health(&admin).await["health"], "HEALTHY");
    assert!(events(&app, early.id).await.contains(&"LayerDrifted".to_owned()));

    // A restart between two looks is noticed, too: by its mark.
    redis.stop();
    redis.start_again();
    app.advance(TimeDelta::seconds(16));
    app.run_due().await;
    eventually("a quick restart is noticed", async || opens(&redis, &credential).await.then_some(())).await;
}

/// Changes by hand; `A` is the tenant's user.
const TAMPERINGS: &[&[&str]] = &[
    &["DELUSER", "A"],
    &["SETUSER", "A", "~*"],
    &["SETUSER", "A", "&*"],
    &["SETUSER", "A", "+keys"],
    &["SETUSER", "A", "-get"],
    &["SETUSER", "A", "nopass"],
    &["SETUSER", "A", ">another"],
    &["SETUSER", "A", "off"],
    &["SETUSER", "A", "(+@all ~*)"],
    &["DELUSER", "tenantry-pattern"],
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_user_that_was_changed_by_hand_is_mended_and_opens_as_before() {
    let redis = RedisServer::keeping_users();
    let app = TestApp::with(&settings(&redis, "")).await;
    let kept = tenant(&app.admin().await, "kept").await;
    let credential = fetch(&app, &kept).await;
    let mut owner = redis.connect().await;
    for (before, tampering) in TAMPERINGS.iter().enumerate() {
        let words = tampering.iter().map(|word| if *word == "A" { credential.0.as_str() } else { word });
        cmd("ACL").arg(words.collect::<Vec<_>>()).exec_async(&mut owner).await.unwrap();
        println!("{tampering:?}");
        mended(&app, kept.id, "redis", before).await;
        let end: Vec<String> = cmd("ACL").arg("USERS").query_async(&mut owner).await.unwrap();
        assert!(end.contains(&credential.0), "{tampering:?}");
        if before < 4 {
            assert!(opens(&redis, &credential).await, "{tampering:?}: what was given out opens until its end");
        }
    }
    assert!(redis.connect_as(&credential.0, "another").await.is_err());
}
