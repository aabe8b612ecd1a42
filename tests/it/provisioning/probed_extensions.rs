//! Probes of vectors and graphs: tried where a cell has the extension, and counted nowhere else.

use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};
use tenantry::probes::Round;

use super::{
    active,
    clusters::{Cluster, inventory, register, texts},
    create,
    probes::{attested, let_through, outcomes, run_with, settings, verify},
};
use crate::support::{TestApp, again::missing};

/// Inventories list what is called after a tenant; graphs are not.
const GRAPHS: &str = "select nspname::text from pg_namespace where nspname like 'g\\_%'
    union all select name::text from ag_catalog.ag_graph order by 1";

fn of<'a>(probes: &'a Value, layer: &str, cell: &str) -> &'a Value {
    let all = probes["layers"].as_array().unwrap();
    all.iter().find(|one| one["layer"] == layer && one["cell"] == cell).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vectors_and_graphs_are_tried_where_they_are_and_counted_nowhere_else() {
    let Some(able) = Cluster::with_extensions() else { return missing("scripts/postgres-extensions") };
    let (able, plain) = (able.asking_for_passwords(), Cluster::start().asking_for_passwords());
    let app = TestApp::with(&settings(", \"vectors\", \"graph\"", "")).await;
    let admin = app.admin().await;
    let superuser = able.connect("postgres", "postgres").await;
    superuser.execute_unprepared("create database roomy").await.unwrap();
    register(&admin, "able", "STANDARD", &able.url("postgres", "postgres")).await;
    register(&admin, "roomy", "ENTERPRISE", &able.url("roomy", "postgres")).await;
    register(&admin, "plain", "STANDARD", &plain.url("postgres", "postgres")).await;
    let mut tenants = Vec::new();
    for slug in ["one", "two"] {
        let id = create(&admin, slug, "STANDARD").await;
        let seen = active(&admin, id).await;
        tenants.push((id, seen["placement"]["reason"].as_str().unwrap().split_whitespace().next().unwrap().to_owned()));
    }
    let mut places: Vec<_> = tenants.iter().map(|(_, cell)| cell.trim_matches([':', ',']).to_owned()).collect();
    places.sort();
    assert_eq!(places, ["able", "plain"], "one on each");
    let before = (inventory(&able).await, texts(&superuser, GRAPHS).await);

    let probes = verify(&admin).await;
    assert_eq!(probes["outcome"], "REFUSED", "{probes:#}");
    for (layer, cell, outcome) in outcomes(&probes) {
        let is_here = cell != "plain" || !["vectors", "graph"].contains(&layer.as_str());
        assert_eq!(outcome, if is_here { "REFUSED" } else { "NOT_HERE" }, "{layer} {cell}: {probes:#}");
    }
    for (layer, title) in [("vectors", "pgvector (vector)"), ("graph", "Apache AGE (age)")] {
        assert!(of(&probes, layer, "able")["attempts"].as_array().unwrap().len() > 20, "{probes:#}");
        assert_eq!(of(&probes, layer, "roomy")["attempts"].as_array().unwrap().len(), 1, "another database");
        let absent = of(&probes, layer, "plain");
        assert_eq!(absent["attempts"], json!([]));
        assert!(absent["reason"].as_str().unwrap().ends_with(&format!("has no {title}")), "{absent}");
    }
    assert_eq!((inventory(&able).await, texts(&superuser, GRAPHS).await), before, "nothing is left");
    app.probe().await;
    for (id, _) in &tenants {
        attested(&admin, *id).await;
    }

    let found = run_with(&app, async |round: &mut Round| {
        if round.intruder.site.cell.as_ref().unwrap().name != "able" {
            return;
        }
        let (role, victim) = (round.intruder.site.names.stem(), &round.victim.site.names);
        for schema in [victim.vectors(), victim.graph()] {
            let open = format!("grant usage, create on schema \"{schema}\" to \"{role}\"");
            superuser.execute_unprepared(&open).await.unwrap();
        }
    })
    .await;
    let through = let_through(&found);
    for (layer, title) in [("vectors", "schema of vectors"), ("graph", "graph")] {
        let what = format!("create a table of the other tenant's {title}");
        assert!(through.contains(&(layer, &*what)), "{layer}: {through:#?}");
    }
    let others: Vec<_> = through.iter().filter(|(layer, _)| !["vectors", "graph"].contains(layer)).collect();
    assert_eq!(others, [&("schema", "use any tenant's schema of this database")], "whichever schema it is");
}
