//! The command line: a folder is registered, and a rollout watched to its end.

use serde_json::json;

use super::{COLOUR, Fleet, ITEMS};
use crate::{binary::Binary, provisioning::clusters::connect, support};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_is_registered_and_its_rollout_watched_from_the_command_line() {
    let database = support::database().await;
    let binary = Binary::on(&database)
        .set("PROVISIONING__LAYERS", "placement,role,database,schema,template")
        .set("WORKER__INTERVAL", "100ms");
    let server = binary.serve().await;
    let folder = binary.path("shop");
    std::fs::create_dir_all(&folder).unwrap();
    let folder_name = folder.display().to_string();
    let write = |(name, sql): (&str, &str)| std::fs::write(folder.join(name), sql).unwrap();
    write(ITEMS);
    write(("README.md", "no migration"));
    let register = ["template", "register", folder_name.as_str(), "--name", "shop", "--default"];
    assert_eq!(binary.run(&register).await.ok(), "shop has 1 migrations; new tenants get version 1.\n");
    write((COLOUR.0, "\ncommit"));
    let said = binary.run(&register).await.failed();
    assert!(said.contains("V0002__colour.sql:2: `commit` controls transactions"), "{said}");
    write(COLOUR);
    assert_eq!(binary.run(&register).await.ok(), "shop has 2 migrations; new tenants get version 1.\n");
    let cell = connect(&database.cell_url_of("postgres")).await.unwrap();
    let fleet = Fleet::seed(&database.name, database.superuser().await, cell, 5).await;
    let dry = binary.run(&["template", "rollout", "shop", "--dry-run", "--waves", "20,100"]).await.ok();
    assert_eq!(dry, "To version 2: 5 tenants, in waves of [1, 4].\n");
    let done = binary.run(&["--json", "template", "rollout", "shop", "--to", "2", "--watch"]).await.json();
    assert_eq!((&done["state"], &done["applied"], &done["failed"]), (&json!("COMPLETED"), &json!(5), &json!(0)));
    assert_eq!(fleet.versions().await, ["2: 5"]);
    let status = binary.run(&["template", "status"]).await.ok();
    for part in [
        "shop: version 2, new tenants get 2, 0 schemas have drifted",
        "version 2: 5 tenants",
        "COMPLETED",
        "5 of 5 tenants",
    ] {
        assert!(status.contains(part), "{part}: {status}");
    }
    let said = binary.run(&["template", "pause", done["id"].as_str().unwrap()]).await.failed();
    assert!(said.contains("a rollout that is COMPLETED cannot be paused"), "{said}");
    let said = binary.run(&["template", "rollout", "shop", "--to", "3"]).await.failed();
    assert!(said.contains("to: must be a version of the template, between 1 and 2"), "{said}");
    assert!(server.stop().await.success());
}
