-- Definitions are the platform's own: no tenant in them but those that a rule names, so a tenant's session reads only what
-- it needs to hold its own value to the definition.
create table flags (
  key           text primary key check (key ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$'),
  kind          text not null check (kind in ('BOOLEAN', 'STRING', 'NUMBER', 'JSON')),
  default_value jsonb not null,
  off_value     jsonb,
  description   text not null default '',
  owner         text not null default '',
  lifecycle     text not null check (lifecycle in ('TEMPORARY', 'PERMANENT')),
  stale_after   timestamptz,
  feature       text,
  enabled       boolean not null,
  operator_only boolean not null,
  approval      text not null check (approval in ('NONE', 'REQUIRED')),
  variants      jsonb not null default '[]',
  plan_values   jsonb not null default '{}',
  rules         jsonb not null default '[]',
  prerequisites jsonb not null default '[]',
  salt          text not null default '',
  archived_at   timestamptz,
  version       bigint not null default 1,
  created_at    timestamptz not null,
  updated_at    timestamptz not null,
  constraint flags_stale_after check ((lifecycle = 'TEMPORARY') = (stale_after is not null))
);
comment on table flags is 'erasure=none; definitions of feature flags, no tenant''s value in them';

create table flag_segments (
  key         text primary key check (key ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$'),
  description text not null default '',
  conditions  jsonb not null,
  version     bigint not null default 1,
  created_at  timestamptz not null,
  updated_at  timestamptz not null
);
comment on table flag_segments is 'erasure=none; groups of tenants by condition';

-- What one tenant has instead of what the definition says. A value that was taken back stays as a row without one, so that
-- its version never stands for two values.
create table flag_values (
  tenant_id uuid not null,
  flag_key  text not null references flags (key),
  value     jsonb,
  starts_at timestamptz,
  ends_at   timestamptz,
  reason    text not null default '',
  set_by    text not null,
  set_at    timestamptz not null,
  version   bigint not null default 1,
  primary key (tenant_id, flag_key),
  constraint flag_values_schedule check (ends_at > starts_at)
);
comment on table flag_values is 'erasure=delete';

create table flag_change_requests (
  tenant_id     uuid not null,
  request_id    uuid not null,
  flag_key      text not null references flags (key),
  value         jsonb,
  starts_at     timestamptz,
  ends_at       timestamptz,
  reason        text not null default '',
  value_version bigint not null,
  status        text not null check (status in ('PENDING', 'APPROVED', 'REJECTED')),
  requested_by  text not null,
  requested_at  timestamptz not null,
  decided_by    text,
  decided_at    timestamptz,
  note          text not null default '',
  version       bigint not null default 1,
  primary key (tenant_id, request_id),
  constraint flag_change_requests_decided check ((status = 'PENDING') = (decided_by is null)),
  constraint flag_change_requests_four_eyes check (decided_by <> requested_by or status <> 'APPROVED')
);
comment on table flag_change_requests is 'erasure=delete';
-- One question at a time: two that wait for an answer would overwrite each other.
create unique index flag_change_requests_pending_idx on flag_change_requests (tenant_id, flag_key) where status = 'PENDING';
create index flag_change_requests_list_idx on flag_change_requests (status, request_id);
create index flag_change_requests_flag_idx on flag_change_requests (flag_key);
create index flag_values_flag_idx on flag_values (flag_key);

alter table flags enable row level security;
alter table flags force row level security;
create policy tenant_isolation on flags for select to tenantry_tenant using (true);
create policy operator_access on flags to tenantry_operator using (true) with check (true);
grant select (key, kind, feature, operator_only, approval, archived_at) on flags to tenantry_tenant;
grant select, insert, update on flags to tenantry_operator;

alter table flag_segments enable row level security;
alter table flag_segments force row level security;
create policy operator_access on flag_segments to tenantry_operator using (true) with check (true);
grant select, insert, update, delete on flag_segments to tenantry_operator;

alter table flag_values enable row level security;
alter table flag_values force row level security;
create policy tenant_isolation on flag_values to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on flag_values to tenantry_operator using (true) with check (true);
grant select, insert, update on flag_values to tenantry_tenant, tenantry_operator;

alter table flag_change_requests enable row level security;
alter table flag_change_requests force row level security;
create policy tenant_isolation on flag_change_requests to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on flag_change_requests to tenantry_operator using (true) with check (true);
grant select, insert on flag_change_requests to tenantry_tenant;
grant select, insert, update on flag_change_requests to tenantry_operator;
