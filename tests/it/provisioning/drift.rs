//! What somebody has changed by hand is found, mended and told.

use chrono::TimeDelta;
use sea_orm::ConnectionTrait as _;

use super::{
    ON, active,
    clusters::{Cluster, inventory, of_tenant, register, stem},
    create, events, eventually, look, observed,
};
use crate::support::TestApp;

/// Each is done to tenant `T`, in the tenant's database.
const TAMPERING: &[&str] = &[
    "alter role \"T\" createdb createrole inherit login",
    "alter role \"T_a\" superuser bypassrls connection limit 1000",
    "grant pg_read_all_data to \"T\"",
    "grant \"T\" to stranger",
    "grant \"T\" to \"T_a\" with admin option",
    "revoke \"T\" from \"T_b\"",
    "grant usage, create on schema \"T\" to public",
    "grant usage on schema \"T\" to stranger",
    "grant create on schema \"T\" to \"T\" with grant option",
    "revoke all on schema \"T\" from \"T\"",
    "alter schema \"T\" owner to stranger",
    "grant all on schema foreign_schema to \"T\"",
    "grant select on foreign_schema.things to \"T_a\"",
    "grant execute on function foreign_schema.secret() to \"T_b\"",
    "alter role \"T_a\" reset all",
    "do $$ begin execute format('alter role \"T_a\" in database %I set role = ''none''', current_database()); end $$",
    "do $$ begin execute format('alter role \"T_b\" in database %I reset search_path', current_database()); end $$",
    "alter role \"T_b\" set search_path = foreign_schema",
    "drop schema \"T\"",
    "drop owned by \"T_a\"; drop role \"T_a\"",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_changed_by_hand_is_found_mended_and_told() {
    let cluster = Cluster::start();
    let app = TestApp::with(&ON.replace("[cells]", "[cells]\nown = false")).await;
    let admin = app.admin().await;
    register(&admin, "tampered", "STANDARD", &cluster.url("postgres", "postgres")).await;
    for tier in ["STANDARD", "ENTERPRISE"] {
        let admin = app.admin().await;
        let tenant = create(&admin, &format!("tampered-{}", tier.to_lowercase()), tier).await;
        active(&admin, tenant).await;
        let database = if tier == "STANDARD" { "postgres".to_owned() } else { stem(tenant) };
        let db = cluster.connect(&database, "postgres").await;
        let around = "do $$ begin create role stranger; exception when duplicate_object then null; end $$;
            create schema foreign_schema; create table foreign_schema.things (id int);
            create function foreign_schema.secret() returns int language sql as 'select 1'";
        db.execute_unprepared(around).await.unwrap();
        let intended = of_tenant(&inventory(&cluster).await, tenant);
        let mut tampering: Vec<String> = TAMPERING.iter().map(|statement| (*statement).to_owned()).collect();
        if tier == "ENTERPRISE" {
            tampering.push("grant connect on database \"T\" to public".to_owned());
            tampering.push("grant create on database \"T\" to \"T_a\"".to_owned());
            tampering.push("alter database \"T\" owner to stranger".to_owned());
        }
        let mut drifts = 0;
        for statement in &tampering {
            let done = statement
                .replace("\"T\"", &format!("\"{}\"", stem(tenant)))
                .replace("\"T_", &format!("\"{}_", stem(tenant)));
            db.execute_unprepared(&done).await.unwrap();
            if statement.contains("alter role \"T_a\" reset all") {
                continue; // resets nothing: what is set is set for one database
            }
            drifts += 1;
            app.advance(TimeDelta::minutes(75));
            let admin = app.admin().await;
            let told = eventually(&format!("{statement} is noticed"), async || {
                let told = events(&app, tenant).await;
                let count = told.iter().filter(|event| *event == "LayerDrifted").count();
                (count >= drifts).then_some(count)
            })
            .await;
            eventually(&format!("{statement} is mended"), async || {
                let seen = look(&admin, tenant).await;
                observed(&seen).iter().all(|(_, observed)| *observed == "PRESENT").then_some(())
            })
            .await;
            eventually(&format!("{statement}: nothing is left of it"), async || {
                let mended = of_tenant(&inventory(&cluster).await, tenant);
                (mended == intended).then_some(())
            })
            .await;
            drifts = told; // one act may be seen by two layers
        }
    }
}
