//! From one cell to another.

use std::time::Duration;

use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};

use super::{
    clients::Clients,
    scene::{CANCEL, CONFIRM, MOVE, Scene, contents, furnish, service, settings},
};
use crate::{
    provisioning::{clusters::texts, create, events, eventually},
    support::Socket,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_goes_to_another_cell_with_all_it_has_and_leaves_nothing_behind() {
    let scene = Scene::new("STANDARD", "STANDARD").await;
    let admin = scene.app.admin().await;
    let before = service(&admin, scene.tenant).await;
    furnish(&before, 1000).await;
    let was = contents(&scene.source, "postgres", scene.tenant).await;
    let (source, nothing) = (scene.of_tenant(&scene.source).await, scene.of_tenant(&scene.target).await);
    assert_eq!(nothing, [""; 0]);

    let plan = scene.start_move(json!({ "dryRun": true })).await["moveTenant"].clone();
    assert_eq!((&plan["move"], &plan["cell"]), (&json!(null), &json!("target")), "{plan}");
    assert!(plan["steps"].as_array().unwrap().len() == 5, "{plan}");
    assert_eq!(scene.of_tenant(&scene.target).await, [""; 0]);

    scene.start_move(json!({})).await;
    let refused = admin.graphql(MOVE, json!({ "input": { "tenantId": scene.tenant } })).await;
    assert_eq!(refused.code(), "conflict", "two moves at once");
    let moved = scene.reached("SWITCHED").await;
    eventually("the move has tidied up", async || (scene.of_tenant(&scene.target).await == source).then_some(())).await;
    assert_eq!(contents(&scene.target, "postgres", scene.tenant).await, was);
    assert_eq!(moved["problem"], "", "{moved}");
    assert!(scene.progress().await["placement"]["reason"].as_str().unwrap().starts_with("moved: target in"));
    assert!(
        before.execute_unprepared("insert into kinds values ('late', 'sad')").await.is_err(),
        "the source takes none"
    );
    let kept = scene.of_tenant(&scene.source).await;
    assert!(kept.iter().any(|line| line.starts_with("schema T in postgres")), "{kept:#?}");
    assert!(!kept.iter().any(|line| line.contains("slot") || line.contains("publication")), "{kept:#?}");
    assert_eq!(admin.refused(CANCEL, json!({ "id": scene.tenant })).await, "invalid_transition");

    let after = service(&admin, scene.tenant).await;
    assert_eq!(texts(&after, "select nextval('tickets')::text").await, ["42"]);
    assert_eq!(texts(&after, "select secret from secrets").await, ["mine"], "row-level security holds");
    after.execute_unprepared("insert into items (kind, price) values ('plain', 1)").await.unwrap();
    admin.ok(CONFIRM, json!({ "id": scene.tenant })).await;
    scene.reached("CONFIRMED").await;
    assert_eq!(scene.of_tenant(&scene.source).await, [""; 0]);
    let told = events(&scene.app, scene.tenant).await;
    let moves: Vec<_> = told.iter().filter(|event| event.starts_with("Move")).collect();
    assert_eq!(moves, ["MoveStarted", "MoveCopied", "MoveSwitched", "MoveConfirmationRequested", "MoveConfirmed"]);

    // And back, where nothing is in the way.
    scene.start_move(json!({ "cell": "source" })).await;
    scene.reached("SWITCHED").await;
    admin.ok(CONFIRM, json!({ "id": scene.tenant })).await;
    scene.reached("CONFIRMED").await;
    assert_eq!(scene.of_tenant(&scene.target).await, [""; 0]);
    assert_eq!(scene.of_tenant(&scene.source).await, source);
    let removed = scene.app.app.provisioning.remove_all(scene.tenant).await.unwrap();
    assert_eq!(removed.residue, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_is_told_as_it_goes_on_and_whoever_comes_back_misses_nothing() {
    let scene = Scene::new("STANDARD", "STANDARD").await;
    let replica = scene.app.replica(&settings()).await;
    let admin = scene.app.admin().await;
    furnish(&service(&admin, scene.tenant).await, 100).await;
    let watch = "subscription($id: ID!, $after: String) { provisioningProgress(tenantId: $id, after: $after) {
        cursor event problem move { phase sourceTier targetTier rowsCopied changesApplied pauseMs keepUntil } } }";
    let mut socket = scene.app.socket(&admin).await;
    socket.subscribe("p", watch, json!({ "id": scene.tenant })).await;
    scene.start_move(json!({})).await;
    let started = of_moves(&mut socket).await;
    assert_eq!((&started["event"], &started["problem"]), (&json!("MoveStarted"), &json!(null)), "{started}");
    let tiers = json!({ "phase": "PREPARING", "sourceTier": "STANDARD", "targetTier": "STANDARD", "rowsCopied": null,
        "changesApplied": null, "pauseMs": null, "keepUntil": null });
    assert_eq!(started["move"], tiers);
    drop(socket);
    let moved = scene.reached("SWITCHED").await;
    admin.ok(CONFIRM, json!({ "id": scene.tenant })).await;
    scene.reached("CONFIRMED").await;

    // At another server, long after.
    let mut socket = replica.socket(&replica.admin().await).await;
    socket.subscribe("p", watch, json!({ "id": scene.tenant, "after": started["cursor"] })).await;
    let mut told = Vec::new();
    while told.last().is_none_or(|last: &Value| last["event"] != "MoveConfirmed") {
        told.push(of_moves(&mut socket).await);
    }
    let events: Vec<_> = told.iter().map(|event| (event["event"].clone(), event["move"]["phase"].clone())).collect();
    let expected = [
        ("MoveCopied", "CATCHING_UP"),
        ("MoveSwitched", "SWITCHED"),
        ("MoveConfirmationRequested", "SWITCHED"),
        ("MoveConfirmed", "CONFIRMED"),
    ];
    assert_eq!(events, expected.map(|(event, phase)| (json!(event), json!(phase))));
    assert_eq!(told[0]["move"]["rowsCopied"], moved["rowsCopied"]);
    for name in ["changesApplied", "keepUntil"] {
        assert_eq!(told[1]["move"][name], moved[name], "{name}");
    }
    let pauses: Vec<_> = told.iter().map(|event| event["move"]["pauseMs"].as_i64()).collect();
    let pause = scene.progress().await["move"]["pauseMs"].as_i64();
    assert!(pauses[0].is_none() && pauses[1].is_some() && pauses[1] <= pause, "{pauses:?}");
    assert_eq!(pauses[3], pause);
}

/// The next event of a move; others are passed over.
async fn of_moves(socket: &mut Socket) -> Value {
    loop {
        let event = socket.event().await["data"]["provisioningProgress"].clone();
        if event["move"] != json!(null) {
            return event;
        }
    }
}

/// The short form of `make soak`'s.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_write_is_lost_while_eight_services_read_and_write() {
    let scene = Scene::new("STANDARD", "STANDARD").await;
    let admin = scene.app.admin().await;
    furnish(&service(&admin, scene.tenant).await, 5000).await;
    let clients = Clients::start(8, &admin, scene.tenant);
    scene.start_move(json!({})).await;
    let moved = scene.reached("SWITCHED").await;
    let after = service(&admin, scene.tenant).await;
    let at_switch: i64 = texts(&after, "select count(*)::text from written").await[0].parse().unwrap();
    eventually("services go on at the target", async || {
        let now: i64 = texts(&after, "select count(*)::text from written").await[0].parse().unwrap();
        (now > at_switch + 100).then_some(())
    })
    .await;
    let seen = clients.stop(&after).await;
    println!(
        "moved {} rows and {} changes under {} acknowledged writes and {} reads; services were kept out for {} ms, and saw {} ms",
        moved["rowsCopied"],
        moved["changesApplied"],
        seen.acknowledged,
        seen.reads,
        moved["pauseMs"],
        seen.pause.as_millis()
    );
    assert!(moved["changesApplied"].as_i64().unwrap() > 0 && seen.reads > 100, "{moved}");
    // Under any load of the machine; the figure is for the long form.
    assert!(moved["pauseMs"].as_i64().unwrap() < 5000, "{moved}");
    assert!(seen.pause < Duration::from_secs(10), "{:?}", seen.pause);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_is_refused_with_what_to_change() {
    let scene = Scene::new("STANDARD", "ENTERPRISE").await;
    let admin = scene.app.admin().await;
    let refused = async |input: serde_json::Value| {
        let mut input = input;
        input["tenantId"] = json!(scene.tenant);
        let answer = admin.graphql(MOVE, json!({ "input": input })).await;
        (answer.code().to_owned(), answer.body.to_string())
    };
    for (cell, code, told) in [
        ("nowhere", "invalid_input", "is no cell's name"),
        ("source", "invalid_input", "is on the PostgreSQL server where the tenant is"),
        ("target", "invalid_input", "is not for tenants of that tier"),
    ] {
        let (was, body) = refused(json!({ "cell": cell })).await;
        assert_eq!(was, code, "{body}");
        assert!(body.contains(told), "{body}");
    }
    assert_eq!(refused(json!({})).await.0, "unavailable", "no other cell is of its tier");
    let register = "mutation($input: RegisterCellInput!) { registerCell(input: $input) { cell { id } } }";
    scene.target.connect("postgres", "postgres").await.execute_unprepared("create database abroad").await.unwrap();
    let abroad = json!({ "name": "abroad", "region": "us-east-1", "capacity": 9, "url": scene.target.url("abroad", "postgres") });
    admin.ok(register, json!({ "input": abroad })).await;
    assert_eq!(refused(json!({ "cell": "abroad" })).await.0, "residency_violation");
    let db = service(&admin, scene.tenant).await;
    db.execute_unprepared("create unlogged table fleeting (id integer)").await.unwrap();
    let (was, body) = refused(json!({ "isolationTier": "ENTERPRISE" })).await;
    assert!(was == "invalid_input" && body.contains("fleeting is unlogged"), "{body}");
    assert_eq!(admin.refused(CANCEL, json!({ "id": scene.tenant })).await, "not_found");
    let waiting = create(&admin, "placeless", "PREMIUM").await;
    assert_eq!(admin.refused(MOVE, json!({ "input": { "tenantId": waiting } })).await, "conflict");
    assert_eq!(scene.of_tenant(&scene.target).await, [""; 0]);
}
