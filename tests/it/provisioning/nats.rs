//! Tenants' accounts and streams on a NATS.

use std::time::Duration;

use async_nats::{Client as Nats, ConnectOptions, Event, jetstream};
use chrono::TimeDelta;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tenantry::platform::ids::TenantId;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{ON, active, clusters::stem, create, events, eventually, look, mended};
use crate::support::{Client, Tenant, TestApp, nats::NatsServer};

fn settings(nats: &NatsServer, rest: &str) -> String {
    let on = ON.replace("\"schema\"]", &format!("\"schema\", \"nats\"]\n{rest}"));
    format!("{on}\n{}", nats.settings())
}

async fn tenant(admin: &Client, slug: &str) -> Tenant {
    let id = create(admin, slug, "STANDARD").await;
    active(admin, id).await;
    Tenant { id, slug: slug.to_owned(), canary: String::new() }
}

/// What a service of the tenant gets for NATS: a file of credentials.
async fn fetch(app: &TestApp, tenant: &Tenant) -> String {
    let query = "{ dataplaneCredentials { layer secret } }";
    let got = app.service(tenant, "auth:dataplane:read").await.ok(query, json!({})).await;
    let all = got["dataplaneCredentials"].as_array().unwrap();
    all.iter().find(|one| one["layer"] == "nats").unwrap()["secret"].as_str().unwrap().to_owned()
}

/// A connection with these credentials, and what its server says of it.
async fn connect(
    nats: &NatsServer,
    credentials: &str,
) -> Result<(Nats, UnboundedReceiver<String>), async_nats::ConnectError> {
    let (tell, told) = unbounded_channel();
    let options = ConnectOptions::with_credentials(credentials).unwrap().max_reconnects(1);
    let options = options.request_timeout(Some(Duration::from_secs(5))).event_callback(move |event| {
        let tell = tell.clone();
        async move {
            if matches!(event, Event::ServerError(_)) {
                let _ = tell.send(event.to_string());
            }
        }
    });
    Ok((options.connect(format!("nats://{}", nats.address)).await?, told))
}

/// What A's user tries to publish; `A` and `B` are the tenants' stems.
const ATTEMPTS: &[&str] = &[
    "B.news",
    "elsewhere",
    "Ax.news",
    "$JS.API.STREAM.INFO.B",
    "$JS.API.STREAM.CREATE.B",
    "$JS.API.STREAM.DELETE.B",
    "$JS.API.STREAM.PURGE.B",
    "$JS.API.STREAM.MSG.GET.B",
    "$JS.API.STREAM.MSG.DELETE.A",
    "$JS.API.STREAM.CREATE.another",
    "$JS.API.STREAM.UPDATE.A",
    "$JS.API.STREAM.DELETE.A",
    "$JS.API.STREAM.PURGE.A",
    "$JS.API.STREAM.LIST",
    "$JS.API.STREAM.SNAPSHOT.A",
    "$JS.API.CONSUMER.CREATE.B",
    "$JS.API.CONSUMER.MSG.NEXT.B.reader",
    "$JS.API.CONSUMER.DELETE.B.reader",
    "$JS.ACK.B.reader.1.1.1.1.1",
    "$SYS.REQ.CLAIMS.LIST",
    "$SYS.REQ.CLAIMS.UPDATE",
    "$SYS.REQ.CLAIMS.DELETE",
    "$SYS.REQ.SERVER.PING",
    "$SYS.REQ.USER.INFO",
];

/// What it tries to hear.
const LISTENING: &[&str] = &["B.>", "B.news", ">", "*.news", "$SYS.>", "$JS.>", "$JS.API.>"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_nats_user_reaches_its_own_subjects_and_stream_alone() {
    let nats = NatsServer::start();
    let app = TestApp::with(&settings(&nats, "")).await;
    let admin = app.admin().await;
    let (a, b) = tokio::join!(tenant(&admin, "intruder"), tenant(&admin, "victim"));
    let (intruder, mut told) = connect(&nats, &fetch(&app, &a).await).await.unwrap();
    let (victim, mut of_victim) = connect(&nats, &fetch(&app, &b).await).await.unwrap();
    let (a_stem, b_stem) = (stem(a.id), stem(b.id));

    // Each publishes to its stream, reads it through a consumer of its own, and acknowledges.
    for (client, stem) in [(&intruder, &a_stem), (&victim, &b_stem)] {
        let api = jetstream::new(client.clone());
        api.publish(format!("{stem}.news"), "kept".into()).await.unwrap().await.unwrap();
        let stream = api.get_stream(stem).await.unwrap();
        let pull = jetstream::consumer::pull::Config { durable_name: Some("reader".to_owned()), ..Default::default() };
        let consumer = stream.create_consumer(pull).await.unwrap();
        let message = consumer.messages().await.unwrap().next().await.unwrap().unwrap();
        assert_eq!((message.payload.as_ref(), message.subject.as_str()), (&b"kept"[..], &*format!("{stem}.news")));
        message.ack().await.unwrap();
    }

    let named = |text: &str| {
        let words = text.split('.').map(|word| match word {
            "A" => a_stem.clone(),
            "B" => b_stem.clone(),
            "Ax" => format!("{a_stem}x"),
            other => other.to_owned(),
        });
        words.collect::<Vec<_>>().join(".")
    };
    let mut heard = victim.subscribe(format!("{b_stem}.>")).await.unwrap();
    victim.flush().await.unwrap();
    for attempt in ATTEMPTS {
        let subject = named(attempt);
        intruder.publish(subject.clone(), "forged".into()).await.unwrap();
        let error = tokio::time::timeout(Duration::from_secs(20), told.recv()).await.expect(attempt).unwrap();
        assert!(error.to_lowercase().contains("permissions violation"), "{attempt}: {error}");
        assert!(error.to_lowercase().contains(&subject.to_lowercase()), "{attempt}: {error}");
    }
    for attempt in LISTENING {
        let _listening = intruder.subscribe(named(attempt)).await.unwrap();
        let error = tokio::time::timeout(Duration::from_secs(20), told.recv()).await.expect(attempt).unwrap();
        assert!(error.to_lowercase().contains("permissions violation"), "{attempt}: {error}");
    }
    // Nor does a name of its own account lead anywhere: accounts share nothing.
    let mut stream = jetstream::new(victim.clone()).get_stream(&b_stem).await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 1, "nothing was added, nothing went");
    victim.publish(format!("{b_stem}.last"), "own".into()).await.unwrap();
    assert_eq!(heard.next().await.unwrap().subject.as_str(), format!("{b_stem}.last"), "and nothing was heard before");
    assert!(of_victim.try_recv().is_err());
    // A user that a tenant makes for itself is none.
    let forged = fetch(&app, &a).await.replace("JWT-----\ney", "JWT-----\nfy");
    assert!(connect(&nats, &forged).await.is_err());
}

async fn seen(admin: &Client, tenant: TenantId) -> Value {
    let seen = look(admin, tenant).await;
    seen["layers"].as_array().unwrap().iter().find(|layer| layer["name"] == "nats").cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nats_that_is_down_stops_nobody_elses_work_and_is_filled_again_with_what_opens_as_before() {
    let mut nats = NatsServer::start();
    let slow = settings(&nats, "best_effort = [\"nats\"]").replace("50ms", "10m").replace("200ms", "10m");
    let app = TestApp::with(&slow).await;
    let admin = app.admin().await;
    let early = tenant(&admin, "early").await;
    eventually("the layer is there", async || (seen(&admin, early.id).await["observed"] == "PRESENT").then_some(()))
        .await;
    let credentials = fetch(&app, &early).await;
    connect(&nats, &credentials).await.unwrap();
    app.advance(TimeDelta::seconds(16));
    app.run_due().await;
    let health =
        async || admin.ok("{ layerHealth { layer health reason since } }", json!({})).await["layerHealth"][0].clone();
    eventually("it is well", async || (health().await["health"] == "HEALTHY").then_some(())).await;

    let before = app.app.clock.now();
    nats.stop();
    app.advance(TimeDelta::seconds(16));
    app.run_due().await;
    let down = eventually("the outage is said", async || {
        let now = health().await;
        (now["health"] == "UNHEALTHY").then_some(now)
    })
    .await;
    assert_eq!(down["reason"], "NATS cannot be reached");
    let since: chrono::DateTime<chrono::Utc> = down["since"].as_str().unwrap().parse().unwrap();
    assert!(since >= before && since <= app.app.clock.now(), "{down}");
    let late = tenant(&admin, "late").await;
    assert_eq!(seen(&admin, late.id).await["essential"], false);

    // All that it had is gone; ten minutes of pause are not waited for.
    nats.wipe();
    nats.start_again();
    assert!(connect(&nats, &credentials).await.is_err(), "it has forgotten");
    app.advance(TimeDelta::seconds(16));
    app.run_due().await;
    eventually("what was missing is made", async || {
        (seen(&admin, late.id).await["observed"] == "PRESENT").then_some(())
    })
    .await;
    eventually("what was forgotten is made again, and opens with what was given out", async || {
        connect(&nats, &credentials).await.is_ok().then_some(())
    })
    .await;
    assert!(events(&app, early.id).await.contains(&"LayerDrifted".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_was_changed_or_deleted_by_hand_is_mended_and_goes_with_its_messages() {
    let nats = NatsServer::start();
    let app = TestApp::with(&settings(&nats, "")).await;
    let kept = tenant(&app.admin().await, "kept").await;
    let (service, _) = connect(&nats, &fetch(&app, &kept).await).await.unwrap();
    let keeper = app.app.provisioning.layers().iter().find(|layer| layer.name() == "nats").cloned().unwrap();
    let site = app.app.provisioning.site_of(kept.id).await.unwrap();
    let api = jetstream::new(nats.owner_of(kept.id).await);
    let stem = stem(kept.id);
    api.delete_stream(&stem).await.unwrap();
    mended(&app, kept.id, "nats", 0).await;
    let mut stream = api.get_stream(&stem).await.unwrap();
    let mut config = stream.info().await.unwrap().config.clone();
    (config.subjects, config.max_bytes) = (vec!["all.>".to_owned()], 5);
    api.update_stream(&config).await.unwrap();
    mended(&app, kept.id, "nats", 1).await;
    assert_eq!(stream.info().await.unwrap().config.subjects, [format!("{stem}.>")]);

    for number in 0..20 {
        let sent = jetstream::new(service.clone()).publish(format!("{stem}.{number}"), "x".into()).await.unwrap();
        sent.await.unwrap();
    }
    let removal = app.app.provisioning.remove_all(kept.id).await.unwrap();
    let gone = serde_json::to_value(&removal.removed["nats"]).unwrap();
    assert_eq!(gone, json!({ "accounts": 1, "streams": 1, "messages": 20 }));
    assert_eq!(removal.residue, [""; 0]);
    assert_eq!(keeper.residue(&site).await.unwrap(), [""; 0]);
    assert!(service.flush().await.is_err() || connect(&nats, "").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nats_credential_that_has_ended_opens_nothing() {
    let nats = NatsServer::start();
    let app = TestApp::with(&settings(&nats, "")).await;
    let served = tenant(&app.admin().await, "served").await;
    // NATS has no other clock than the machine's: the server's is set back.
    app.advance(TimeDelta::hours(-13));
    let ended = fetch(&app, &served).await;
    assert!(connect(&nats, &ended).await.is_err());
    app.advance(TimeDelta::hours(13));
    let fresh = fetch(&app, &served).await;
    assert!(connect(&nats, &fresh).await.is_ok());
    assert_ne!(fresh, ended);
}
