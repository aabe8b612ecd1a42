-- What tenants' schemas are made of: a list of migrations that only ever grows.
create table schema_templates (
  name       text primary key check (name ~ '^[a-z][a-z0-9-]{0,62}$'),
  -- The newest version that is registered.
  version    integer not null check (version > 0),
  -- What new tenants get: where the last rollout that came to its end went; at first, all there was.
  released   integer not null check (released > 0),
  -- Tenants of these plans have it; the default is for all others.
  plans      jsonb not null default '[]',
  is_default boolean not null default false,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  constraint schema_templates_released check (released <= version)
);
comment on table schema_templates is 'erasure=none; SQL of the platform';
create unique index schema_templates_default_idx on schema_templates (is_default) where is_default;

create table schema_migrations (
  template text not null references schema_templates,
  version  integer not null check (version > 0),
  name     text not null,
  sql      text not null,
  checksum text not null,
  primary key (template, version)
);
comment on table schema_migrations is 'erasure=none; SQL of the platform';

-- What each tenant's schema was made of when it was looked at last. The version that counts is in the tenant's cell, where it
-- is written together with the migration itself.
create table tenant_templates (
  tenant_id   uuid primary key,
  template    text not null references schema_templates,
  -- 0: it is to get the template, and nothing was seen yet.
  version     integer not null check (version >= 0),
  -- SHA-256 of what the catalogue says of the schema; null until it was looked at in this version.
  schema_hash text,
  -- What is not as the template has it, one sentence each.
  drift       jsonb not null default '[]',
  migrated_at timestamptz not null,
  verified_at timestamptz
);
comment on table tenant_templates is 'erasure=delete';
create index tenant_templates_version_idx on tenant_templates (template, version);
create index tenant_templates_drift_idx on tenant_templates (template, tenant_id) where drift <> '[]';

create table template_rollouts (
  rollout_id  uuid primary key,
  template    text not null references schema_templates,
  target      integer not null check (target > 0),
  state       text not null check (state in ('RUNNING', 'PAUSED', 'STOPPED', 'CANCELLED', 'COMPLETED')),
  -- Why it is not running.
  reason      text not null default '',
  -- The one that is rolled out now, from 0 on; those before it have come to their end.
  wave        smallint not null default 0,
  rules       jsonb not null,
  started_at  timestamptz not null,
  finished_at timestamptz
);
comment on table template_rollouts is 'erasure=none; work of the platform';
-- One at a time: two would race for the same tables.
create unique index template_rollouts_open_idx on template_rollouts (template) where state in ('RUNNING', 'PAUSED', 'STOPPED');

-- As many connections as a rollout may use, over all servers; one is used by one server at a time, under a lease.
create table rollout_lanes (
  rollout_id  uuid not null references template_rollouts,
  lane        smallint not null,
  cell_id     uuid,
  lease_token uuid,
  lease_until timestamptz,
  primary key (rollout_id, lane)
);
comment on table rollout_lanes is 'erasure=none; work of the platform';

create table rollout_tenants (
  rollout_id  uuid not null references template_rollouts,
  tenant_id   uuid not null,
  wave        smallint not null,
  state       text not null check (state in ('PENDING', 'APPLIED', 'FAILED', 'SKIPPED')),
  attempts    integer not null default 0,
  problem     text not null default '',
  due_at      timestamptz not null,
  lease_until timestamptz,
  done_at     timestamptz,
  primary key (tenant_id, rollout_id)
);
comment on table rollout_tenants is 'erasure=delete';
create index rollout_tenants_due_idx on rollout_tenants (rollout_id, state, wave, due_at);

alter table schema_templates enable row level security;
alter table schema_templates force row level security;
create policy operator_access on schema_templates to tenantry_operator using (true) with check (true);
grant select, insert, update on schema_templates to tenantry_operator;

alter table schema_migrations enable row level security;
alter table schema_migrations force row level security;
create policy operator_access on schema_migrations to tenantry_operator using (true) with check (true);
grant select, insert on schema_migrations to tenantry_operator;

alter table tenant_templates enable row level security;
alter table tenant_templates force row level security;
create policy tenant_isolation on tenant_templates to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on tenant_templates to tenantry_operator using (true) with check (true);
grant select on tenant_templates to tenantry_tenant;
grant select, insert, update, delete on tenant_templates to tenantry_operator;

alter table template_rollouts enable row level security;
alter table template_rollouts force row level security;
create policy operator_access on template_rollouts to tenantry_operator using (true) with check (true);
grant select, insert, update on template_rollouts to tenantry_operator;

alter table rollout_lanes enable row level security;
alter table rollout_lanes force row level security;
create policy operator_access on rollout_lanes to tenantry_operator using (true) with check (true);
grant select, insert, update, delete on rollout_lanes to tenantry_operator;

alter table rollout_tenants enable row level security;
alter table rollout_tenants force row level security;
create policy tenant_isolation on rollout_tenants to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on rollout_tenants to tenantry_operator using (true) with check (true);
grant select on rollout_tenants to tenantry_tenant;
grant select, insert, update, delete on rollout_tenants to tenantry_operator;
