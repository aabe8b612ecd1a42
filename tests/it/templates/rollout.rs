//! A rollout: wave by wave, by several servers, held up by nobody, stopped by failures.

use std::time::{Duration, Instant};

use sea_orm::ConnectionTrait as _;
use serde_json::json;

use super::{COLOUR, Fleet, ITEMS, ON, ROLL_OUT, look, register, roll_out, steer, until_state};
use crate::{
    provisioning::{
        active,
        clusters::{connect, texts},
        create, eventually,
    },
    support::TestApp,
};

async fn fleet(app: &TestApp, count: u32) -> Fleet {
    let cell = connect(&app.database.cell_url_of("postgres")).await.unwrap();
    Fleet::seed(&app.database.name, app.database.superuser().await, cell, count).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_reaches_the_canaries_first_then_everybody_then_those_who_come() {
    let app = TestApp::with(ON).await;
    let admin = app.admin().await;
    register(&admin, &[ITEMS]).await;
    let fleet = fleet(&app, 40).await;
    register(&admin, &[ITEMS, COLOUR]).await;
    let newcomer = create(&admin, "newcomer", "STANDARD").await;
    active(&admin, newcomer).await;
    let planned =
        admin.ok(ROLL_OUT, json!({ "input": { "template": "shop", "dryRun": true, "waves": [10.0, 100.0] } })).await;
    assert_eq!(
        planned["rolloutTemplate"],
        json!({ "rollout": null, "plan": { "to": 2, "waves": [4, 37], "tenants": [{ "version": 1, "tenants": 41 }] } })
    );
    assert_eq!(fleet.versions().await, ["1: 41"], "a dry run changes nothing");
    // The canaries' tables are in use: nobody of the second wave is tried meanwhile.
    let holder = connect(&app.database.cell_url_of("postgres")).await.unwrap();
    let mut hold = String::from("begin");
    for number in 1..=40 {
        hold += &format!("; select from {}.items", fleet.schema(number).await);
    }
    holder.execute_unprepared(&hold).await.unwrap();
    let id = roll_out(&admin, json!({ "waves": [10.0, 100.0], "lockTimeoutMs": 50, "attempts": 1000 })).await;
    let waiting = eventually("the canaries are tried again and again", async || {
        let (_, rollout) = look(&admin).await;
        (rollout["troubles"][0]["attempts"].as_i64() >= Some(2)).then_some(rollout)
    })
    .await;
    assert_eq!((&waiting["wave"], &waiting["waves"][1]["pending"]), (&json!(1), &json!(37)), "{waiting}");
    assert_eq!(steer(&admin, "pause", &id).await, "PAUSED");
    holder.execute_unprepared("commit").await.unwrap();
    assert_eq!(steer(&admin, "resume", &id).await, "RUNNING");
    let done = until_state(&admin, "COMPLETED").await;
    assert_eq!(done["tenants"], json!({ "all": 41, "pending": 0, "applied": 41, "failed": 0, "skipped": 0 }), "{done}");
    assert!(done["rate"].as_f64().unwrap() > 0.0 && done["finishedAt"].is_string());
    assert_eq!(fleet.versions().await, ["2: 41"]);
    assert_eq!(fleet.applied().await, ["2: 41 once, 0 more often"]);
    let late = create(&admin, "late", "STANDARD").await;
    active(&admin, late).await;
    assert_eq!(fleet.versions().await, ["2: 42"]);
    let told = "select count(*)::text from tenantry.journal where event = 'SchemaMigrated'";
    assert_eq!(texts(&fleet.registry, told).await, ["41"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_migration_leaves_its_tenant_on_the_old_version_and_too_many_stop_the_rollout() {
    let app = TestApp::with(ON).await;
    let admin = app.admin().await;
    register(&admin, &[ITEMS]).await;
    let fleet = fleet(&app, 30).await;
    let unique = ("V0003__unique.sql", "insert into applied values (3);\n\ncreate unique index on items (note);");
    register(&admin, &[ITEMS, COLOUR, unique]).await;
    for number in 1..=3 {
        fleet.run(number, "insert into SCHEMA.items values (1, 'same'), (2, 'same')").await;
    }
    let id = roll_out(&admin, json!({ "waves": [100.0], "failureRate": 5, "concurrency": 1 })).await;
    let stopped = until_state(&admin, "STOPPED").await;
    assert_eq!(stopped["tenants"]["failed"], 2, "one of thirty may fail: {stopped}");
    assert!(stopped["reason"].as_str().unwrap().starts_with("2 of the 30 tenants up to wave 1 failed"), "{stopped}");
    let problem = "V0003__unique.sql: a value that has to be unique is there more than once (23505)";
    for trouble in stopped["troubles"].as_array().unwrap().iter().filter(|trouble| trouble["hasFailed"] == true) {
        assert_eq!(trouble["problem"], problem);
    }
    for number in 1..=3 {
        let schema = fleet.schema(number).await;
        let left = format!(
            "select count(*)::text from {schema}.applied union all select count(*)::text
            from information_schema.columns where table_schema = '{schema}' and column_name = 'colour'"
        );
        assert_eq!(texts(&fleet.cell, &left).await, ["0", "0"], "nothing of either migration is there");
        let state = format!("select obj_description('{schema}'::regnamespace, 'pg_namespace')");
        assert_eq!(texts(&fleet.cell, &state).await, ["tenantry template shop 1"]);
    }
    // Two are mended, one stays: it may fail.
    for number in 1..=2 {
        fleet.run(number, "delete from SCHEMA.items where id = 2").await;
    }
    assert_eq!(steer(&admin, "resume", &id).await, "RUNNING");
    let done = until_state(&admin, "COMPLETED").await;
    assert_eq!((&done["tenants"]["applied"], &done["tenants"]["failed"]), (&json!(29), &json!(1)), "{done}");
    assert_eq!(fleet.versions().await, ["1: 1", "3: 29"]);
    assert_eq!(fleet.applied().await, ["2: 29 once, 0 more often", "3: 29 once, 0 more often"]);
    fleet.run(3, "delete from SCHEMA.items where id = 2").await;
    roll_out(&admin, json!({})).await;
    until_state(&admin, "COMPLETED").await;
    assert_eq!(fleet.versions().await, ["3: 30"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_transaction_of_a_tenant_is_waited_for_and_its_readers_never_longer_than_the_lock_timeout() {
    let app = TestApp::with(ON).await;
    let admin = app.admin().await;
    register(&admin, &[ITEMS]).await;
    let fleet = fleet(&app, 2).await;
    register(&admin, &[ITEMS, COLOUR]).await;
    let url = app.database.cell_url_of("postgres");
    let (holder, reader) = (connect(&url).await.unwrap(), connect(&url).await.unwrap());
    let schema = fleet.schema(1).await;
    holder.execute_unprepared(&format!("begin; select * from {schema}.items")).await.unwrap();
    roll_out(&admin, json!({ "waves": [100.0], "lockTimeoutMs": 400, "attempts": 1000 })).await;
    let (mut slowest, mut reads) = (Duration::ZERO, 0);
    eventually("it was tried several times", async || {
        let begun = Instant::now();
        reader.execute_unprepared(&format!("select * from {schema}.items")).await.unwrap();
        (slowest, reads) = (slowest.max(begun.elapsed()), reads + 1);
        let (_, rollout) = look(&admin).await;
        (rollout["troubles"][0]["attempts"].as_i64() >= Some(4)).then_some(())
    })
    .await;
    println!("{reads} reads while a migration waited for the table, the slowest {} ms", slowest.as_millis());
    // Four tries would be 1.6 s in all; a machine that others use adds to each read.
    assert!(slowest < Duration::from_millis(400 + 800), "{slowest:?}");
    assert_eq!(fleet.versions().await, ["1: 1", "2: 1"], "the other tenant was not held up");
    holder.execute_unprepared("commit").await.unwrap();
    until_state(&admin, "COMPLETED").await;
    assert_eq!(fleet.applied().await, ["2: 2 once, 0 more often"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_whose_tables_stay_in_use_counts_as_failed_and_a_cancelled_rollout_leaves_the_rest() {
    let app = TestApp::with(ON).await;
    let admin = app.admin().await;
    register(&admin, &[ITEMS]).await;
    let fleet = fleet(&app, 10).await;
    register(&admin, &[ITEMS, COLOUR]).await;
    let holder = connect(&app.database.cell_url_of("postgres")).await.unwrap();
    holder.execute_unprepared("begin").await.unwrap();
    for number in 1..=10 {
        holder.execute_unprepared(&format!("select * from {}.items", fleet.schema(number).await)).await.unwrap();
    }
    let id = roll_out(&admin, json!({ "waves": [10.0, 100.0], "lockTimeoutMs": 20, "attempts": 2 })).await;
    let again = admin.graphql(ROLL_OUT, json!({ "input": { "template": "shop" } })).await;
    assert_eq!(again.code(), "conflict", "one at a time: {}", again.text);
    let stopped = until_state(&admin, "STOPPED").await;
    let problem = stopped["troubles"][0]["problem"].as_str().unwrap();
    assert!(problem.contains("its tables are in use") && problem.ends_with("it was tried 2 times"), "{problem}");
    assert_eq!(stopped["waves"][1]["pending"], 9, "{stopped}");
    assert_eq!(steer(&admin, "cancel", &id).await, "CANCELLED");
    let mutation = "mutation($id: ID!) { resumeRollout(input: {id: $id}) { rollout { id } } }";
    assert_eq!(admin.refused(mutation, json!({ "id": id })).await, "invalid_transition");
    holder.execute_unprepared("commit").await.unwrap();
    assert_eq!(fleet.versions().await, ["1: 10"]);
    let (shop, _) = look(&admin).await;
    assert_eq!(shop["released"], 1, "new tenants get the version of before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_roll_out_together_and_nothing_is_applied_twice() {
    let app = TestApp::with(ON).await;
    let admin = app.admin().await;
    register(&admin, &[ITEMS]).await;
    let fleet = fleet(&app, 200).await;
    let replica = app.replica(&ON.replace("[templates]", "[templates]\nbatch = 7")).await;
    register(&admin, &[ITEMS, COLOUR]).await;
    let begun = Instant::now();
    let rollout = json!({ "waves": [5.0, 100.0], "concurrency": 3, "perCell": 2 });
    roll_out(&replica.admin().await, rollout).await;
    let mut most = 0;
    let lanes = "select count(*)::text from tenantry.rollout_lanes where lease_token is not null";
    eventually("it has come to its end", async || {
        most = most.max(texts(&fleet.registry, lanes).await[0].parse::<u32>().unwrap());
        (look(&admin).await.1["state"] == "COMPLETED").then_some(())
    })
    .await;
    println!("200 schemas migrated in {} ms by two servers (debug build)", begun.elapsed().as_millis());
    assert!((1..=2).contains(&most), "two at once on one cell, not {most}");
    assert_eq!(fleet.versions().await, ["2: 200"]);
    assert_eq!(fleet.applied().await, ["2: 200 once, 0 more often"]);
    let told =
        "select count(*) || ' of ' || count(distinct tenant_id) from tenantry.journal where event = 'SchemaMigrated'";
    assert_eq!(texts(&fleet.registry, told).await, ["200 of 200"]);
    let broken = "select count(*)::text from tenantry.journal_heads h join tenantry.journal j using (tenant_id, sequence) where j.hash <> h.hash";
    assert_eq!(texts(&fleet.registry, broken).await, ["0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_changes_its_connection_before_that_is_worn() {
    let app = TestApp::with(ON).await;
    let admin = app.admin().await;
    register(&admin, &[ITEMS]).await;
    let fleet = fleet(&app, 230).await;
    let sign = ("V0002__sign.sql", "insert into applied values (pg_backend_pid())");
    register(&admin, &[ITEMS, sign]).await;
    roll_out(&admin, json!({ "waves": [100.0], "concurrency": 1 })).await;
    until_state(&admin, "COMPLETED").await;
    let counts = "select count(*)::text from (
          select query_to_xml(format('select version from %I.applied', nspname), false, true, '')::text as pid
          from pg_namespace where nspname like 't\\_%') signed group by pid order by count(*) desc";
    let counts: Vec<u32> = texts(&fleet.cell, counts).await.iter().map(|count| count.parse().unwrap()).collect();
    assert_eq!(counts.iter().sum::<u32>(), 230);
    assert!(counts.len() >= 2 && counts[0] <= 200, "{counts:?}");
}
