//! Settings: the embedded `config.toml`, then a file, then the environment. Each error names key, value and rule.

mod analytics;
mod dataplane;
mod directory;
mod environment;
mod impersonation;
mod keys;
mod members;
mod operators;
mod pki;
mod sessions;
mod usage;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use config::{Environment, File, FileFormat};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de::Error as _};

pub use self::{
    analytics::Analytics,
    dataplane::{Nats, Redis, Storage},
    directory::Directory,
    environment::{Cells, Moves, Provisioning, Templates},
    impersonation::Impersonation,
    keys::{KeyProvider, Keys, Kms, Pkcs11, Transit},
    members::Members,
    operators::Operators,
    pki::{Pki, Tls},
    sessions::Sessions,
    usage::{Usage, UsageStream},
};
use crate::platform::secret::Secret;

/// The default of every setting, and its documentation.
pub const DEFAULTS: &str = include_str!("../../config.toml");

#[derive(Debug, thiserror::Error)]
#[error("configuration: {0}")]
pub struct ConfigError(String);

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    pub tls: Tls,
    pub pki: Pki,
    pub graphql: GraphQl,
    pub socket: Socket,
    pub data: Data,
    pub database: Database,
    pub auth: Auth,
    pub keys: Keys,
    pub tenancy: Tenancy,
    pub isolation: Isolation,
    pub cells: Cells,
    pub provisioning: Provisioning,
    pub moves: Moves,
    pub redis: Redis,
    pub nats: Nats,
    pub storage: Storage,
    pub templates: Templates,
    pub quotas: Quotas,
    pub usage: Usage,
    pub usage_stream: UsageStream,
    pub analytics: Analytics,
    pub directory: Directory,
    pub rates: Rates,
    pub members: Members,
    pub sessions: Sessions,
    pub operators: Operators,
    pub impersonation: Impersonation,
    pub journal: Journal,
    pub idempotency: Idempotency,
    pub worker: Worker,
    pub telemetry: Telemetry,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub region: String,
    pub listen: SocketAddr,
    pub public_url: String,
    pub allowed_origins: Vec<String>,
    #[serde(deserialize_with = "duration")]
    pub request_timeout: Duration,
    pub body_bytes: usize,
    #[serde(deserialize_with = "duration")]
    pub first_byte_timeout: Duration,
    #[serde(deserialize_with = "duration")]
    pub header_timeout: Duration,
    #[serde(deserialize_with = "duration")]
    pub idle_timeout: Duration,
    pub max_connections: usize,
    pub max_connections_per_address: usize,
    #[serde(deserialize_with = "duration")]
    pub shutdown_grace: Duration,
    pub trusted_proxies: Vec<IpNet>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphQl {
    pub introspection: bool,
    pub document_bytes: usize,
    pub tokens: usize,
    pub expanded_selections: usize,
    pub depth: usize,
    pub introspection_depth: usize,
    pub complexity: usize,
    pub aliases: usize,
    pub directives: usize,
    pub root_fields: usize,
    pub page_size: usize,
    pub errors: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Socket {
    #[serde(deserialize_with = "duration")]
    pub init_timeout: Duration,
    #[serde(deserialize_with = "duration")]
    pub ping_interval: Duration,
    #[serde(deserialize_with = "duration")]
    pub write_timeout: Duration,
    pub streams_per_socket: usize,
    pub streams_per_tenant: usize,
    pub send_buffer: usize,
    #[serde(deserialize_with = "duration")]
    pub reauthorize_every: Duration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    pub dir: PathBuf,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    pub url: Secret,
    pub owner_url: Secret,
    pub direct_url: Secret,
    pub bin_dir: PathBuf,
    pub max_connections: u32,
    #[serde(deserialize_with = "duration")]
    pub acquire_timeout: Duration,
    #[serde(deserialize_with = "duration")]
    pub statement_timeout: Duration,
    #[serde(deserialize_with = "duration")]
    pub idle_in_transaction_timeout: Duration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    pub issuer: String,
    pub audience: String,
    #[serde(deserialize_with = "duration")]
    pub token_ttl: Duration,
    #[serde(deserialize_with = "duration")]
    pub max_token_ttl: Duration,
    #[serde(deserialize_with = "duration")]
    pub leeway: Duration,
    pub key_bits: usize,
    #[serde(deserialize_with = "duration")]
    pub key_rotation: Duration,
    #[serde(deserialize_with = "duration")]
    pub key_overlap: Duration,
    pub token_cache: u64,
    pub external_issuers: Vec<ExternalIssuer>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalIssuer {
    pub issuer: String,
    #[serde(default)]
    pub audience: String,
    /// A file, or an https address (plain http for this machine alone).
    pub jwks: String,
    /// Whether its tokens may be operators': carry platform roles and no tenant.
    #[serde(default = "yes")]
    pub platform_roles: bool,
    #[serde(default = "ten_minutes", deserialize_with = "duration")]
    pub refresh: Duration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenancy {
    pub reserved_slugs: Vec<String>,
    pub default_region: String,
    pub activation: Activation,
    #[serde(deserialize_with = "duration")]
    pub deletion_grace: Duration,
    #[serde(deserialize_with = "duration")]
    pub min_deletion_grace: Duration,
    #[serde(deserialize_with = "duration")]
    pub max_deletion_grace: Duration,
    #[serde(deserialize_with = "duration")]
    pub suspension_drain: Duration,
    pub max_hierarchy_depth: u32,
    pub delegation_depth: u32,
    #[serde(deserialize_with = "duration")]
    pub max_partner_access: Duration,
    pub snapshot_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Activation {
    Automatic,
    Held,
}

impl TryFrom<String> for Activation {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "automatic" => Ok(Self::Automatic),
            "held" => Ok(Self::Held),
            _ => Err(format!("{text:?} must be automatic or held")),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Isolation {
    #[serde(deserialize_with = "duration")]
    pub verify_interval: Duration,
    #[serde(deserialize_with = "duration")]
    pub probe_interval: Duration,
    #[serde(deserialize_with = "duration")]
    pub probe_validity: Duration,
    #[serde(deserialize_with = "duration")]
    pub attestation_ttl: Duration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quotas {
    pub lanes: usize,
    pub batch: usize,
    pub batch_of_tenant: usize,
    pub waiting: usize,
    #[serde(deserialize_with = "duration")]
    pub reservation: Duration,
    #[serde(deserialize_with = "duration")]
    pub longest_reservation: Duration,
    #[serde(deserialize_with = "duration")]
    pub lease: Duration,
    #[serde(deserialize_with = "duration")]
    pub keep_ended: Duration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    #[serde(deserialize_with = "duration")]
    pub burst: Duration,
    #[serde(deserialize_with = "duration")]
    pub exchange: Duration,
    pub database_share: f64,
    pub operations_at_once: usize,
    #[serde(deserialize_with = "duration")]
    pub operation_patience: Duration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    pub checkpoint_entries: i64,
    #[serde(deserialize_with = "duration")]
    pub checkpoint_interval: Duration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Idempotency {
    #[serde(deserialize_with = "duration")]
    pub retention: Duration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Worker {
    #[serde(deserialize_with = "duration")]
    pub interval: Duration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    pub log_format: String,
    pub log_filter: String,
    pub otlp_endpoint: String,
}

impl Config {
    /// Reads defaults, `file` and the process environment, and checks every rule.
    pub fn load(file: Option<&std::path::Path>) -> Result<Self, ConfigError> {
        let mut builder = config::Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
        if let Some(file) = file {
            builder = builder.add_source(File::from(file).format(FileFormat::Toml));
        }
        let environment = Environment::with_prefix("TENANTRY")
            .prefix_separator("__")
            .separator("__")
            .list_separator(",")
            .with_list_parse_key("server.allowed_origins")
            .with_list_parse_key("server.trusted_proxies")
            .with_list_parse_key("keys.next_master_key_files")
            .with_list_parse_key("keys.previous_master_key_files")
            .with_list_parse_key("tenancy.reserved_slugs")
            .with_list_parse_key("directory.allowed_networks")
            .with_list_parse_key("operators.allowed_networks")
            .with_list_parse_key("provisioning.layers")
            .with_list_parse_key("provisioning.best_effort")
            .try_parsing(true);
        let merged = builder.add_source(environment).build().map_err(|error| ConfigError(error.to_string()))?;
        Self::checked(merged)
    }

    /// The defaults with each of `overrides` (TOML) on top, without file or environment: for tests.
    pub fn from_toml(overrides: &[&str]) -> Result<Self, ConfigError> {
        let defaults = config::Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
        let add = |builder: config::ConfigBuilder<config::builder::DefaultState>, toml: &&str| {
            builder.add_source(File::from_str(toml, FileFormat::Toml))
        };
        let merged = overrides.iter().fold(defaults, add).build().map_err(|error| ConfigError(error.to_string()))?;
        Self::checked(merged)
    }

    fn checked(merged: config::Config) -> Result<Self, ConfigError> {
        let values = merged.clone();
        let config: Self = serde_path_to_error::deserialize(merged).map_err(|error| {
            let path = error.path().to_string();
            // Secrets are any text, so none is ever shown here.
            let found = values.get_string(&path).map(|value| format!(" = {value:?}")).unwrap_or_default();
            ConfigError(format!("{path}{found}: {}", error.into_inner()))
        })?;
        config.validate()?;
        Ok(config)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let (auth, tenancy) = (&self.auth, &self.tenancy);
        rule(auth.leeway <= Duration::from_secs(30), "auth.leeway", &auth.leeway, "must be at most 30s")?;
        rule(
            [2048, 3072, 4096].contains(&auth.key_bits),
            "auth.key_bits",
            &auth.key_bits,
            "must be 2048, 3072 or 4096",
        )?;
        rule(!auth.audience.is_empty(), "auth.audience", &auth.audience, "must not be empty")?;
        rule(
            auth.token_ttl >= Duration::from_secs(1) && auth.token_ttl <= auth.max_token_ttl,
            "auth.token_ttl",
            &auth.token_ttl,
            "must be between 1s and auth.max_token_ttl",
        )?;
        rule(
            auth.key_overlap >= auth.max_token_ttl,
            "auth.key_overlap",
            &auth.key_overlap,
            "must be at least auth.max_token_ttl, or tokens die before they expire",
        )?;
        for issuer in &auth.external_issuers {
            rule(
                !issuer.issuer.is_empty() && issuer.issuer != self.issuer(),
                "auth.external_issuers.issuer",
                &issuer.issuer,
                "must be set and differ from auth.issuer",
            )?;
        }
        let day = Duration::from_secs(24 * 3600);
        rule(
            tenancy.min_deletion_grace >= day * 7 && tenancy.max_deletion_grace <= day * 90,
            "tenancy.min_deletion_grace",
            &tenancy.min_deletion_grace,
            "the range of grace periods must lie within 7days and 90days",
        )?;
        rule(
            (tenancy.min_deletion_grace..=tenancy.max_deletion_grace).contains(&tenancy.deletion_grace),
            "tenancy.deletion_grace",
            &tenancy.deletion_grace,
            "must lie within min_deletion_grace and max_deletion_grace",
        )?;
        let isolation = &self.isolation;
        rule(
            isolation.probe_validity > isolation.probe_interval,
            "isolation.probe_validity",
            &isolation.probe_validity,
            "must be longer than isolation.probe_interval",
        )?;
        rule(
            self.database.max_connections >= 2,
            "database.max_connections",
            &self.database.max_connections,
            "must be at least 2",
        )?;
        rule(
            (1..=1000).contains(&self.graphql.page_size),
            "graphql.page_size",
            &self.graphql.page_size,
            "must be between 1 and 1000",
        )?;
        rule(
            ["", "json", "text"].contains(&self.telemetry.log_format.as_str()),
            "telemetry.log_format",
            &self.telemetry.log_format,
            "must be json, text or empty",
        )?;
        let quotas = &self.quotas;
        for (key, count) in [
            ("quotas.lanes", quotas.lanes),
            ("quotas.batch", quotas.batch),
            ("quotas.batch_of_tenant", quotas.batch_of_tenant),
            ("quotas.waiting", quotas.waiting),
        ] {
            rule((1..=10_000).contains(&count), key, &count, "must be between 1 and 10000")?;
        }
        rule(
            (Duration::from_secs(1)..=quotas.longest_reservation).contains(&quotas.reservation),
            "quotas.reservation",
            &quotas.reservation,
            "must be between 1s and quotas.longest_reservation",
        )?;
        rule(
            quotas.keep_ended >= self.idempotency.retention,
            "quotas.keep_ended",
            &quotas.keep_ended,
            "must be at least idempotency.retention, or the first answer is forgotten too early",
        )?;
        rule(
            self.quotas.lease <= Duration::from_secs(60),
            "quotas.lease",
            &self.quotas.lease,
            "must be at most 1m, or what nobody took comes back too late",
        )?;
        self.usage.validate()?;
        self.members.validate()?;
        self.sessions.validate()?;
        self.operators.validate()?;
        self.impersonation.validate(self.auth.max_token_ttl)?;
        self.usage_stream.validate()?;
        self.analytics.validate()?;
        self.tls.validate()?;
        self.pki.validate()?;
        self.directory.validate()?;
        self.rates.validate()?;
        self.cells.validate()?;
        self.provisioning.validate()?;
        self.moves.validate()?;
        self.nats.validate()?;
        self.storage.validate()?;
        self.templates.validate()?;
        self.keys.validate()?;
        for (key, interval) in [
            ("worker.interval", &self.worker.interval),
            ("isolation.verify_interval", &self.isolation.verify_interval),
            ("socket.reauthorize_every", &self.socket.reauthorize_every),
            ("socket.ping_interval", &self.socket.ping_interval),
        ] {
            rule(*interval >= Duration::from_millis(10), key, interval, "must be at least 10ms")?;
        }
        rule(self.server.body_bytes >= 1024, "server.body_bytes", &self.server.body_bytes, "must be at least 1024")
    }

    /// How clients reach this server, without a slash at the end.
    pub fn public_url(&self) -> String {
        match self.server.public_url.trim_end_matches('/') {
            "" => format!("http://{}", self.server.listen),
            url => url.to_owned(),
        }
    }

    /// `iss` of own tokens.
    pub fn issuer(&self) -> String {
        if self.auth.issuer.is_empty() { self.public_url() } else { self.auth.issuer.clone() }
    }

    pub fn master_key_file(&self) -> PathBuf {
        if self.keys.master_key_file.as_os_str().is_empty() {
            self.data.dir.join("master.key")
        } else {
            self.keys.master_key_file.clone()
        }
    }
}

impl Rates {
    fn validate(&self) -> Result<(), ConfigError> {
        let burst = self.burst;
        let whole = burst.subsec_nanos() == 0 && (1..=60).contains(&burst.as_secs());
        rule(whole, "rates.burst", &burst, "must be whole seconds, 1s to 60s")?;
        rule(
            self.exchange.is_zero() || (Duration::from_millis(10)..=Duration::from_secs(60)).contains(&self.exchange),
            "rates.exchange",
            &self.exchange,
            "must be between 10ms and 60s, or 0s for a single server",
        )?;
        let share = self.database_share;
        rule(share > 0.0 && share <= 1.0, "rates.database_share", &share, "must be above 0 and at most 1")?;
        rule(self.operations_at_once > 0, "rates.operations_at_once", &self.operations_at_once, "must be at least 1")
    }
}

fn rule(holds: bool, key: &str, value: &dyn std::fmt::Debug, rule: &str) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError(format!("{key} = {value:?}: {rule}"))) }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text)
        .map_err(|error| D::Error::custom(format!("{text:?} is no duration such as 30s or 15m: {error}")))
}

fn yes() -> bool {
    true
}

fn ten_minutes() -> Duration {
    Duration::from_secs(600)
}
