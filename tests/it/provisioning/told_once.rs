//! `kill -9` of a server between the mark of a log and the journal: each refusal is told once all the same.

use sea_orm::ConnectionTrait as _;

use super::{
    active,
    clusters::{Cluster, register, stem, texts},
    create, eventually,
    proxy::{Fault, Proxy},
};
use crate::{
    binary::Binary,
    support::{self, Database},
};

/// After this, on the same connection, comes what tells the lines.
const MARK: &str = "update tenantry.cell_logs";
const TIMES: &str = "select coalesce(sum((after ->> 'times')::int), 0)::text from tenantry.journal where event = 'DataplaneAccessDenied'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_while_it_tells_what_was_refused_loses_no_line_and_tells_none_twice() {
    let cluster = Cluster::with_log();
    let database = support::database().await;
    let proxy = Proxy::before(&Database::socket_folder());
    let settings = [
        ("DATABASE__URL", proxy.url_as(&database.name, support::LOGIN)),
        ("PROVISIONING__LAYERS", "placement,role,database,schema".to_owned()),
        ("TENANCY__ACTIVATION", "automatic".to_owned()),
        ("CELLS__OWN", "false".to_owned()),
        ("WORKER__INTERVAL", "100ms".to_owned()),
    ];
    let binary = settings.into_iter().fold(Binary::on(&database), |binary, (key, value)| binary.set(key, value));
    let server = binary.serve().await;
    let admin = server.admin().await;
    register(&admin, "told", "STANDARD", &cluster.url("postgres", "postgres")).await;
    let (a, b) = (create(&admin, "intruder", "STANDARD").await, create(&admin, "victim", "STANDARD").await);
    for tenant in [a, b] {
        active(&admin, tenant).await;
    }
    let registry = database.superuser().await;
    eventually("the log has been looked at", async || {
        (texts(&registry, "select file from tenantry.cell_logs").await.len() == 1).then_some(())
    })
    .await;
    let intruder = cluster.connect("postgres", &format!("{}_a", stem(a))).await;
    let attempt = format!("select * from \"{}\".secrets", stem(b));
    server.kill().await;

    let mut steps = Vec::new();
    for round in 1.. {
        intruder.execute_unprepared(&attempt).await.unwrap_err();
        // At the mark itself first, then at each statement after it up to the end of its transaction.
        match round {
            1 => proxy.arm_for(1, Fault::Hold, &[MARK]),
            _ => proxy.arm_after(MARK, round - 1, Fault::Hold),
        }
        let server = binary.serve().await;
        eventually("a statement is held", async || proxy.is_hit().then_some(())).await;
        server.kill().await;
        let hit = proxy.disarm().unwrap();
        let is_end = hit == "COMMIT";
        steps.push(hit);
        if is_end {
            break;
        }
        assert!(round < 20, "it is never committed: {steps:#?}");
    }
    assert!(
        steps.iter().any(|step| step.contains("insert into tenantry.journal")),
        "killed at the journal, too: {steps:#?}"
    );
    assert_eq!(texts(&registry, TIMES).await, ["0"], "nothing by halves: {steps:#?}");

    let server = binary.serve().await;
    let expected = steps.len().to_string();
    eventually("all are told", async || (texts(&registry, TIMES).await == [&*expected]).then_some(())).await;
    // A last one, told after all that came before.
    intruder.execute_unprepared(&attempt).await.unwrap_err();
    let expected = (steps.len() + 1).to_string();
    eventually("the last is told", async || {
        let times = texts(&registry, TIMES).await.remove(0);
        assert!(times.len() <= expected.len() && times <= expected, "none is told twice: {times}");
        (times == expected).then_some(())
    })
    .await;
    println!("killed at each of {} statements that tell what was refused", steps.len());
    drop(server);
}
