use std::{net::SocketAddr, time::Duration};

use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use serde_json::json;
use tenantry::{
    access::{Caller, Role, ScopeSet},
    app::App,
    edge::{self, listener},
    isolation::OperatorScope,
    platform::{clock::Clock, ids::TenantId},
    worker,
};
use tokio::{net::TcpListener, sync::Mutex, task::JoinSet};

use super::{
    canary::Canaries,
    client::Client,
    database::{self, Database},
    socket::Socket,
};

/// A running server on a database of its own.
pub struct TestApp {
    pub app: App,
    pub address: SocketAddr,
    pub database: Database,
    pub canaries: Canaries,
    schedule: Mutex<worker::Schedule>,
    _tasks: JoinSet<()>,
}

/// A tenant that the harness made: ACTIVE, with a canary in every free-text field.
#[derive(Clone, Debug)]
pub struct Tenant {
    pub id: TenantId,
    pub slug: String,
    pub canary: String,
}

impl TestApp {
    pub async fn start() -> Self {
        Self::with("").await
    }

    /// With settings (TOML) on top of the suite's.
    pub async fn with(overrides: &str) -> Self {
        Self::on(database::database().await, overrides, Clock::default(), Canaries::default()).await
    }

    /// Another server on the same database, with the same clock.
    pub async fn replica(&self, overrides: &str) -> Self {
        Self::on(self.database.clone(), overrides, self.app.clock.clone(), self.canaries.clone()).await
    }

    async fn on(database: Database, overrides: &str, clock: Clock, canaries: Canaries) -> Self {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        // Printed with a test that fails.
        let _ = tracing_subscriber::fmt().with_env_filter("warn").with_test_writer().try_init();
        let mut place = database.place();
        let app = App::new(database::config(overrides), clock, &place).unwrap();
        app.check_database().await.unwrap();
        app.oauth.ensure_keys().await.unwrap();
        app.prepare_cells(&place).await.unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        // Partitions of days are made ahead by the database that all are copies of, or by the test: the schedule might do it before or after
        // the test has moved the clock.
        place.owner_url = None;
        let mut tasks = worker::start(&app, &place);
        let (router, limits, stop) =
            (edge::router(&app), edge::connection_limits(&app.config.server), app.shutdown.clone());
        tasks
            .spawn(async move { listener::serve(socket, router, limits, async move { stop.cancelled().await }).await });
        let started = Self { app, address, database, canaries, schedule: Mutex::default(), _tasks: tasks };
        started.listening().await;
        started
    }

    /// Waits until this replica hears of changes.
    async fn listening(&self) {
        for _ in 0..200 {
            if self.app.tenancy.snapshots().is_listening() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the listener does not connect");
    }

    /// Shows that `ask` needs none of these tables. A machine that stands still for a second takes the right to answer from memory
    /// away for a moment, so it may try again.
    pub async fn answers_without(&self, tables: &[&str], ask: impl AsyncFn()) {
        for _ in 0..3 {
            self.listening().await;
            ask().await; // what was forgotten meanwhile is read
            let locked = self.database.lock(tables).await;
            if tokio::time::timeout(Duration::from_secs(5), ask()).await.is_ok() {
                return;
            }
            locked.close().await.unwrap();
        }
        panic!("one of {tables:?} was asked for");
    }

    /// Tries out the isolation of tenants, so that it can be attested.
    pub async fn probe(&self) {
        // Roles are the whole cluster's: those that other tests make unsafe at the same time are found, too.
        for _ in 0..200 {
            if self.app.probes.verify(&OperatorScope::system("test")).await.unwrap().findings == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the catalogue is never found to be safe");
    }

    /// Runs what is due now, as the schedule would.
    pub async fn run_due(&self) {
        self.schedule.lock().await.run_due(&self.app).await;
    }

    /// Makes totals of all usage that waits. What the server's own schedule has taken is waited for.
    pub async fn fold_usage(&self) {
        let superuser = self.database.superuser().await;
        let waiting = "select count(*) as waiting from tenantry.usage_inbox";
        loop {
            while self.app.usage.fold().await.unwrap() {}
            let row = superuser.query_one_raw(Statement::from_string(DbBackend::Postgres, waiting)).await.unwrap();
            if row.unwrap().try_get::<i64>("", "waiting").unwrap() == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        superuser.close().await.unwrap();
    }

    /// Moves this server's clock, and those of its replicas.
    pub fn advance(&self, by: chrono::TimeDelta) {
        self.app.clock.advance(by);
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Sends no token.
    pub fn anonymous(&self) -> Client {
        Client::new(self.url(""), None, None, self.canaries.clone())
    }

    /// An operator with this role.
    pub async fn operator(&self, role: Role) -> Client {
        let token = self.operator_token(role).await;
        Client::operator(self.url(""), token, self.canaries.clone())
    }

    pub async fn admin(&self) -> Client {
        self.operator(Role::Admin).await
    }

    pub async fn operator_token(&self, role: Role) -> String {
        let ttl = self.app.config.auth.token_ttl;
        self.app.oauth.issue_operator_token(&Caller::command_line("test"), &[role], ttl).await.unwrap()
    }

    /// A service of `tenant` with these scopes.
    pub async fn service(&self, tenant: &Tenant, scopes: &str) -> Client {
        let token = self.service_token(tenant, scopes).await;
        Client::new(self.url(""), Some(token), Some(tenant.id), self.canaries.clone())
    }

    /// A service of `tenant` with every scope that a tenant can hold.
    pub async fn full_service(&self, tenant: &Tenant) -> Client {
        self.service(tenant, &ScopeSet::for_tenants().to_string()).await
    }

    pub async fn service_token(&self, tenant: &Tenant, scopes: &str) -> String {
        let ttl = self.app.config.auth.token_ttl;
        let caller = Caller::command_line("test");
        self.app.oauth.issue_tenant_token(&caller, tenant.id, ScopeSet::parse(scopes), ttl).await.unwrap()
    }

    /// A WebSocket that has been acknowledged for `client`'s token.
    pub async fn socket(&self, client: &Client) -> Socket {
        Socket::connect(self.address, client).await
    }

    /// An ACTIVE tenant with a canary in every free-text field.
    pub async fn tenant(&self, slug: &str) -> Tenant {
        let tenant = self.created_tenant(slug).await;
        let admin = self.admin().await;
        let activate = "mutation($id: ID!) { activateTenant(input: {id: $id}) { tenant { status } } }";
        assert_eq!(
            admin.ok(activate, json!({ "id": tenant.id })).await["activateTenant"]["tenant"]["status"],
            "ACTIVE"
        );
        tenant
    }

    /// The same, still CREATED.
    pub async fn created_tenant(&self, slug: &str) -> Tenant {
        let canary = self.canaries.next();
        let create = "mutation($input: CreateTenantInput!) { createTenant(input: $input) { tenant { id status } } }";
        let contact = json!([{ "name": &canary, "email": format!("{canary}@example.com"), "phone": &canary }]);
        let input = json!({
            "slug": slug, "name": &canary, "externalId": &canary,
            "labels": [{ "key": "canary", "value": &canary }],
            "sections": { "settings": { "canary": &canary }, "integrations": { "canary": &canary } },
            "profile": {
                "legalName": &canary, "displayName": &canary, "crmId": &canary, "partner": &canary,
                "billingAddress": { "lines": [&canary], "city": &canary, "postalCode": &canary, "region": &canary, "country": "AT" },
                "technicalContacts": &contact, "billingContacts": &contact, "securityContacts": &contact,
            },
        });
        let admin = self.admin().await;
        let made = admin.ok(create, json!({ "input": input })).await;
        let id: TenantId = made["createTenant"]["tenant"]["id"].as_str().unwrap().parse().unwrap();
        self.canaries.plant(id, canary.clone());
        Tenant { id, slug: slug.to_owned(), canary }
    }

    /// One line of `/metrics` as a number.
    pub async fn metric(&self, line: &str) -> Option<f64> {
        let text = self.anonymous().get("/metrics").await.text;
        text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok())
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.app.shutdown.cancel();
    }
}
