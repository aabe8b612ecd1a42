//! Through PgBouncer in transaction mode, as DESIGN and `config.toml` promise: with 1.21 or newer, which keeps prepared statements.

use std::{
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use serde_json::json;

use crate::{
    binary::Binary,
    support::{Database, database, folder},
};

/// A PgBouncer that dies with its guard.
struct PgBouncer {
    child: Child,
    folder: std::path::PathBuf,
}

/// The version on PATH.
fn installed() -> Option<(u32, u32)> {
    let output = Command::new("pgbouncer").arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut numbers = text.lines().next()?.strip_prefix("PgBouncer ")?.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

impl PgBouncer {
    /// Two connections to PostgreSQL, for whoever comes.
    async fn start(database: &Database) -> Self {
        let (folder, postgres) = (folder().join("pgbouncer"), Database::socket_folder());
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("users"), "\"tenantry_login\" \"\"\n").unwrap();
        let name = &database.name;
        let settings = format!(
            "[databases]\n{name} = host={postgres} port=5432 dbname={name}\n[pgbouncer]\nlisten_addr =\nunix_socket_dir = {socket}\nlisten_port = 6432\n\
             auth_type = trust\nauth_file = {users}\npool_mode = transaction\ndefault_pool_size = 2\nmax_client_conn = 200\n\
             ignore_startup_parameters = extra_float_digits\nmax_prepared_statements = 100\nlogfile = {log}\n",
            socket = folder.display(),
            users = folder.join("users").display(),
            log = folder.join("log").display(),
        );
        std::fs::write(folder.join("settings.ini"), settings).unwrap();
        let mut command = Command::new("pgbouncer");
        command.arg(folder.join("settings.ini")).stdout(Stdio::null()).stderr(Stdio::null());
        // It refuses to be root, and only PostgreSQL's own account reaches PostgreSQL's socket.
        let owner = std::fs::metadata(&postgres).unwrap();
        if nix::unistd::Uid::effective().is_root() {
            std::os::unix::fs::chown(&folder, Some(owner.uid()), Some(owner.gid())).unwrap();
            command.uid(owner.uid()).gid(owner.gid());
        }
        let started = Self { child: command.spawn().unwrap(), folder };
        for _ in 0..500 {
            if started.folder.join(".s.PGSQL.6432").exists() {
                return started;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{}", std::fs::read_to_string(started.folder.join("log")).unwrap_or_default());
    }

    fn url(&self, database: &Database) -> String {
        let socket = |folder: &Path| folder.display().to_string().replace('/', "%2F");
        format!("postgres:///{}?host={}&port=6432&user=tenantry_login", database.name, socket(&self.folder))
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn the_server_works_through_pgbouncer_in_transaction_mode() {
    match installed() {
        Some(version) if version >= (1, 21) => {}
        Some((major, minor)) => {
            return println!(
                "skipped: pgbouncer {major}.{minor} keeps no prepared statements; 1.21 or newer is needed"
            );
        }
        None => return println!("skipped: there is no pgbouncer"),
    }
    let database = database().await;
    let bouncer = PgBouncer::start(&database).await;
    let server = Binary::on(&database)
        .set("DATABASE__URL", bouncer.url(&database))
        .set("DATABASE__DIRECT_URL", database.login_url())
        .set("WORKER__INTERVAL", "100ms")
        .serve()
        .await;
    let admin = server.admin().await;
    let made = stream::iter(0..40).map(|number| {
        let admin = &admin;
        async move {
            let create =
                "mutation($slug: String!) { createTenant(input: {slug: $slug, name: $slug}) { tenant { id } } }";
            let id =
                admin.ok(create, json!({ "slug": format!("pooled-{number}") })).await["createTenant"]["tenant"]["id"]
                    .clone();
            admin
                .ok("mutation($id: ID!) { activateTenant(input: {id: $id}) { tenant { id } } }", json!({ "id": id }))
                .await;
            id
        }
    });
    let made: Vec<_> = made.buffer_unordered(20).collect().await;
    // Sessions of many tenants on two connections: each sees its own.
    stream::iter(&made).for_each_concurrent(20, |id| {
        let admin = &admin;
        async move {
            for _ in 0..5 {
                let read = "query($id: ID!) { tenant(id: $id) { id version audit { edges { node { tenantId } } } } verifyAudit(tenantId: $id) { valid entries } }";
                let seen = admin.ok(read, json!({ "id": id })).await;
                assert_eq!((&seen["tenant"]["id"], &seen["verifyAudit"]), (id, &json!({ "valid": true, "entries": 2 })));
                assert!(seen["tenant"]["audit"]["edges"].as_array().unwrap().iter().all(|edge| edge["node"]["tenantId"] == *id));
            }
        }
    })
    .await;
    let log = server.log();
    assert!(!log.contains("prepared statement") && !log.contains("\"level\":\"ERROR\""), "{log}");
}
