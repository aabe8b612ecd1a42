/// What, and the SQL for it. A false alarm keeps a safe server from starting.
pub(super) const HARMLESS: &[(&str, &str)] = &[
    ("CONNECT for the login role", "do $$ begin execute format('grant connect on database %I to tenantry_login', current_database()); end $$"),
    (
        "a view with the rights of who asks",
        "set local role tenantry_owner;
         create view tenantry.names with (security_invoker) as select tenant_id, name from tenantry.tenants;
         grant select on tenantry.names to tenantry_tenant",
    ),
    ("a restrictive policy", "create policy narrower on tenantry.tenants as restrictive to tenantry_tenant using (name <> '' or slug <> '')"),
    (
        "an operator that sees the platform's rows only",
        "alter policy operator_access on tenantry.oauth_clients using (tenant_id = '00000000-0000-0000-0000-000000000000')
         with check (tenant_id = '00000000-0000-0000-0000-000000000000')",
    ),
    (
        "a partitioned tenant table",
        "set local role tenantry_owner;
         create table tenantry.events (tenant_id uuid not null, at timestamptz not null, key text, unique (tenant_id, at, key)) partition by range (at);
         comment on table tenantry.events is 'erasure=delete';
         create table tenantry.events_1 partition of tenantry.events for values from ('2026-01-01') to ('2027-01-01');
         alter table tenantry.events enable row level security, force row level security;
         alter table tenantry.events_1 enable row level security, force row level security;
         create policy tenant_isolation on tenantry.events to tenantry_tenant
             using (tenant_id = current_setting('tenantry.tenant_id')::uuid) with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
         grant select, insert on tenantry.events to tenantry_tenant",
    ),
    (
        "policies per command",
        "drop policy tenant_isolation on tenantry.tenants;
         create policy tenant_select on tenantry.tenants for select to tenantry_tenant using (tenant_id = current_setting('tenantry.tenant_id')::uuid);
         create policy tenant_insert on tenantry.tenants for insert to tenantry_tenant with check (tenant_id = current_setting('tenantry.tenant_id')::uuid)",
    ),
    (
        "a foreign key with tenant_id",
        "alter table tenantry.used_assertions add foreign key (client_id, tenant_id) references tenantry.oauth_clients (client_id, tenant_id)",
    ),
    (
        "one namespace that is meant",
        "create unique index everywhere on tenantry.journal_heads (hash); comment on index tenantry.everywhere is 'global=for the test'",
    ),
    ("unique within a tenant", "create unique index within on tenantry.journal (position, tenant_id)"),
    ("a foreign key to a catalogue", "alter table tenantry.idempotency_keys add foreign key (key) references tenantry.plans (key)"),
    ("some columns for operators", "grant update (name, version) on tenantry.tenants to tenantry_operator"),
    ("a sequence for operators", "grant usage on sequence tenantry.journal_position_seq to tenantry_operator"),
    (
        "the login role of another database of the cluster",
        "create role verifier_other login noinherit; grant tenantry_tenant, tenantry_operator to verifier_other",
    ),
    ("the role that migrates", "create role verifier_admin createrole; grant tenantry_owner to verifier_admin"),
    (
        "a function for tenants",
        "set local role tenantry_owner;
         create function tenantry.one() returns int language sql set search_path = tenantry, pg_temp as 'select 1';
         revoke execute on function tenantry.one() from public; grant execute on function tenantry.one() to tenantry_tenant",
    ),
    (
        "a definer's function out of reach",
        "create schema pooler; create function pooler.get_auth() returns int language sql security definer as 'select 1'",
    ),
    ("defaults that close", "alter default privileges for role tenantry_owner revoke execute on functions from public"),
    ("defaults of a schema that is not ours", "create schema verifier_other; alter default privileges in schema verifier_other grant select on tables to public"),
    ("a view of somebody's own", "create table public.own (id int); create view public.own_view as select * from public.own; grant select on public.own_view to public"),
    (
        "a superuser's event trigger",
        "create function public.watch() returns event_trigger language plpgsql as 'begin end';
         create event trigger watch on ddl_command_end execute function public.watch()",
    ),
    (
        "a guard by another name that always fires",
        "alter trigger journal_append_only on tenantry.journal rename to aa; alter table tenantry.journal enable always trigger aa",
    ),
    ("a preset that does no harm", "alter role tenantry_login set work_mem = '8MB'"),
];
