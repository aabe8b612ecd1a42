/// SQL that breaks a rule.
#[derive(Debug)]
pub(super) struct Break {
    pub(super) rule: &'static str,
    pub(super) object: &'static str,
    pub(super) sql: &'static str,
    /// Other rules that cannot be kept then.
    pub(super) also: &'static [&'static str],
    /// Whether the remedies are SQL that makes all well again, as they stand.
    pub(super) heals: bool,
}

impl Break {
    const fn also(mut self, also: &'static [&'static str]) -> Self {
        self.also = also;
        self
    }

    /// The remedy needs a person's decision or another program.
    const fn unhealed(mut self) -> Self {
        self.heals = false;
        self
    }
}

const fn broken(rule: &'static str, object: &'static str, sql: &'static str) -> Break {
    Break { rule, object, sql, also: &[], heals: true }
}

pub(super) const BREAKS: &[Break] = &[
    // The server and the session.
    broken("session-settings", "row_security", "set local row_security = off"),
    broken("session-settings", "session_replication_role", "set local session_replication_role = replica"),
    broken("session-settings", "tenantry.tenant_id", "set local tenantry.tenant_id = '00000000-0000-0000-0000-000000000001'").unhealed(),
    broken("session-defaults", "role", "alter role tenantry_login set role = tenantry_operator"),
    broken("session-defaults", "tenantry.tenant_id", "do $$ begin execute format('alter database %I set tenantry.tenant_id = ''x''', current_database()); end $$"),
    broken("session-defaults", "row_security", "do $$ begin execute format('alter role tenantry_login in database %I set row_security = off', current_database()); end $$"),
    broken("session-defaults", "session_replication_role", "alter role tenantry_login set session_replication_role = replica"),
    broken("database-create", "tenantry_tenant", "do $$ begin execute format('grant create on database %I to tenantry_tenant', current_database()); end $$"),
    broken("database-create", "tenantry_login", "do $$ begin execute format('grant create on database %I to public', current_database()); end $$"),
    broken(
        "event-trigger",
        "verifier_event",
        "create role verifier_admin superuser; create function public.watch() returns event_trigger language plpgsql as 'begin end';
         create event trigger verifier_event on ddl_command_end execute function public.watch();
         alter event trigger verifier_event owner to verifier_admin; alter role verifier_admin nosuperuser",
    ),
    broken("catalogue-public", "table pg_authid", "grant select on pg_authid to public"),
    broken("catalogue-public", "function pg_read_file(text)", "grant execute on function pg_read_file(text) to public"),
    broken("catalogue-public", "setting session_replication_role", "grant set on parameter session_replication_role to public"),
    // Roles.
    broken("role-missing", "tenantry_operator", "drop owned by tenantry_operator; alter role tenantry_operator rename to verifier_gone").also(&["login-memberships"]).unhealed(),
    broken("role-missing", "tenantry_login", "alter role tenantry_login rename to verifier_gone").also(&["login-memberships"]).unhealed(),
    broken("role-superuser", "tenantry_login", "alter role tenantry_login superuser"),
    broken("role-superuser", "tenantry_tenant", "alter role tenantry_tenant superuser"),
    broken("role-bypassrls", "tenantry_login", "alter role tenantry_login bypassrls"),
    broken("role-bypassrls", "tenantry_operator", "alter role tenantry_operator bypassrls"),
    broken("role-bypassrls", "tenantry_owner", "alter role tenantry_owner bypassrls"),
    broken("role-attributes", "tenantry_login", "alter role tenantry_login createrole createdb"),
    broken("role-attributes", "tenantry_owner", "alter role tenantry_owner replication"),
    broken("role-login", "tenantry_tenant", "alter role tenantry_tenant login"),
    broken("role-login", "tenantry_owner", "alter role tenantry_owner login"),
    broken(
        "login-inherits",
        "tenantry_login",
        "do $$ begin
            if current_setting('server_version_num')::int < 160000 then alter role tenantry_login inherit;
            else execute 'grant tenantry_operator to tenantry_login with inherit true'; end if;
         end $$",
    ),
    broken("login-memberships", "tenantry_login", "revoke tenantry_operator from tenantry_login"),
    broken("login-memberships", "tenantry_login", "grant tenantry_owner to tenantry_login"),
    broken("login-memberships", "tenantry_login", "grant pg_read_all_data to tenantry_login"),
    broken("login-memberships", "tenantry_login", "grant tenantry_tenant to tenantry_login with admin option"),
    broken(
        "login-memberships",
        "tenantry_login",
        "create role verifier_between; grant pg_execute_server_program to verifier_between; grant verifier_between to tenantry_login",
    )
    .unhealed(),
    broken("role-memberships", "tenantry_operator", "grant pg_write_all_data to tenantry_operator").also(&["login-memberships"]).unhealed(),
    broken("role-memberships", "tenantry_owner", "grant pg_read_server_files to tenantry_owner"),
    broken("role-memberships", "tenantry_tenant", "grant tenantry_operator to tenantry_tenant"),
    broken("role-members", "verifier_alice", "create role verifier_alice login; grant tenantry_operator to verifier_alice"),
    broken("role-members", "verifier_alice", "create role verifier_alice login noinherit; grant tenantry_login to verifier_alice"),
    broken("role-members", "verifier_alice", "create role verifier_alice login noinherit; grant tenantry_owner to verifier_alice"),
    broken(
        "role-members",
        "verifier_bob",
        "create role verifier_alice login noinherit; grant tenantry_tenant, tenantry_operator to verifier_alice;
         create role verifier_bob login; grant verifier_alice to verifier_bob",
    )
    .unhealed(),
    broken("role-owns", "tenantry_login", "create table public.own (id int); alter table public.own owner to tenantry_login"),
    broken("role-owns", "tenantry_operator", "create function public.own() returns int language sql as 'select 1'; alter function public.own() owner to tenantry_operator"),
    broken("role-owns", "tenantry_login", "create schema own authorization tenantry_login"),
    broken("role-owns", "tenantry_login", "do $$ begin execute format('alter database %I owner to tenantry_login', current_database()); end $$")
        .also(&["database-create"]),
    broken("role-grants", "tenantry_login", "create table public.own (id int); grant select on public.own to tenantry_login"),
    broken("role-grants", "tenantry_operator", "grant execute on function pg_read_file(text) to tenantry_operator"),
    broken("role-grants", "tenantry_login", "grant set on parameter session_replication_role to tenantry_login").unhealed(),
    broken("role-grants", "tenantry_login", "grant select on tenantry.tenants to tenantry_login").also(&["grant-role"]),
    // Schemas and defaults.
    broken("schema-owner", "tenantry", "alter schema tenantry owner to postgres"),
    broken("schema-owner", "tenantry", "alter schema tenantry rename to moved").also(&["role-grants", "trigger-guard"]).unhealed(),
    broken("schema-grants", "tenantry", "grant usage on schema tenantry to public"),
    broken("schema-grants", "tenantry", "grant create on schema tenantry to tenantry_operator"),
    broken("schema-grants", "tenantry", "grant usage on schema tenantry to tenantry_tenant with grant option"),
    broken("schema-grants", "tenantry", "grant usage on schema tenantry to tenantry_login").also(&["role-grants"]),
    broken("schema-create", "public", "grant create on schema public to public"),
    broken("schema-create", "verifier_other", "create schema verifier_other; grant create on schema verifier_other to tenantry_tenant").also(&["role-grants"]),
    broken("default-privileges", "tenantry_owner", "alter default privileges for role tenantry_owner in schema tenantry grant select on tables to public"),
    broken("default-privileges", "tenantry_owner", "alter default privileges for role tenantry_owner grant usage on sequences to tenantry_tenant"),
    broken("default-privileges", "postgres", "alter default privileges in schema tenantry grant execute on functions to tenantry_login").also(&["role-grants"]).unhealed(),
    // Tables.
    broken("object-owner", "tenantry.plans", "alter table tenantry.plans owner to postgres"),
    broken("object-owner", "tenantry.journal", "alter table tenantry.journal owner to tenantry_operator").also(&["role-owns"]),
    broken("object-owner", "tenantry.seaql_migrations", "alter table tenantry.seaql_migrations owner to postgres"),
    broken("object-owner", "tenantry.tenants_guard()", "alter function tenantry.tenants_guard() owner to postgres"),
    broken("rls-enabled", "tenantry.tenants", "alter table tenantry.tenants disable row level security"),
    broken("rls-enabled", "tenantry.signing_keys", "alter table tenantry.signing_keys disable row level security"),
    broken("rls-forced", "tenantry.journal", "alter table tenantry.journal no force row level security"),
    broken(
        "rls-forced",
        "tenantry.events_1",
        "set local role tenantry_owner; create table tenantry.events (tenant_id uuid primary key) partition by hash (tenant_id);
         comment on table tenantry.events is 'erasure=delete'; alter table tenantry.events enable row level security, force row level security;
         create policy tenant_isolation on tenantry.events to tenantry_tenant
            using (tenant_id = current_setting('tenantry.tenant_id')::uuid) with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
         create table tenantry.events_1 partition of tenantry.events for values with (modulus 1, remainder 0)",
    )
    .also(&["rls-enabled"]),
    broken(
        "tenant-id-column",
        "tenantry.journal_heads",
        "alter table tenantry.journal_heads drop constraint journal_heads_pkey; alter table tenantry.journal_heads alter tenant_id drop not null;
         create index on tenantry.journal_heads (tenant_id)",
    ),
    broken(
        "tenant-id-column",
        "tenantry.sessions",
        "set local role tenantry_owner; create table tenantry.sessions (tenant_id text primary key); comment on table tenantry.sessions is 'erasure=delete';
         alter table tenantry.sessions enable row level security, force row level security;
         create policy tenant_isolation on tenantry.sessions to tenantry_tenant using (tenant_id = current_setting('tenantry.tenant_id'))",
    )
    .also(&["policy-tenant"])
    .unhealed(),
    broken(
        "tenant-id-index",
        "tenantry.journal_heads",
        "alter table tenantry.journal_heads drop constraint journal_heads_pkey; create index on tenantry.journal_heads (sequence, tenant_id);
         create index on tenantry.journal_heads (tenant_id) where sequence > 0",
    ),
    broken(
        "tenant-id-index",
        "tenantry.journal_heads",
        "alter table tenantry.journal_heads drop constraint journal_heads_pkey; create index half on tenantry.journal_heads (tenant_id);
         update pg_index set indisvalid = false where indexrelid = 'tenantry.half'::regclass",
    ),
    broken("erasure-declared", "tenantry.journal", "comment on table tenantry.journal is null"),
    broken("erasure-declared", "tenantry.tenants", "comment on table tenantry.tenants is 'erasure=sometimes'"),
    broken("erasure-declared", "tenantry.revoked_tokens", "comment on table tenantry.revoked_tokens is 'erasure=none'"),
    broken("erasure-declared", "tenantry.plans", "comment on table tenantry.plans is 'erasure=delete'"),
    broken(
        "foreign-table",
        "tenantry.far",
        "create foreign data wrapper nowhere; create server nowhere foreign data wrapper nowhere;
         create foreign table tenantry.far (tenant_id uuid not null) server nowhere; alter foreign table tenantry.far owner to tenantry_owner",
    ),
    broken("partition-outside", "public.copy", "create table public.copy () inherits (tenantry.tenants)").unhealed(),
    // Policies.
    broken("policy-missing", "tenantry.tenants", "drop policy tenant_isolation on tenantry.tenants"),
    broken("policy-missing", "tenantry.plans", "drop policy operator_access on tenantry.plans"),
    broken("policy-missing", "tenantry.signing_keys", "grant select (kid) on tenantry.signing_keys to tenantry_tenant"),
    broken("policy-roles", "tenantry.plans everyone", "create policy everyone on tenantry.plans for select using (true)"),
    broken("policy-roles", "tenantry.tenants own", "create policy own on tenantry.tenants to tenantry_owner using (true)"),
    broken("policy-tenant", "tenantry.tenants tenant_isolation", "alter policy tenant_isolation on tenantry.tenants using (tenant_id = current_setting('tenantry.tenant_id')::uuid or name = '')"),
    broken("policy-tenant", "tenantry.journal tenant_isolation", "alter policy tenant_isolation on tenantry.journal with check (true)"),
    broken("policy-tenant", "tenantry.journal tenant_isolation", "alter policy tenant_isolation on tenantry.journal using (tenant_id = current_setting('tenantry.other')::uuid)"),
    broken("policy-tenant", "tenantry.journal tenant_isolation", "alter policy tenant_isolation on tenantry.journal using (tenant_id = current_setting('tenantry.tenant_id', true)::uuid)"),
    broken("policy-tenant", "tenantry.journal second", "create policy second on tenantry.journal for select to tenantry_tenant using (event = 'TenantCreated')").unhealed(),
    broken(
        "policy-tenant",
        "tenantry.journal tenant_isolation",
        "create function public.current_setting(text) returns text language sql immutable as 'select null::text';
         alter policy tenant_isolation on tenantry.journal using (tenant_id = public.current_setting('tenantry.tenant_id')::uuid)",
    ),
    broken("policy-tenant", "tenantry.plans tenant_isolation", "drop policy tenant_isolation on tenantry.plans; create policy tenant_isolation on tenantry.plans to tenantry_tenant using (true)"),
    broken("policy-tenant", "tenantry.journal operator_access", "alter policy operator_access on tenantry.journal to tenantry_operator, tenantry_tenant").unhealed(),
    broken("policy-operator", "tenantry.journal operator_access", "alter policy operator_access on tenantry.journal using (actor = 'me' or tenant_id = current_setting('tenantry.tenant_id')::uuid)"),
    // Keys.
    broken("unique-tenant", "tenantry.journal_heads everywhere", "create unique index everywhere on tenantry.journal_heads (hash)"),
    broken("unique-tenant", "tenantry.journal_heads included", "create unique index included on tenantry.journal_heads (hash) include (tenant_id)"),
    broken("unique-tenant", "tenantry.tenants tenants_slug_key", "comment on constraint tenants_slug_key on tenantry.tenants is 'global='"),
    broken("unique-tenant", "tenantry.tenants apart", "alter table tenantry.tenants add constraint apart exclude (name with =)"),
    broken("foreign-key-tenant", "tenantry.used_assertions theirs", "alter table tenantry.used_assertions add constraint theirs foreign key (client_id) references tenantry.oauth_clients (client_id)"),
    broken(
        "foreign-key-tenant",
        "tenantry.used_assertions crossed",
        "alter table tenantry.used_assertions add constraint crossed foreign key (client_id, tenant_id) references tenantry.oauth_clients (tenant_id, client_id)",
    ),
    // Grants.
    broken("grant-role", "tenantry.tenants", "grant select on tenantry.tenants to public"),
    broken("grant-role", "tenantry.tenants.name", "create role verifier_alice; grant select (name) on tenantry.tenants to verifier_alice"),
    broken("grant-option", "tenantry.tenants", "grant select on tenantry.tenants to tenantry_operator with grant option").unhealed(),
    broken("grant-privilege", "tenantry.idempotency_keys", "grant truncate on tenantry.idempotency_keys to tenantry_operator"),
    broken("grant-privilege", "tenantry.plans.key", "grant references (key) on tenantry.plans to tenantry_tenant").also(&["grant-catalogue"]),
    broken("grant-privilege", "tenantry.tenants", "grant trigger on tenantry.tenants to tenantry_tenant"),
    broken("grant-privilege", "tenantry.journal_position_seq", "grant update on sequence tenantry.journal_position_seq to tenantry_operator"),
    broken("grant-append-only", "tenantry.journal", "grant delete on tenantry.journal to tenantry_operator"),
    broken("grant-append-only", "tenantry.journal_checkpoints.hash", "grant update (hash) on tenantry.journal_checkpoints to tenantry_tenant"),
    broken("grant-catalogue", "tenantry.plans", "grant update on tenantry.plans to tenantry_tenant"),
    broken("grant-sequence", "tenantry.journal_position_seq", "grant select on sequence tenantry.journal_position_seq to tenantry_tenant"),
    broken("grant-migrations", "tenantry.seaql_migrations", "grant select on tenantry.seaql_migrations to tenantry_operator"),
    // Views, functions, triggers.
    broken("view-invoker", "tenantry.names", "set local role tenantry_owner; create view tenantry.names as select tenant_id, name from tenantry.tenants"),
    broken("view-invoker", "public.names", "create view public.names as select name from tenantry.tenants"),
    broken(
        "view-invoker",
        "public.outermost",
        "set local role tenantry_owner; create view tenantry.names with (security_invoker) as select name from tenantry.tenants;
         reset role; create view public.outermost with (security_invoker = off) as select * from tenantry.names",
    ),
    broken("materialised-view", "tenantry.names", "set local role tenantry_owner; create materialized view tenantry.names as select name from tenantry.tenants with no data"),
    broken("materialised-view", "public.names", "create materialized view public.names as select name from tenantry.tenants"),
    broken("function-definer", "tenantry.refuse_change()", "alter function tenantry.refuse_change() security definer"),
    broken("function-definer", "public.everything()", "create function public.everything() returns bigint language sql security definer as 'select count(*) from tenantry.tenants'"),
    broken("function-leakproof", "public.peek(text)", "create function public.peek(text) returns bool language plpgsql leakproof as 'begin return true; end'"),
    broken("function-search-path", "tenantry.tenants_guard()", "alter function tenantry.tenants_guard() reset search_path"),
    broken("function-grants", "tenantry.one()", "set local role tenantry_owner; create function tenantry.one() returns int language sql set search_path = tenantry, pg_temp as 'select 1'"),
    broken("function-grants", "tenantry.refuse_change()", "create role verifier_alice; grant execute on function tenantry.refuse_change() to verifier_alice"),
    broken(
        "trigger-guard",
        "tenantry.refuse_change()",
        "create or replace function tenantry.refuse_change() returns trigger language plpgsql set search_path = tenantry, pg_temp as 'begin return old; end'",
    ),
    broken("trigger-guard", "tenantry.journal", "alter table tenantry.journal disable trigger journal_append_only"),
    broken("trigger-guard", "tenantry.journal_checkpoints", "alter table tenantry.journal_checkpoints enable replica trigger journal_checkpoints_no_truncate"),
    broken("trigger-guard", "tenantry.tenants", "drop trigger tenants_guard on tenantry.tenants"),
    broken(
        "trigger-guard",
        "tenantry.journal",
        "drop trigger journal_append_only on tenantry.journal;
         create trigger journal_append_only before update or delete on tenantry.journal for each row when (old.sequence > 5) execute function tenantry.refuse_change()",
    ),
    broken(
        "trigger-guard",
        "tenantry.tenants",
        "drop trigger tenants_guard on tenantry.tenants;
         create trigger tenants_guard before insert or update of status on tenantry.tenants for each row execute function tenantry.tenants_guard()",
    ),
    broken(
        "trigger-function",
        "tenantry.tenants spy",
        "create function public.spy() returns trigger language plpgsql as 'begin return new; end';
         create trigger spy before update on tenantry.tenants for each row execute function public.spy()",
    ),
    broken("rewrite-rule", "tenantry.tenants nothing", "create rule nothing as on delete to tenantry.tenants do instead nothing"),
];
