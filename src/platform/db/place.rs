//! Where the database is: the private one in the data folder, or the one that is configured.

use std::{
    path::{Path, PathBuf},
    str::FromStr as _,
};

use sea_orm::{ConnectionTrait as _, Database};
use sqlx::postgres::PgConnectOptions;

use super::{
    Owner,
    embedded::{self, Log, Settings, Supervised, Trusted},
};
use crate::{
    config::Config,
    error::{Context as _, Error, Result},
    platform::secret::Secret,
};

/// The login role of the private database.
const LOGIN: &str = "tenantry_login";
/// The superuser of the private database: it owns the registry, and is the login of the first cell.
const OWNER: &str = "postgres";
const DATABASE: &str = "tenantry";

/// Addresses of the database, and the server itself where it is ours.
#[derive(Debug)]
pub struct Place {
    /// As the login role.
    pub url: Secret,
    /// Straight to PostgreSQL, for LISTEN.
    pub direct_url: Secret,
    /// As a role that may create roles and owns the schema; `None` where none is configured.
    pub owner_url: Option<Secret>,
    /// Name of the login role.
    pub login: String,
    server: Option<Supervised>,
}

impl Place {
    /// Finds the database, or starts the private one and owns it: a second server on the same folder is refused.
    pub async fn open(config: &Config) -> Result<Self> {
        if config.database.url.is_empty() { Self::private(config, None).await } else { Self::external(config) }
    }

    /// The same for a command beside the server: a private database that runs already is used as it is.
    pub async fn join(config: &Config) -> Result<Self> {
        let running = embedded::url_of_running(&folder(config), "postgres", OWNER);
        if config.database.url.is_empty() { Self::private(config, running).await } else { Self::external(config) }
    }

    /// A database that is known.
    pub fn at(url: Secret, direct_url: Secret, owner_url: Option<Secret>, login: &str) -> Self {
        Self { url, direct_url, owner_url, login: login.to_owned(), server: None }
    }

    /// Where the schema's owner is known.
    pub fn owner(&self) -> Option<Owner> {
        self.owner_url.clone().map(|url| Owner { url })
    }

    /// Whether this process runs the database server.
    pub fn is_private(&self) -> bool {
        self.server.is_some()
    }

    fn external(config: &Config) -> Result<Self> {
        let database = &config.database;
        let or_url = |other: &Secret| if other.is_empty() { database.url.clone() } else { other.clone() };
        let options = PgConnectOptions::from_str(database.url.expose()).map_err(|error| {
            Error::invalid("database.url", "is no PostgreSQL address such as postgres://user@host/database")
                .because(error)
        })?;
        Ok(Self {
            url: database.url.clone(),
            direct_url: or_url(&database.direct_url),
            owner_url: (!database.owner_url.is_empty()).then(|| database.owner_url.clone()),
            login: options.get_username().to_owned(),
            server: None,
        })
    }

    async fn private(config: &Config, running: Option<String>) -> Result<Self> {
        let folder = folder(config);
        let server = match running {
            Some(_) => None,
            None => Some(start(config, &folder).await?),
        };
        let url = |database: &str, user: &str| match &server {
            Some(server) => Ok(server.url(database, user)),
            None => embedded::url_of_running(&folder, database, user).context("reach the private database"),
        };
        create_database(&Secret::new(url("postgres", OWNER)?)).await?;
        let login = Secret::new(url(DATABASE, LOGIN)?);
        let owner = Secret::new(url(DATABASE, OWNER)?);
        Ok(Self { url: login.clone(), direct_url: login, owner_url: Some(owner), login: LOGIN.to_owned(), server })
    }
}

fn folder(config: &Config) -> PathBuf {
    config.data.dir.join("postgres")
}

async fn start(config: &Config, folder: &Path) -> Result<Supervised> {
    let bin = &config.database.bin_dir;
    let settings = Settings {
        dir: folder.to_owned(),
        bin: (!bin.as_os_str().is_empty()).then(|| bin.clone()),
        durable: true,
        trusted: Trusted::Only(&[OWNER, LOGIN]),
        log: Log::Json,
        settings: Vec::new(),
    };
    let started = tokio::task::spawn_blocking(move || Supervised::start(settings)).await.map_err(Error::internal)?;
    started.map_err(|error| Error::invalid("database", error.to_string()).because(error))
}

async fn create_database(maintenance: &Secret) -> Result<()> {
    let mut options = sea_orm::ConnectOptions::new(maintenance.expose());
    options.max_connections(1).sqlx_logging(false);
    let db = Database::connect(options).await.map_err(Error::unavailable)?;
    let sql = format!("select 1 from pg_database where datname = '{DATABASE}'");
    let found = db
        .query_one_raw(sea_orm::Statement::from_string(db.get_database_backend(), sql))
        .await
        .context("look for the database")?;
    if found.is_none() {
        db.execute_unprepared(&format!("create database {DATABASE}")).await.context("create the database")?;
    }
    db.close().await.context("leave the maintenance database")
}
