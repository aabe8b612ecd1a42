use std::{
    path::PathBuf,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use sea_orm::{ConnectOptions, ConnectionTrait as _, DatabaseConnection, DbBackend, Statement};
use tenantry::{
    app::App,
    config::Config,
    platform::{
        clock::Clock,
        db::{
            Place,
            embedded::{EmbeddedPostgres, Log, Settings, Trusted},
        },
        secret::Secret,
    },
};
use tokio::sync::OnceCell;

use super::sweep;

/// The login role that servers of the suite use.
pub const LOGIN: &str = "tenantry_login";

/// A database of its own, migrated, with a signing key.
#[derive(Clone, Debug)]
pub struct Database {
    pub name: String,
}

/// The suite's PostgreSQL; it ends with the process.
fn server() -> &'static EmbeddedPostgres {
    static SERVER: OnceLock<EmbeddedPostgres> = OnceLock::new();
    SERVER.get_or_init(|| {
        let dir = folder().join("postgres");
        let settings = [("max_connections", "400"), ("shared_buffers", "256MB"), ("max_locks_per_transaction", "128")];
        let settings = settings.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let (trusted, log) = (Trusted::Everybody, Log::Text);
        EmbeddedPostgres::start(Settings { dir, bin: None, durable: false, trusted, log, settings }).unwrap()
    })
}

/// Scratch space of this run, away from folders that PostgreSQL's account may not enter.
pub fn folder() -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let folder = std::env::temp_dir().join(format!("tenantry-it-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            sweep::at_the_end(&folder);
            std::thread::spawn(sweep::leftovers);
            folder
        })
        .clone()
}

/// A fresh clone of the template.
pub async fn database() -> Database {
    static TEMPLATE: OnceCell<()> = OnceCell::const_new();
    static COUNT: AtomicU32 = AtomicU32::new(1);
    TEMPLATE.get_or_init(make_template).await;
    let name = format!("t{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let maintenance = connect(&server().url("postgres", "postgres")).await;
    // Cloning copies files while the template is locked, so clones go one after the other.
    static ORDER: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let turn = ORDER.lock().await;
    maintenance.execute_unprepared(&format!("create database {name} template template_tenantry")).await.unwrap();
    drop(turn);
    maintenance.close().await.unwrap();
    Database { name }
}

impl Database {
    /// The address of the first cell's database, which provisioning makes beside this one.
    pub fn cell_url_of(&self, user: &str) -> String {
        server().url(&format!("{}_cell", self.name), user)
    }

    pub fn superuser_url(&self) -> String {
        server().url(&self.name, "postgres")
    }

    pub fn url_of(&self, user: &str) -> String {
        server().url(&self.name, user)
    }

    pub fn login_url(&self) -> String {
        self.url_of(LOGIN)
    }

    /// A connection that may do everything.
    pub async fn superuser(&self) -> DatabaseConnection {
        connect(&self.superuser_url()).await
    }

    /// How many connections of servers stay when they have had time to close them.
    pub async fn connections_left(&self) -> i64 {
        let superuser = self.superuser().await;
        let logins =
            "select count(*) from pg_stat_activity where datname = current_database() and usename = 'tenantry_login'";
        let mut left = i64::MAX;
        for _ in 0..100 {
            let statement = Statement::from_string(DbBackend::Postgres, logins);
            left = superuser.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap();
            if left == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        left
    }

    /// From here on whoever asks for one of these waits, until the answer is dropped.
    pub async fn lock(&self, tables: &[&str]) -> DatabaseConnection {
        let mut options = ConnectOptions::new(self.superuser_url());
        options.max_connections(1).sqlx_logging(false);
        let superuser = sea_orm::Database::connect(options).await.unwrap();
        let tables: Vec<_> = tables.iter().map(|table| format!("tenantry.{table}")).collect();
        let lock = format!("begin; lock table {} in access exclusive mode", tables.join(", "));
        // The schedule may be about to ask for two of them the other way round.
        while let Err(error) = superuser.execute_unprepared(&lock).await {
            assert!(error.to_string().contains("deadlock detected"), "{error}");
            superuser.execute_unprepared("rollback").await.unwrap();
        }
        superuser
    }

    /// What a server of this database is told.
    pub fn place(&self) -> Place {
        let url = Secret::new(self.login_url());
        Place::at(url.clone(), url, Some(Secret::new(self.superuser_url())), LOGIN)
    }

    /// Folder of the Unix socket, for programs that take a host name.
    pub fn socket_folder() -> String {
        let url = server().url("postgres", "postgres");
        let (_, query) = url.split_once("host=").unwrap();
        query.split('&').next().unwrap().replace("%2F", "/")
    }
}

async fn connect(url: &str) -> DatabaseConnection {
    let mut options = ConnectOptions::new(url);
    options.max_connections(2).sqlx_logging(false);
    sea_orm::Database::connect(options).await.unwrap()
}

/// Migrated and with its first signing key: making one takes longer than cloning.
async fn make_template() {
    let maintenance = connect(&server().url("postgres", "postgres")).await;
    maintenance.execute_unprepared("create database template_tenantry").await.unwrap();
    let template = Database { name: "template_tenantry".to_owned() };
    let app = App::new(config(""), Clock::default(), &template.place()).unwrap();
    app.prepare(&template.place()).await.unwrap();
    app.db.close().await;
    maintenance.close().await.unwrap();
}

/// The suite's settings with `overrides` (TOML) on top.
pub fn config(overrides: &str) -> Config {
    let folder = folder();
    let base = format!(
        "[server]\npublic_url = \"http://tenantry.test\"\n[keys]\nmaster_key_file = \"{}\"\n[data]\ndir = \"{}\"\n[worker]\ninterval = \"200ms\"\n[provisioning]\nlayers = []\n[isolation]\nprobe_interval = \"0s\"\n[members]\nhashing_memory_kib = 1024\nhashing_iterations = 1\n",
        folder.join("master.key").display(),
        folder.join("data").display()
    );
    Config::from_toml(&[&base, overrides]).unwrap()
}
