//! PostgreSQL clusters of their own, as cells.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use sea_orm::{ConnectOptions, ConnectionTrait as _, DatabaseConnection, DbBackend, Statement};
use serde_json::{Value, json};
use tenantry::platform::{
    db::embedded::{EmbeddedPostgres, Log, Settings, Trusted},
    ids::TenantId,
};

use crate::support::{Client, folder};

/// A PostgreSQL that can be stopped and started again; it ends with this value.
pub(crate) struct Cluster {
    name: String,
    server: Option<EmbeddedPostgres>,
    /// Folder of its binaries; none: this machine's own.
    bin: Option<PathBuf>,
    /// Settings beside those of all clusters.
    settings: &'static [(&'static str, &'static str)],
    trusted: Trusted,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        Self::of(None, &[])
    }

    /// One that writes what it refuses into a log that Tenantry can read.
    pub(crate) fn with_log() -> Self {
        Self::of(None, &[("logging_collector", "on"), ("log_destination", "jsonlog"), ("log_rotation_size", "0")])
    }

    /// With pgvector and Apache AGE (`scripts/postgres-extensions`); none where that could not be had.
    pub(crate) fn with_extensions() -> Option<Self> {
        extensions().map(|bin| Self::of(Some(bin), &[]))
    }

    pub(crate) fn has_extensions() -> bool {
        extensions().is_some()
    }

    fn of(bin: Option<PathBuf>, settings: &'static [(&'static str, &'static str)]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let name = format!("cluster-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let mut cluster = Self { name, server: None, bin, settings, trusted: Trusted::Everybody };
        cluster.start_again();
        cluster
    }

    pub(crate) fn start_again(&mut self) {
        let dir = folder().join(&self.name);
        let settings = [("max_connections", "60"), ("shared_buffers", "32MB"), ("wal_level", "logical")];
        let settings = settings.iter().chain(self.settings);
        let settings = settings.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (bin, trusted, log) = (self.bin.clone(), self.trusted, Log::Text);
        let settings = Settings { dir, bin, durable: false, trusted, log, settings };
        self.server = Some(EmbeddedPostgres::start(settings).unwrap());
    }

    /// From now on as it is started by a server for itself: nobody but the owner comes in without a password.
    pub(crate) fn asking_for_passwords(mut self) -> Self {
        self.stop();
        self.trusted = Trusted::Only(&["postgres"]);
        self.start_again();
        self
    }

    pub(crate) fn stop(&mut self) {
        self.server = None;
    }

    /// As if its machine had gone: no process of it has the time to say anything.
    pub(crate) fn crash(&mut self) {
        if let Some(server) = self.server.take() {
            let pid = i32::try_from(server.pid()).unwrap();
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
        }
    }

    pub(crate) fn url(&self, database: &str, user: &str) -> String {
        self.server.as_ref().unwrap().url(database, user)
    }

    /// Folder of the socket.
    pub(crate) fn socket(&self) -> String {
        let url = self.url("postgres", "postgres");
        let (_, query) = url.split_once("host=").unwrap();
        query.split('&').next().unwrap().replace("%2F", "/")
    }

    pub(crate) async fn connect(&self, database: &str, user: &str) -> DatabaseConnection {
        connect(&self.url(database, user)).await.unwrap()
    }
}

/// Folder of the PostgreSQL that has them.
#[expect(clippy::disallowed_methods, reason = "tests are told by their environment where it is")]
fn extensions() -> Option<PathBuf> {
    std::env::var_os("TENANTRY_TEST_EXTENSIONS").map(PathBuf::from).filter(|bin| bin.is_dir())
}

pub(crate) async fn connect(url: &str) -> Result<DatabaseConnection, sea_orm::DbErr> {
    let mut options = ConnectOptions::new(url);
    options.max_connections(1).sqlx_logging(false);
    sea_orm::Database::connect(options).await
}

/// The first column of each row, as text.
pub(crate) async fn texts(db: &DatabaseConnection, sql: &str) -> Vec<String> {
    let rows = db.query_all_raw(Statement::from_string(DbBackend::Postgres, sql)).await.unwrap();
    rows.iter().map(|row| row.try_get_by_index::<Option<String>>(0).unwrap().unwrap_or_default()).collect()
}

/// Makes `url` a cell.
pub(crate) async fn register(admin: &Client, name: &str, tier: &str, url: &str) -> Value {
    let capacity = if tier == "PREMIUM" { 1 } else { 1000 };
    let input = json!({ "name": name, "region": "eu-central-1", "tier": tier, "capacity": capacity, "url": url });
    let made = admin.ok(REGISTER, json!({ "input": input })).await;
    made["registerCell"]["cell"].clone()
}

pub(crate) const REGISTER: &str = "mutation($input: RegisterCellInput!) { registerCell(input: $input) {
    cell { id name region tier state health capacity placed serverVersion extensions { name available installed creatable } version } } }";

pub(crate) fn stem(tenant: TenantId) -> String {
    format!("t_{}", tenant.uuid().simple())
}

/// All that the cluster has of tenants, with its rights: roles and what they begin with, memberships, databases, schemas.
pub(crate) async fn inventory(cluster: &Cluster) -> Vec<String> {
    const SHARED: &str = "
        select format('role %s login=%s inherit=%s limit=%s', rolname, rolcanlogin, rolinherit, rolconnlimit) as line from pg_roles where rolname like 't\\_%'
        union all select format('member %s of %s', m.rolname, g.rolname) from pg_auth_members a join pg_roles m on m.oid = a.member
            join pg_roles g on g.oid = a.roleid where m.rolname like 't\\_%' or g.rolname like 't\\_%'
        union all select format('database %s %s', datname, (select array_agg(x::text order by x::text) from unnest(datacl) x)) from pg_database where datname like 't\\_%'
        union all select format('setting %s in %s: %s', r.rolname, d.datname, (select array_agg(x order by x) from unnest(setconfig) x))
            from pg_db_role_setting s join pg_roles r on r.oid = s.setrole left join pg_database d on d.oid = s.setdatabase where r.rolname like 't\\_%'
        order by 1";
    const LOCAL: &str = "
        select format('schema %s in %s %s', nspname, current_database(), (select array_agg(x::text order by x::text) from unnest(nspacl) x))
        from pg_namespace where nspname like 't\\_%' order by 1";
    let postgres = cluster.connect("postgres", "postgres").await;
    let mut found = texts(&postgres, SHARED).await;
    let databases = texts(
        &postgres,
        "select datname from pg_database where datallowconn and datname not like 'template%' order by 1",
    )
    .await;
    for database in databases {
        let db = cluster.connect(&database, "postgres").await;
        found.extend(texts(&db, LOCAL).await);
        db.close().await.unwrap();
    }
    postgres.close().await.unwrap();
    found
}

/// What of an inventory is one tenant's, with its name taken out.
pub(crate) fn of_tenant(inventory: &[String], tenant: TenantId) -> Vec<String> {
    let stem = stem(tenant);
    inventory.iter().filter(|line| line.contains(&stem)).map(|line| line.replace(&stem, "T")).collect()
}
