use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};
use tenantry::{access::ScopeSet, isolation::TenantScope};

use super::operation::phantom_id;
use crate::{
    pki::made::{authority, usual},
    support::{Client, Tenant, TestApp},
};

/// Two tenants in one house. B asks; A has everything that a tenant can have.
pub struct Neighbours {
    pub app: TestApp,
    pub a: Tenant,
    pub b: Tenant,
    pub admin: Client,
    /// A's own service.
    pub a_service: Client,
    /// B's, with every scope.
    pub service: Client,
    /// B's as well, without a token.
    pub b_machine: Client,
    pub a_client: Credentials,
    pub b_client: Credentials,
    /// Everything of A's that can be named.
    pub names: Vec<Name>,
    /// Ids of A's reservation and boost.
    a_quotas: [String; 2],
    /// Id of A's grant of a quota.
    a_grant: String,
    /// Ids of a member of each.
    pub a_member: String,
    pub b_member: String,
    /// Ids of A's trust anchor and revocation list.
    a_pki: [String; 2],
    /// Id of an operator's impersonation in A.
    a_impersonation: String,
}

/// A client of the token endpoint.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub id: String,
    pub secret: String,
}

/// Something of A's, and what looks like it and never existed.
#[derive(Clone, Debug)]
pub struct Name {
    pub what: &'static str,
    pub text: String,
    pub form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    Id,
    Text,
    Hash,
    ChainCursor,
    PlatformCursor,
    ListCursor,
    OutageCursor,
    Email,
}

impl Form {
    pub const ALL: [Self; 8] = [
        Self::Id,
        Self::Text,
        Self::Hash,
        Self::ChainCursor,
        Self::PlatformCursor,
        Self::ListCursor,
        Self::OutageCursor,
        Self::Email,
    ];

    /// Two of this form that nothing ever had. Texts have the shape of A's, letter for letter, so that a rule about what is
    /// well formed takes both or neither.
    pub fn phantoms(self) -> [String; 2] {
        let cursor = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let make = |digit: i64| match self {
            Self::Id => phantom_id(),
            Self::Text => format!("nobodys-name-{digit}"),
            Self::Email => format!("nobodys-mail-{digit}@example.com"),
            Self::Hash => format!("{digit}").repeat(64),
            Self::ChainCursor => cursor(json!({ "s": 1_000_000 + digit })),
            Self::PlatformCursor => cursor(json!({ "p": [1_000_000 + digit, 1_000_000 + digit] })),
            Self::ListCursor => cursor(json!({ "c": [1_700_000_000_000_000_i64 + digit, phantom_id()] })),
            Self::OutageCursor => cursor(json!({ "b": [1_700_000_000_000_000_i64 + digit, phantom_id()] })),
        };
        [make(3), make(7)]
    }
}

const UPDATE: &str = "mutation($id: ID!, $labels: [LabelInput!]) { updateTenant(input: {id: $id, labels: $labels}) { tenant { version } } }";
const CREATE_CLIENT: &str = "mutation($scopes: [String!]!) { createOAuthClient(input: {name: \"neighbour client\", scopes: $scopes}) { client { id } secret } }";
const REPORT_OUTAGE: &str = "mutation($input: ReportOutageInput!) { reportOutage(input: $input) { outage { id } } }";
const OUTAGES: &str = "query($id: ID) { tenant(id: $id) { outages { edges { cursor node { id } } } } }";
const RESERVE: &str = "mutation($lines: [QuotaLineInput!]!) { reserveQuota(input: {lines: $lines, expiresInSeconds: 86400}) { reservation { id } } }";
const LIMIT: &str = "mutation($id: ID!, $reason: String!) {
    setQuota(input: {tenantId: $id, key: \"max_users\", limit: 77, reason: $reason}) { quota { limit } }
    boostQuota(input: {tenantId: $id, key: \"max_users\", amount: 7, reason: $reason, expiresAt: \"2100-01-01T00:00:00Z\"}) { boost { id } } }";
const METER: &str = "mutation { defineUsageDimension(input: {key: \"metered\", unit: \"things\", aggregation: SUM, groupBy: [\"label\"]}) { dimension { key } } }";
const CLOSE_USAGE: &str = "mutation($id: ID!) { closeUsage(input: {tenantId: $id, until: \"2020-01-01T00:00:00Z\"}) { closing { closedUntil } } }";
const RECORD_USAGE: &str = "mutation($event: UsageEventInput!) { recordUsage(input: {events: [$event]}) { accepted } }";
const ALERT: &str = "mutation($input: SetAlertRuleInput!) { setAlertRule(input: $input) { rule { key } } }";
const PRICE: &str = "mutation($from: DateTime!, $components: JSON!) { setPrice(input: {currency: \"EUR\", effectiveFrom: $from, components: $components}) {
    price { id } } }";
const BUDGET: &str = "mutation($input: SetBudgetInput!) { setBudget(input: $input) { budget { version } } }";
const NO_ALERT: &str = "mutation { deleteAlertRule(input: {key: \"max_users\"}) { rule { key } } }";
const GIVE: &str = "mutation($id: ID!, $reason: String!) {
    defineResource(input: {resourceKind: \"models\", key: \"max_users\", name: \"A model\"}) { resource { key } }
    setPlanAllowList(input: {plan: \"starter\", resourceKind: \"models\", resources: [\"max_users\"]}) { allowList { version } }
    setAllowList(input: {tenantId: $id, resourceKind: \"models\", add: [\"max_users\"], reason: $reason}) { allowList { version } }
    feature: grantEntitlement(input: {tenantId: $id, kind: FEATURE, key: \"max_users\", reason: $reason}) { grant { id } }
    quota: grantEntitlement(input: {tenantId: $id, kind: QUOTA, key: \"max_users\", amount: 3, reason: $reason,
      expiresAt: \"2100-01-01T00:00:00Z\"}) { grant { id } } }";
const ROLE: &str = "mutation($input: SetRoleInput!) { setRole(input: $input) { role { key } } }";
const INVITE: &str = "mutation($input: InviteMemberInput!) { inviteMember(input: $input) { token member { id } } }";
const SIGN_IN: &str = "mutation($input: SignInInput!) { signIn(input: $input) { tokens { accessToken } } }";
const ACCEPT: &str = "mutation($token: String!) {
    acceptInvitation(input: {token: $token, password: \"an unusual sentence\"}) { member { id } } }";
const LINK: &str = "mutation($id: ID!) { makePasswordLink(input: {id: $id}) { token } }";
const PKI: &str = "mutation($anchor: String!, $mapping: [CertificateMappingInput!]!) {
    addTrustAnchors(input: {pem: $anchor}) { trustAnchors { id } }
    setCertificatePolicy(input: {revocation: OFF, mapping: $mapping}) { policy { version } } }";
const REVOCATION_LIST: &str =
    "mutation($pem: String!) { addRevocationList(input: {pem: $pem}) { revocationLists { id } } }";
const DIRECTORY: &str =
    "mutation($input: ConfigureDirectoryInput!) { configureDirectory(input: $input) { directory { version } } }";
const PERMIT: &str = "mutation($id: ID!, $reason: String!) {
    permitDirectory(input: {tenantId: $id, plainText: false, unverified: false, reason: $reason}) { permit { version } } }";
const IMPERSONATE: &str = "mutation($input: ImpersonateInput!) { impersonate(input: $input) { impersonation { id } } }";
const GRANT_PARTNER: &str =
    "mutation($input: GrantPartnerAccessInput!) { grantPartnerAccess(input: $input) { access { version } } }";
const ENTRIES: &str =
    "query($id: ID) { audit(tenantId: $id, first: 1) { edges { cursor node { id hash requestId } } } }";
const ALL_ENTRIES: &str = "{ audit(first: 1) { edges { cursor } } tenants(first: 1) { edges { cursor node { id } } } }";

impl Neighbours {
    pub async fn start() -> Self {
        Self::with_entries(12).await
    }

    /// A's journal gets at least this long, and has to be longer than B's becomes.
    pub async fn with_entries(entries: usize) -> Self {
        let app = TestApp::with("journal.checkpoint_interval = \"1h\"").await;
        app.probe().await;
        let (a, b) = (app.tenant("annexed-name-1").await, app.tenant("neighbour-b").await);
        let (admin, a_service, service) = (app.admin().await, app.full_service(&a).await, app.full_service(&b).await);
        // No canary, so that B can name it.
        let rename =
            "mutation($id: ID!) { updateTenant(input: {id: $id, externalId: \"annexed-text-2\"}) { tenant { id } } }";
        admin.ok(rename, json!({ "id": a.id })).await;
        let b_machine = Client::new(app.url(""), None, Some(b.id), app.canaries.clone());
        let (a_client, b_client) = (credentials(&a_service).await, credentials(&service).await);
        let mut neighbours = Self {
            app,
            a,
            b,
            admin,
            a_service,
            service,
            b_machine,
            a_client,
            b_client,
            names: Vec::new(),
            a_quotas: Default::default(),
            a_grant: String::new(),
            a_member: String::new(),
            b_member: String::new(),
            a_pki: Default::default(),
            a_impersonation: String::new(),
        };
        for _ in 0..entries {
            neighbours.happen_in_a().await;
        }
        neighbours.have_outages().await;
        neighbours.have_quotas(&neighbours.b, &neighbours.service).await;
        neighbours.a_quotas = neighbours.have_quotas(&neighbours.a, &neighbours.a_service).await;
        neighbours.have_entitlements(&neighbours.b).await;
        neighbours.a_grant = neighbours.have_entitlements(&neighbours.a).await;
        neighbours.admin.ok(METER, json!({})).await;
        neighbours.have_prices().await;
        neighbours.have_usage(&neighbours.b, &neighbours.service).await;
        neighbours.have_usage(&neighbours.a, &neighbours.a_service).await;
        neighbours.have_partners().await;
        neighbours.have_keys().await;
        neighbours.b_member =
            neighbours.have_members(&neighbours.b, &neighbours.service, "tenants-mail-6@example.com").await;
        neighbours.a_member =
            neighbours.have_members(&neighbours.a, &neighbours.a_service, "annexed-mail-5@example.com").await;
        neighbours.have_certificates(&neighbours.b, &neighbours.service).await;
        neighbours.a_pki = neighbours.have_certificates(&neighbours.a, &neighbours.a_service).await;
        neighbours.have_impersonation(&neighbours.b).await;
        neighbours.a_impersonation = neighbours.have_impersonation(&neighbours.a).await;
        neighbours.have_directory(&neighbours.a, &neighbours.a_service).await;
        neighbours.have_directory(&neighbours.b, &neighbours.service).await;
        neighbours.use_flags().await;
        neighbours.have_environments().await;
        neighbours.use_idempotency_keys().await;
        neighbours.app.app.analytics.flush().await.unwrap();
        neighbours.names = neighbours.names_of_a().await;
        neighbours
    }

    /// Something is done to A.
    pub async fn happen_in_a(&self) {
        self.admin.ok(UPDATE, json!({ "id": self.a.id })).await;
    }

    /// Something is done to B.
    pub async fn happen_in_b(&self) {
        self.admin.ok(UPDATE, json!({ "id": self.b.id })).await;
    }

    /// What followers of provisioning hear of. There are no layers here, so that nothing has to be done for it.
    pub async fn environments_are_taken_away(&self) {
        for tenant in [&self.a, &self.b] {
            self.app.app.provisioning.remove_all(tenant.id).await.unwrap();
        }
    }

    async fn use_idempotency_keys(&self) {
        for (service, tenant, key, id) in [
            (&self.a_service, &self.a, "annexed-keys-3", "annexed-call-4"),
            (&self.service, &self.b, "tenants-keys-4", "tenants-call-5"),
        ] {
            let body = json!({ "query": UPDATE, "variables": { "id": tenant.id } });
            let request = service.post("/graphql").header("idempotency-key", key).header("x-request-id", id);
            assert_eq!(service.send(request.json(&body)).await.body["errors"], json!(null));
        }
    }

    /// Long over when the tenants were made, so that B's attainment is the same in every answer; B's before any that its own
    /// list is asked to go on behind.
    async fn have_outages(&self) {
        for (tenant, year) in [(&self.a, 2024), (&self.b, 2020)] {
            let (began, ended) = (format!("{year}-01-01T00:00:00Z"), format!("{year}-01-02T00:00:00Z"));
            let input = json!({ "id": tenant.id, "kind": "OUTAGE", "beganAt": began, "endedAt": ended, "summary": tenant.canary });
            self.admin.ok(REPORT_OUTAGE, json!({ "input": input })).await;
        }
    }

    /// What provisioning would leave, which is off here.
    async fn have_environments(&self) {
        let superuser = self.app.database.superuser().await;
        let (cell, address) = (phantom_id(), json!({ "host": "nowhere", "port": 5432, "database": "nothing" }));
        let facts = json!({ "version": 150_000, "makesDatabases": true, "extensions": [] });
        let make = format!(
            "insert into tenantry.cells (cell_id, name, region, tier, capacity, state, sealed_url, address, identity, facts, health,
               health_since, created_at, updated_at)
             values ('{cell}', 'nowhere', 'eu-central-1', 'STANDARD', 9, 'ACTIVE', '', '{address}', '', '{facts}', 'UNKNOWN', now(), now(), now())"
        );
        superuser.execute_unprepared(&make).await.unwrap();
        let template = "insert into tenantry.schema_templates (name, version, released, created_at, updated_at) values ('nowhere', 1, 1, now(), now());
            insert into tenantry.template_rollouts (rollout_id, template, target, state, rules, started_at) values (gen_random_uuid(), 'nowhere', 1, 'CANCELLED', '{}', now());
            insert into tenantry.application_planes (name, client_id, essential, deadline_seconds, longest_seconds, position, created_at, updated_at, retired_at)
              values ('nowhere', gen_random_uuid(), false, 60, 60, 0, now(), now(), now())";
        superuser.execute_unprepared(template).await.unwrap();
        for tenant in [&self.a, &self.b] {
            let Tenant { id, canary, .. } = tenant;
            let rows = format!(
                "begin;
                 insert into tenantry.tenant_templates (tenant_id, template, version, drift, migrated_at)
                   values ('{id}', 'nowhere', 1, jsonb_build_array('{canary}'), now());
                 insert into tenantry.rollout_tenants (rollout_id, tenant_id, wave, state, problem, due_at)
                   select rollout_id, '{id}', 0, 'FAILED', '{canary}', now() from tenantry.template_rollouts;
                 insert into tenantry.placements (tenant_id, cell_id, tier, region, database_name, reason, placed_at)
                   values ('{id}', '{cell}', 'STANDARD', 'eu-central-1', '{canary}', '{canary}', now());
                 insert into tenantry.plane_jobs (tenant_id, job_id, plane, kind, state, attempt, issued_at, deadline, latest, patience_seconds,
                   message, outputs, closed_at)
                   values ('{id}', gen_random_uuid(), 'nowhere', 'DEPROVISION', 'SUCCEEDED', 1, now(), now(), now(), 60,
                   '{canary}', jsonb_build_object('told', '{canary}'), now());
                 insert into tenantry.moves (tenant_id, move_id, source_cell, source_database, source_tier, source_region, target_cell, target_database,
                     target_tier, target_region, reason, phase, wanted, problem, started_at, finished_at)
                   values ('{id}', gen_random_uuid(), '{cell}', '{canary}', 'STANDARD', '{canary}', '{cell}', '{canary}', 'STANDARD', '{canary}', '{canary}',
                     'CONFIRMED', 'CONFIRM', '{canary}', now(), now());
                 insert into tenantry.provisioning (tenant_id, wanted, due_at) values ('{id}', 'PRESENT', null);
                 insert into tenantry.provisioning_layers (tenant_id, layer, position, essential, wanted, observed, since, last_error)
                   values ('{id}', 'placement', 0, true, 'PRESENT', 'UNAVAILABLE', now(), '{canary}');
                 insert into tenantry.dataplane_credentials (tenant_id, layer, slot, sealed, details, issued_at, valid_until)
                   values ('{id}', 'role', 0, '', jsonb_build_object('user', '{canary}'), now(), now());
                 commit"
            );
            superuser.execute_unprepared(&rows).await.unwrap();
        }
    }

    /// A limit and a boost of the tenant's own, and a reservation; answers the ids of reservation and boost.
    async fn have_quotas(&self, tenant: &Tenant, service: &Client) -> [String; 2] {
        let made = self.admin.ok(LIMIT, json!({ "id": tenant.id, "reason": tenant.canary })).await;
        let lines = json!([{ "key": "max_users", "amount": 1 }]);
        let held = service.ok(RESERVE, json!({ "lines": lines })).await;
        let ids = [&held["reserveQuota"]["reservation"]["id"], &made["boostQuota"]["boost"]["id"]];
        ids.map(|id| id.as_str().unwrap().to_owned())
    }

    /// An event with the canary wherever it can be.
    async fn have_usage(&self, tenant: &Tenant, service: &Client) {
        let event = json!({ "key": tenant.canary, "dimension": "metered", "quantity": 1, "subject": tenant.canary,
            "labels": { "label": tenant.canary }, "adjustmentReason": tenant.canary });
        let recorded = service.ok(RECORD_USAGE, json!({ "event": event })).await;
        assert_eq!(recorded["recordUsage"]["accepted"], 1);
        self.admin.ok(CLOSE_USAGE, json!({ "id": tenant.id })).await;
        self.be_alerted(tenant, service).await;
        self.app.fold_usage().await;
        self.app.app.usage.fire_alerts().await.unwrap();
    }

    /// What all that is metered costs.
    async fn have_prices(&self) {
        let quarter = chrono::TimeDelta::minutes(15);
        let from = chrono::DurationRound::duration_trunc(self.app.app.clock.now(), quarter).unwrap();
        let components = json!([{ "usage": { "dimension": "metered", "rate": { "perUnit": { "unitPrice": "1" } } } }]);
        self.admin.ok(PRICE, json!({ "from": from, "components": components })).await;
    }

    /// A rule that what was used has reached.
    async fn be_alerted(&self, tenant: &Tenant, service: &Client) {
        let rule = json!({ "key": "max_users", "dimension": "metered", "labels": { "label": tenant.canary }, "period": "MONTH",
            "thresholds": [{ "quantity": "1" }], "limit": "10" });
        service.ok(ALERT, json!({ "input": rule })).await;
        let budget = json!({ "key": "max_users", "dimension": "metered", "currency": "EUR", "amount": "1" });
        service.ok(BUDGET, json!({ "input": budget })).await;
    }

    /// What followers of alerts hear of: a rule that is set again is another.
    pub async fn alerts_fire(&self) {
        for (tenant, service) in [(&self.a, &self.a_service), (&self.b, &self.service)] {
            service.ok(NO_ALERT, json!({})).await;
            self.be_alerted(tenant, service).await;
        }
        self.app.app.usage.fire_alerts().await.unwrap();
    }

    /// A model that the tenant may use, and grants of a quota and a feature; answers the id of the former.
    async fn have_entitlements(&self, tenant: &Tenant) -> String {
        let given = self.admin.ok(GIVE, json!({ "id": tenant.id, "reason": tenant.canary })).await;
        given["quota"]["grant"]["id"].as_str().unwrap().to_owned()
    }

    /// An authority that ends soon, a list of it and a policy, all with the canary; answers the ids of authority and list.
    async fn have_certificates(&self, tenant: &Tenant, service: &Client) -> [String; 2] {
        let year = chrono::Datelike::year(&self.app.app.clock.now());
        let root = authority(&tenant.canary, |made| made.not_after = rcgen::date_time_ymd(year + 3, 1, 1));
        let rules = json!([{ "source": "SAN_EMAIL", "target": "EMAIL", "append": tenant.canary }]);
        let made = service.ok(PKI, json!({ "anchor": root.pem(), "mapping": rules })).await;
        let list = root.list(&[&root.leaf("x", usual)], (2025, year + 2), Some("http://lists.example/")).pem().unwrap();
        let listed = service.ok(REVOCATION_LIST, json!({ "pem": list })).await;
        let ids = [
            &made["addTrustAnchors"]["trustAnchors"][0]["id"],
            &listed["addRevocationList"]["revocationLists"][0]["id"],
        ];
        ids.map(|id| id.as_str().unwrap().to_owned())
    }

    /// A third tenant is the partner of both, and both are its.
    async fn have_partners(&self) {
        let third = self.app.created_tenant("integrator").await;
        for tenant in [&self.a, &self.b] {
            for (partner, accessed) in [(&third, tenant), (tenant, &third)] {
                let input = json!({ "partnerId": partner.id, "tenantId": accessed.id, "scopes": ["auth:tenant:read"],
                    "expiresAt": self.app.app.clock.now() + chrono::TimeDelta::days(30), "reason": accessed.canary });
                self.admin.ok(GRANT_PARTNER, json!({ "input": input })).await;
            }
        }
    }

    /// A secret each, sealed with a key of its own.
    async fn have_keys(&self) {
        for tenant in [&self.a, &self.b] {
            let scope = TenantScope::system("test", tenant.id);
            self.app.app.tenant_keys.put_secret(&scope, "dsn", tenant.canary.as_bytes()).await.unwrap();
        }
    }

    /// A role, an active member who has it and a link, and one who is invited; answers the id of the former.
    async fn have_members(&self, tenant: &Tenant, service: &Client, email: &str) -> String {
        let role = json!({ "key": "settings", "description": tenant.canary, "scopes": ["auth:tenant:read"] });
        service.ok(ROLE, json!({ "input": role })).await;
        let invite = async |email: &str| {
            let input = json!({ "email": email, "name": tenant.canary, "roles": ["settings"] });
            service.ok(INVITE, json!({ "input": input })).await["inviteMember"].clone()
        };
        let invited = invite(email).await;
        invite(&format!("second-{email}")).await;
        let (id, token) = (&invited["member"]["id"], &invited["token"]);
        service.without_token().ok(ACCEPT, json!({ "token": token })).await;
        service.ok(LINK, json!({ "id": id })).await;
        let input = json!({ "tenant": tenant.slug, "email": email, "password": "an unusual sentence" });
        let signed = service.without_token().ok(SIGN_IN, json!({ "input": input })).await["signIn"]["tokens"].clone();
        let member = service.with_token(signed["accessToken"].as_str().unwrap());
        member.ok("mutation { enrollTotp(input: {}) { secret } }", json!({})).await;
        service.ok("mutation { setSessionPolicy(input: {mostSessions: 30}) { policy { version } } }", json!({})).await;
        let code = format!(
            "insert into tenantry.member_recovery_codes (tenant_id, member_id, code_hash)
               values ('{}', '{}', decode(repeat('ab', 32), 'hex'));
             insert into tenantry.sign_in_attempts (tenant_id, name_hash, failures, failed_at, until)
               values ('{}', decode(repeat('ab', 32), 'hex'), 1, '2100-01-01', '2100-01-01')",
            tenant.id,
            id.as_str().unwrap(),
            tenant.id
        );
        self.app.database.superuser().await.execute_unprepared(&code).await.unwrap();
        // Of no schedule's time.
        let seat = format!(
            "insert into tenantry.member_seats (tenant_id, change_id, amount, created_at)
             values ('{}', gen_random_uuid(), -1, '2100-01-01T00:00:00Z')",
            tenant.id
        );
        self.app.database.superuser().await.execute_unprepared(&seat).await.unwrap();
        id.as_str().unwrap().to_owned()
    }

    /// An operator inside; answers the impersonation's id.
    async fn have_impersonation(&self, tenant: &Tenant) -> String {
        let input = json!({ "tenantId": tenant.id, "reason": format!("ticket {}", tenant.canary) });
        let begun = self.admin.ok(IMPERSONATE, json!({ "input": input })).await;
        begun["impersonate"]["impersonation"]["id"].as_str().unwrap().to_owned()
    }

    /// A directory that nobody answers for, and a synchronisation that found that out.
    async fn have_directory(&self, tenant: &Tenant, service: &Client) {
        let base = format!("ou={},dc=example", tenant.canary);
        let mapping = json!([{ "group": format!("cn=all,{base}"), "roles": ["viewer"] }]);
        let input = json!({ "servers": ["ldaps://directory.invalid"], "baseDn": base, "bindDn": format!("cn=reader,{base}"),
            "bindSecret": tenant.canary, "userFilter": format!("(&(o={})(uid={{login}}))", tenant.canary), "roleMappings": mapping });
        service.ok(DIRECTORY, json!({ "input": input })).await;
        self.admin.ok(PERMIT, json!({ "id": tenant.id, "reason": tenant.canary })).await;
        let ended = format!(
            "insert into tenantry.directory_syncs
               (tenant_id, sync_id, is_dry_run, state, phase, trigger, started_by, result, reason, started_at, seen_at, ended_at)
             values ('{0}', gen_random_uuid(), true, 'FAILED', 'ENDED', 'REQUEST', '{1}', jsonb_build_object('created', 1, 'updated', 0,
               'unchanged', 0, 'deactivated', 0, 'skipped', 1, 'changes', jsonb_build_array(jsonb_build_object('kind', 'CREATE', 'email', '{1}',
               'roles', jsonb_build_array('viewer'))), 'skips', jsonb_build_array(jsonb_build_object('who', '{1}', 'why', 'NO_ROLE'))), '{1}',
               now(), now(), now())",
            tenant.id, tenant.canary
        );
        self.app.database.superuser().await.execute_unprepared(&ended).await.unwrap();
    }

    /// A definition with everything, and in both tenants a value and a change that waits.
    async fn use_flags(&self) {
        let admin = &self.admin;
        let conditions = json!([{ "attribute": "tenant.slug", "operator": "EQ", "values": [self.a.slug] }]);
        let rules = json!([{ "key": "named", "value": true, "segments": ["everywhere"], "conditions": conditions,
            "rollout": { "percentage": "50" } }]);
        let segment =
            json!({ "key": "everywhere", "conditions": [{ "attribute": "tenant.region", "operator": "EXISTS" }] });
        admin
            .ok(
                "mutation($input: DefineSegmentInput!) { defineSegment(input: $input) { segment { key } } }",
                json!({ "input": segment }),
            )
            .await;
        let flag = json!({ "key": "settings", "type": "BOOLEAN", "defaultValue": false, "offValue": false, "description": "x",
            "lifecycle": "TEMPORARY", "staleAfter": "2020-01-01T00:00:00Z", "feature": "api_access", "operatorOnly": false,
            "variants": [{ "name": "yes", "value": true }], "planValues": [{ "plan": "starter", "value": true }], "rules": rules });
        let checked = json!({ "key": "checked", "type": "BOOLEAN", "defaultValue": false, "approval": "REQUIRED" });
        for input in [flag, checked] {
            admin
                .ok(
                    "mutation($input: DefineFlagInput!) { defineFlag(input: $input) { flag { key } } }",
                    json!({ "input": input }),
                )
                .await;
        }
        for tenant in [&self.a, &self.b] {
            for key in ["settings", "checked"] {
                let input = json!({ "key": key, "tenantId": tenant.id, "value": true, "reason": tenant.canary, "endsAt": "2040-01-01T00:00:00Z" });
                admin
                    .ok(
                        "mutation($input: SetFlagInput!) { setFlag(input: $input) { setting { version } } }",
                        json!({ "input": input }),
                    )
                    .await;
            }
        }
    }

    async fn names_of_a(&self) -> Vec<Name> {
        let own = self.admin.ok(ENTRIES, json!({ "id": self.a.id })).await["audit"]["edges"][0].clone();
        let all = self.admin.ok(ALL_ENTRIES, json!({})).await;
        let outage = self.admin.ok(OUTAGES, json!({ "id": self.a.id })).await["tenant"]["outages"]["edges"][0].clone();
        assert_eq!(all["tenants"]["edges"][0]["node"]["id"], json!(self.a.id));
        let changes = "query($id: ID) { flagChangeRequests(tenantId: $id) { id } }";
        let changes = self.admin.ok(changes, json!({ "id": self.a.id })).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let name = |what, text, form| Name { what, text, form };
        vec![
            name("tenant id", self.a.id.to_string(), Form::Id),
            name("client id", self.a_client.id.clone(), Form::Id),
            name("entry id", text(&own["node"]["id"]), Form::Id),
            name("outage id", text(&outage["node"]["id"]), Form::Id),
            name("reservation id", self.a_quotas[0].clone(), Form::Id),
            name("boost id", self.a_quotas[1].clone(), Form::Id),
            name("member id", self.a_member.clone(), Form::Id),
            name("member's address", "annexed-mail-5@example.com".to_owned(), Form::Email),
            name("grant id", self.a_grant.clone(), Form::Id),
            name("trust anchor", self.a_pki[0].clone(), Form::Id),
            name("revocation list", self.a_pki[1].clone(), Form::Id),
            name("impersonation id", self.a_impersonation.clone(), Form::Id),
            name("flag change", text(&changes["flagChangeRequests"][0]["id"]), Form::Id),
            name("slug", self.a.slug.clone(), Form::Text),
            name("external id", "annexed-text-2".to_owned(), Form::Text),
            name("request id", text(&own["node"]["requestId"]), Form::Text),
            name("idempotency key", "annexed-keys-3".to_owned(), Form::Text),
            name("entry hash", text(&own["node"]["hash"]), Form::Hash),
            name("cursor of A's journal", text(&own["cursor"]), Form::ChainCursor),
            name("cursor of all journals", text(&all["audit"]["edges"][0]["cursor"]), Form::PlatformCursor),
            name("cursor of all tenants", text(&all["tenants"]["edges"][0]["cursor"]), Form::ListCursor),
            name("cursor of A's outages", text(&outage["cursor"]), Form::OutageCursor),
        ]
    }

    /// Fails where something received (by B, who sent `sent`) holds a name of A's that B did not send.
    pub fn nothing_of_a_in(&self, received: &str, sent: &str) {
        for name in self.names.iter().filter(|name| !sent.contains(&name.text)) {
            // A chain's cursor is a number that B's chain has, too.
            let told = name.form != Form::ChainCursor && received.contains(&name.text);
            assert!(!told, "B sent {sent:?} and was told A's {}: {received}", name.what);
        }
    }
}

async fn credentials(service: &Client) -> Credentials {
    let scopes: Vec<_> = ScopeSet::for_tenants().iter().map(|scope| scope.name()).collect();
    let made = service.ok(CREATE_CLIENT, json!({ "scopes": scopes })).await["createOAuthClient"].clone();
    Credentials {
        id: made["client"]["id"].as_str().unwrap().to_owned(),
        secret: made["secret"].as_str().unwrap().to_owned(),
    }
}
