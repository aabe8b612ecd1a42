create table plans (
  key            text primary key check (key ~ '^[a-z][a-z0-9_-]{0,62}$'),
  name           text not null,
  description    text not null default '',
  isolation_tier text not null check (isolation_tier in ('STANDARD', 'ENTERPRISE', 'PREMIUM')),
  features       jsonb not null default '[]',
  quotas         jsonb not null default '{}',
  sla            jsonb not null,
  prices         jsonb not null default '[]',
  version        bigint not null default 1,
  created_at     timestamptz not null,
  updated_at     timestamptz not null
);
comment on table plans is 'erasure=none; the catalogue of what is sold, no tenant in it';

-- Before row-level security is forced: from then on not even the owner writes.
insert into plans (key, name, description, isolation_tier, features, quotas, sla, prices, created_at, updated_at) values
  ('starter', 'Starter', 'For teams that begin: shared cell, own schema.', 'STANDARD',
   '["api_access", "audit_log"]',
   '{"max_clusters": 2, "max_instances": 50, "max_cpu_cores": 100, "max_memory_gb": 400, "max_storage_tb": 2, "max_api_keys": 5, "max_users": 10}',
   '{"uptime": "99.5", "supportHours": "8x5", "supportResponse": {"critical": "8h", "high": "1day", "normal": "3days"}, "credits": []}',
   '[]', now(), now()),
  ('pro', 'Pro', 'For growing companies: single sign-on, custom domains, higher limits.', 'STANDARD',
   '["api_access", "audit_log", "custom_domains", "single_sign_on", "webhooks"]',
   '{"max_clusters": 5, "max_instances": 200, "max_cpu_cores": 800, "max_memory_gb": 3200, "max_storage_tb": 20, "max_api_keys": 20, "max_users": 100}',
   '{"uptime": "99.9", "supportHours": "12x5", "supportResponse": {"critical": "2h", "high": "8h", "normal": "1day"}, "credits": [{"below": "99.9", "percent": "10"}]}',
   '[]', now(), now()),
  ('enterprise', 'Enterprise', 'Dedicated database, own directory and keys, support around the clock.', 'ENTERPRISE',
   '["api_access", "audit_log", "custom_domains", "directory", "own_keys", "single_sign_on", "webhooks"]',
   '{"max_clusters": 10, "max_instances": 500, "max_cpu_cores": 2000, "max_memory_gb": 8000, "max_storage_tb": 100, "max_api_keys": 50, "max_users": 200}',
   '{"uptime": "99.95", "supportHours": "24x7", "supportResponse": {"critical": "15m", "high": "1h", "normal": "8h"}, "credits": [{"below": "99.95", "percent": "10"}, {"below": "99.0", "percent": "25"}]}',
   '[]', now(), now());

create table setting_schemas (
  section    text primary key,
  schema     jsonb not null,
  version    bigint not null default 1,
  updated_at timestamptz not null
);
comment on table setting_schemas is 'erasure=none; JSON Schemas for the free sections of a tenant file';

-- Status and tier are text with a check, not enum types: under row-level security the planner may use the order of an
-- index only behind leakproof operators; texteq is one, enum_eq is not.
create table tenants (
  tenant_id          uuid primary key,
  slug               text not null check (slug ~ '^[a-z0-9]([a-z0-9-]{1,61}[a-z0-9])$'),
  external_id        text,
  name               text not null check (length(name) between 1 and 200),
  plan               text not null references plans (key),
  isolation_tier     text not null check (isolation_tier in ('STANDARD', 'ENTERPRISE', 'PREMIUM')),
  region             text not null,
  status             text not null check (status in ('CREATED', 'ACTIVE', 'SUSPENDED', 'ARCHIVED', 'DELETED', 'ERASED')),
  archived_from      text check (archived_from in ('ACTIVE', 'SUSPENDED')),
  deleted_from       text check (deleted_from in ('CREATED', 'ACTIVE', 'SUSPENDED', 'ARCHIVED')),
  suspension         jsonb,
  planned_suspension jsonb,
  suspend_at         timestamptz,
  resume_at          timestamptz,
  deleted_at         timestamptz,
  erase_at           timestamptz,
  access_epoch       bigint not null default 1,
  access_changed_at  timestamptz not null,
  profile            jsonb not null default '{}',
  labels             jsonb not null default '{}',
  sla                jsonb not null default '{}',
  sections           jsonb not null default '{}',
  version            bigint not null default 1,
  created_at         timestamptz not null,
  updated_at         timestamptz not null,
  search_text        text not null generated always as (lower(slug || ' ' || name || ' ' || coalesce(external_id, ''))) stored,
  constraint tenants_slug_key unique (slug),
  constraint tenants_external_id_key unique (external_id),
  constraint tenants_not_platform check (tenant_id <> '00000000-0000-0000-0000-000000000000'),
  constraint tenants_deletion check ((status in ('DELETED', 'ERASED')) = (deleted_from is not null)),
  constraint tenants_suspended check (status <> 'SUSPENDED' or suspension is not null)
);
comment on table tenants is 'erasure=tombstone; what a tenant is';
comment on constraint tenants_slug_key on tenants is 'global=slugs are one namespace; only operators set them';
comment on constraint tenants_external_id_key on tenants is 'global=external keys are one namespace; only operators set them';

create index tenants_created_idx on tenants (created_at, tenant_id);
create index tenants_status_idx on tenants (status, created_at, tenant_id);
create index tenants_plan_idx on tenants (plan, created_at, tenant_id);
create index tenants_tier_idx on tenants (isolation_tier, created_at, tenant_id);
create index tenants_region_idx on tenants (region, created_at, tenant_id);
create index tenants_name_idx on tenants (name, tenant_id);
create index tenants_labels_idx on tenants using gin (labels jsonb_path_ops);
create index tenants_due_idx on tenants (least(suspend_at, resume_at)) where suspend_at is not null or resume_at is not null;
do $$
begin
  if exists (select from pg_opclass where opcname = 'gin_trgm_ops') then
    create index tenants_search_idx on tenants using gin (search_text gin_trgm_ops);
  end if;
end $$;

-- The table of allowed transitions, as `tenancy::lifecycle` has it; a test compares the two.
create function tenants_guard() returns trigger language plpgsql set search_path = tenantry, pg_temp as $$
begin
  if tg_op = 'INSERT' then
    if new.status <> 'CREATED' then
      raise exception 'a tenant starts as CREATED' using errcode = 'TY001';
    end if;
    return new;
  end if;
  if new.tenant_id <> old.tenant_id or new.created_at <> old.created_at then
    raise exception 'id and creation time of a tenant never change' using errcode = 'TY001';
  end if;
  if new.version <> old.version + 1 or new.access_epoch < old.access_epoch then
    raise exception 'version grows by one and the access epoch never falls' using errcode = 'TY001';
  end if;
  if new.status <> old.status and not (
       (old.status, new.status) in (
         ('CREATED', 'ACTIVE'), ('ACTIVE', 'SUSPENDED'), ('SUSPENDED', 'ACTIVE'),
         ('ACTIVE', 'ARCHIVED'), ('SUSPENDED', 'ARCHIVED'),
         ('CREATED', 'DELETED'), ('ACTIVE', 'DELETED'), ('SUSPENDED', 'DELETED'), ('ARCHIVED', 'DELETED'),
         ('DELETED', 'ERASED'))
       or (old.status = 'ARCHIVED' and new.status = old.archived_from)
       or (old.status = 'DELETED' and new.status = old.deleted_from)) then
    raise exception 'a tenant cannot go from % to %', old.status, new.status using errcode = 'TY001';
  end if;
  return new;
end $$;
create trigger tenants_guard before insert or update on tenants for each row execute function tenants_guard();

-- The first answer to an Idempotency-Key, in the same transaction as its effect.
create table idempotency_keys (
  tenant_id    uuid not null,
  subject      text not null,
  key          text not null,
  request_hash bytea not null,
  answer       jsonb,
  created_at   timestamptz not null,
  primary key (tenant_id, subject, key)
);
comment on table idempotency_keys is 'erasure=delete';
create index idempotency_keys_age_idx on idempotency_keys (created_at);

alter table plans enable row level security;
alter table plans force row level security;
create policy tenant_isolation on plans for select to tenantry_tenant using (true);
create policy operator_access on plans to tenantry_operator using (true) with check (true);
grant select on plans to tenantry_tenant;
grant select, insert, update on plans to tenantry_operator;

alter table setting_schemas enable row level security;
alter table setting_schemas force row level security;
create policy tenant_isolation on setting_schemas for select to tenantry_tenant using (true);
create policy operator_access on setting_schemas to tenantry_operator using (true) with check (true);
grant select on setting_schemas to tenantry_tenant;
grant select, insert, update, delete on setting_schemas to tenantry_operator;

alter table tenants enable row level security;
alter table tenants force row level security;
create policy tenant_isolation on tenants to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on tenants to tenantry_operator using (true) with check (true);
grant select, update on tenants to tenantry_tenant;
grant select, insert on tenants to tenantry_operator;

alter table idempotency_keys enable row level security;
alter table idempotency_keys force row level security;
create policy tenant_isolation on idempotency_keys to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on idempotency_keys to tenantry_operator using (true) with check (true);
grant select, insert, update on idempotency_keys to tenantry_tenant;
grant select, insert, update, delete on idempotency_keys to tenantry_operator;
