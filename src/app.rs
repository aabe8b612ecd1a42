//! The house put together: one handle per capability, built in rank order. This file is the dependency graph.

use std::sync::Arc;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    access::{ExternalKeys, KeyRing, TokenVerifier, VerifierSettings},
    analytics::Analytics,
    audit::Audit,
    cells::Cells,
    config::Config,
    directory::Directory,
    entitlements::Entitlements,
    error::{Error, Kind, Result},
    flags::Flags,
    grants,
    health::Health,
    impersonation::Impersonations,
    isolation::{Budgets, Isolation, OperatorScope},
    journal::Signals,
    keys::{MasterKey, OtherMasterKeys, Wrappers},
    members::Members,
    moves::Moves,
    oauth::OAuth,
    pki::Pki,
    platform::{
        clock::Clock,
        db::{self, Db, Place},
    },
    probes::Probes,
    provisioning::{self, Provisioning},
    quotas::Quotas,
    rates::Rates,
    sessions::{self, Sessions},
    templates::Templates,
    tenancy::Tenancy,
    tenant_keys::TenantKeys,
    usage::Usage,
};

/// Everything that edge, worker and command line call. Clones share it.
#[derive(Clone)]
pub struct App {
    pub config: Arc<Config>,
    pub clock: Clock,
    pub db: Db,
    pub isolation: Isolation,
    pub signals: Signals,
    pub keyring: Arc<KeyRing>,
    pub verifier: Arc<TokenVerifier>,
    pub external: Arc<ExternalKeys>,
    pub tenancy: Tenancy,
    pub tenant_keys: TenantKeys,
    pub oauth: OAuth,
    pub audit: Audit,
    pub health: Health,
    pub quotas: Quotas,
    pub flags: Flags,
    pub pki: Pki,
    pub rates: Rates,
    pub entitlements: Entitlements,
    pub usage: Usage,
    pub members: Members,
    pub sessions: Sessions,
    pub impersonations: Impersonations,
    pub analytics: Analytics,
    pub directory: Directory,
    pub cells: Cells,
    pub templates: Templates,
    pub provisioning: Provisioning,
    pub moves: Moves,
    pub probes: Probes,
    /// Cancelled when the server stops.
    pub shutdown: CancellationToken,
    /// Open sockets, to wait for.
    pub sockets: TaskTracker,
    /// Work that ends by itself once the server stops, to wait for.
    pub background: TaskTracker,
}

impl App {
    /// Builds the house on a database that is there and migrated.
    pub fn new(config: Config, clock: Clock, place: &Place) -> Result<Self> {
        let db = Db::connect(&place.url, &config.database)?;
        let signals = Signals::default();
        let pool = &config.database;
        let budgets = Budgets::of_database(pool.max_connections, config.rates.database_share, pool.acquire_timeout);
        let isolation = Isolation::new(db.clone(), clock.clone(), budgets);
        let keyring = Arc::new(KeyRing::new(config.issuer()));
        let verifier =
            Arc::new(TokenVerifier::new(VerifierSettings::from_config(&config), clock.clone(), keyring.clone()));
        let external = Arc::new(ExternalKeys::new(&config.auth.external_issuers, keyring.clone(), clock.clone())?);
        let others = OtherMasterKeys {
            previous: &config.keys.previous_master_key_files,
            next: &config.keys.next_master_key_files,
        };
        let master = MasterKey::with_others(&config.master_key_file(), others)?;
        let wrappers = Wrappers::new(&config.keys, master.clone(), &clock)?;
        let tenancy = Tenancy::new(isolation.clone(), signals.clone(), config.tenancy.clone(), &config.server.region);
        let tenant_keys = TenantKeys::new(isolation.clone(), tenancy.clone(), wrappers, config.keys.clone());
        let oauth = OAuth::new(isolation.clone(), tenancy.clone(), keyring.clone(), master.clone(), &config);
        let audit = Audit::new(isolation.clone(), signals.clone(), keyring.clone(), config.journal.clone());
        let health = Health::new(isolation.clone(), tenancy.clone());
        grants::remember(&tenancy);
        let quotas = Quotas::new(isolation.clone(), tenancy.clone(), &master, config.quotas.clone());
        let flags = Flags::new(isolation.clone(), tenancy.clone());
        let rates = Rates::new(isolation.clone(), tenancy.clone(), quotas.clone(), config.rates.clone());
        let entitlements =
            Entitlements::new(isolation.clone(), tenancy.clone(), audit.clone(), quotas.clone(), flags.clone());
        let usage = Usage::new(isolation.clone(), tenancy.clone(), quotas.clone(), config.usage.clone());
        let rules = (config.members.clone(), &config.operators);
        let members = Members::new(isolation.clone(), tenancy.clone(), quotas.clone(), rules)?;
        let pki = Pki::new(isolation.clone(), tenancy.clone(), members.clone(), &config.pki)?;
        let (keys, limits) = (tenant_keys.clone(), config.directory.clone());
        let directory = Directory::new(isolation.clone(), tenancy.clone(), keys, members.clone(), limits);
        let parts = sessions::Parts {
            isolation: isolation.clone(),
            tenancy: tenancy.clone(),
            members: members.clone(),
            oauth: oauth.clone(),
            keys: tenant_keys.clone(),
            directory: directory.clone(),
            pki: pki.clone(),
        };
        let sessions = Sessions::new(parts, &master, config.sessions.clone(), config.operators.clone());
        let rules = config.impersonation.clone();
        let impersonations =
            Impersonations::new(isolation.clone(), tenancy.clone(), members.clone(), &sessions, oauth.clone(), rules);
        let analytics = Analytics::new(isolation.clone(), tenancy.clone(), usage.clone(), config.analytics.clone());
        let cells = Cells::new(isolation.clone(), tenancy.clone(), master.clone(), &config);
        let templates = Templates::new(isolation.clone(), cells.clone(), &config);
        let parts = provisioning::Parts {
            isolation: isolation.clone(),
            tenancy: tenancy.clone(),
            cells: cells.clone(),
            keys: tenant_keys.clone(),
            master,
            signals: signals.clone(),
            known: provisioning::layers::known(&tenant_keys, (&cells, &templates), &config, &clock)?,
        };
        let provisioning = Provisioning::new(parts, &config)?;
        let moves = Moves::new(isolation.clone(), tenancy.clone(), cells.clone(), provisioning.clone(), &config);
        let probes = Probes::new(isolation.clone(), cells.clone(), provisioning.clone(), keyring.clone(), &config);
        Ok(Self {
            config: Arc::new(config),
            clock,
            db,
            isolation,
            signals,
            keyring,
            verifier,
            external,
            tenancy,
            tenant_keys,
            oauth,
            audit,
            health,
            quotas,
            flags,
            pki,
            rates,
            entitlements,
            usage,
            members,
            sessions,
            impersonations,
            analytics,
            directory,
            cells,
            templates,
            provisioning,
            moves,
            probes,
            shutdown: CancellationToken::new(),
            sockets: TaskTracker::new(),
            background: TaskTracker::new(),
        })
    }

    /// Migrates where the owner's address is known, and refuses a database that is old or unsafe.
    pub async fn prepare(&self, place: &Place) -> Result<()> {
        if let Some(owner) = &place.owner_url {
            let password = password(place);
            db::migrate(owner, &place.login, password.as_ref()).await?;
        }
        self.check_database().await?;
        self.oauth.ensure_keys().await?;
        self.external.load().await;
        self.prepare_cells(place).await
    }

    /// Makes the first cell where tenants get environments, so that nothing has to be set up.
    pub async fn prepare_cells(&self, place: &Place) -> Result<()> {
        if !self.provisioning.is_on() {
            return Ok(());
        }
        if let Err(error) = self.cells.ensure_own(place, &self.config.tenancy.default_region).await {
            // Not worth a server that does not start: cells may be elsewhere, and tenants that wait say why.
            tracing::error!(%error, cause = error.cause().map(tracing::field::display), "the first cell cannot be made beside the registry; let the owner create databases and roles, or set cells.own = false");
        }
        self.provisioning.sweep().await.map(drop)
    }

    /// Refuses a database that is not as this binary left it, or that would not keep tenants apart; names what to change.
    pub async fn check_database(&self) -> Result<()> {
        let scope = OperatorScope::system("start-up");
        let tx = self.isolation.begin_operator(&scope).await.map_err(|error| {
            let rule = "no session can be opened: is the server reachable, and has `tenantry migrate` been run with database.owner_url?";
            Error::new(Kind::Unavailable, rule).at("database.url").because(error)
        })?;
        let current = db::is_current(&tx).await?;
        tx.commit_unrecorded("a read").await?;
        if !current {
            return Err(Error::new(
                Kind::Unavailable,
                "the schema is not this version's; run `tenantry migrate` with database.owner_url",
            )
            .at("database"));
        }
        let findings = self.isolation.verify(&scope).await?;
        if findings.is_empty() {
            return Ok(());
        }
        let lines: Vec<_> = findings
            .iter()
            .map(|finding| format!("\n  {}: {}; {}", finding.object, finding.problem, finding.remedy))
            .collect();
        Err(Error::new(Kind::Unavailable, format!("the database would not keep tenants apart:{}", lines.concat()))
            .at("database"))
    }
}

/// The password in the login's address, for the day that `migrate` makes the role.
fn password(place: &Place) -> Option<crate::platform::secret::Secret> {
    let url = reqwest::Url::parse(place.url.expose()).ok()?;
    let password = percent_encoding::percent_decode_str(url.password()?).decode_utf8().ok()?.into_owned();
    Some(crate::platform::secret::Secret::new(password))
}
