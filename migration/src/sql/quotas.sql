-- What can be limited. A limit of a plan, an override or a boost is for one of these keys.
create table quota_keys (
  key           text primary key check (key ~ '^[a-z][a-z0-9_]{0,62}$'),
  unit          text not null check (length(unit) between 1 and 63),
  kind          text not null check (kind in ('LEVEL', 'PERIOD', 'RATE', 'CONCURRENCY')),
  period        text check (period in ('MINUTE', 'HOUR', 'DAY', 'MONTH')),
  description   text not null default '',
  enforcement   text not null default 'HARD' check (enforcement in ('HARD', 'SOFT')),
  grace_percent integer not null default 0 check (grace_percent between 0 and 100),
  default_limit bigint check (default_limit >= 0),
  version       bigint not null default 1,
  created_at    timestamptz not null,
  updated_at    timestamptz not null,
  constraint quota_keys_period check ((kind = 'PERIOD') = (period is not null))
);
comment on table quota_keys is 'erasure=none; the catalogue of what can be limited, no tenant in it';

-- Before row-level security is forced: from then on not even the owner writes.
insert into quota_keys (key, unit, kind, period, description, created_at, updated_at) values
  ('max_clusters', 'clusters', 'LEVEL', null, 'Clusters that exist at once.', now(), now()),
  ('max_instances', 'instances', 'LEVEL', null, 'Instances that exist at once.', now(), now()),
  ('max_cpu_cores', 'cores', 'LEVEL', null, 'CPU cores that are in use at once.', now(), now()),
  ('max_memory_gb', 'GiB', 'LEVEL', null, 'Memory that is in use at once.', now(), now()),
  ('max_storage_tb', 'TiB', 'LEVEL', null, 'Storage that is in use at once.', now(), now()),
  ('max_api_keys', 'keys', 'LEVEL', null, 'API keys that exist at once.', now(), now()),
  ('max_users', 'users', 'LEVEL', null, 'Members that exist at once.', now(), now()),
  ('max_domains', 'domains', 'LEVEL', null, 'Custom domains that exist at once.', now(), now()),
  ('requests_per_minute', 'requests', 'PERIOD', 'MINUTE', 'Requests in each minute.', now(), now()),
  ('requests_per_hour', 'requests', 'PERIOD', 'HOUR', 'Requests in each hour.', now(), now()),
  ('requests_per_day', 'requests', 'PERIOD', 'DAY', 'Requests in each day of the tenant''s time zone.', now(), now()),
  ('requests_per_month', 'requests', 'PERIOD', 'MONTH', 'Requests in each month of the tenant''s time zone.', now(), now()),
  ('llm_tokens', 'tokens', 'PERIOD', 'MONTH', 'Tokens of language models in each month.', now(), now()),
  ('egress_gb', 'GB', 'PERIOD', 'MONTH', 'Traffic that leaves in each month.', now(), now()),
  ('requests_per_second', 'requests', 'RATE', null, 'Requests in a second, of the API and of gateways that ask.', now(), now()),
  ('concurrent_requests', 'requests', 'CONCURRENCY', null, 'Requests in progress at once.', now(), now()),
  ('concurrent_streams', 'streams', 'CONCURRENCY', null, 'Subscriptions that are open at once.', now(), now());

-- What a tenant's contract says differently from its plan. A limit of null is: unlimited.
create table quota_overrides (
  tenant_id     uuid not null,
  quota_key     text not null references quota_keys (key),
  quota_limit   bigint check (quota_limit >= 0),
  enforcement   text check (enforcement in ('HARD', 'SOFT')),
  grace_percent integer check (grace_percent between 0 and 100),
  expires_at    timestamptz,
  reason        text not null check (length(reason) <= 2000),
  set_by        text not null,
  version       bigint not null default 1,
  created_at    timestamptz not null,
  updated_at    timestamptz not null,
  primary key (tenant_id, quota_key)
);
comment on table quota_overrides is 'erasure=delete';

-- What a tenant may have on top for a while.
create table quota_boosts (
  tenant_id   uuid not null,
  boost_id    uuid not null,
  quota_key   text not null references quota_keys (key),
  amount      bigint not null check (amount > 0),
  expires_at  timestamptz not null,
  ended_at    timestamptz,
  approved_by text not null,
  reason      text not null check (length(reason) <= 2000),
  created_at  timestamptz not null,
  primary key (tenant_id, boost_id)
);
comment on table quota_boosts is 'erasure=delete';
create index quota_boosts_expiry_idx on quota_boosts (tenant_id, expires_at) where ended_at is null;
create index quota_boosts_due_idx on quota_boosts (expires_at) where ended_at is null;

-- How much is used and held. `quota_window` is the period by its local name (2026-11, 2026-11-21, 2026-11-21T09, 2026-11-21T09:30),
-- so that a change of the time zone begins no period twice; levels have the empty one.
create table quota_usage (
  tenant_id    uuid not null,
  quota_key    text not null references quota_keys (key),
  quota_window text not null,
  used         bigint not null default 0 check (used >= 0),
  reserved     bigint not null default 0 check (reserved >= 0),
  primary key (tenant_id, quota_key, quota_window)
) with (fillfactor = 60);
comment on table quota_usage is 'erasure=delete';

-- Promises to a client: what is held until it is committed, released, or expires. `holds` names each counter that holds it.
create table quota_reservations (
  tenant_id       uuid not null,
  reservation_id  uuid not null,
  subject         text not null,
  state           text not null check (state in ('HELD', 'COMMITTED', 'RELEASED', 'EXPIRED')),
  holds           jsonb not null,
  created_at      timestamptz not null,
  expires_at      timestamptz not null,
  ended_at        timestamptz,
  idempotency_key text,
  request_hash    bytea,
  answer          jsonb,
  outcome         jsonb,
  primary key (tenant_id, reservation_id),
  constraint quota_reservations_ended check ((state = 'HELD') = (ended_at is null)),
  constraint quota_reservations_hash check ((idempotency_key is null) = (request_hash is null))
) with (fillfactor = 80);
comment on table quota_reservations is 'erasure=delete';
-- Few rows are indexed twice: each reservation is one insert on the way to an answer.
create unique index quota_reservations_key on quota_reservations (tenant_id, subject, idempotency_key) where idempotency_key is not null;
create index quota_reservations_due_idx on quota_reservations (expires_at) where state = 'HELD';
create index quota_reservations_ended_idx on quota_reservations (ended_at) where state <> 'HELD';

alter table quota_keys enable row level security;
alter table quota_keys force row level security;
create policy tenant_isolation on quota_keys for select to tenantry_tenant using (true);
create policy operator_access on quota_keys to tenantry_operator using (true) with check (true);
grant select on quota_keys to tenantry_tenant;
grant select, insert, update on quota_keys to tenantry_operator;

alter table quota_overrides enable row level security;
alter table quota_overrides force row level security;
create policy tenant_isolation on quota_overrides to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on quota_overrides to tenantry_operator using (true) with check (true);
grant select, insert, update, delete on quota_overrides to tenantry_tenant;
grant select on quota_overrides to tenantry_operator;

alter table quota_boosts enable row level security;
alter table quota_boosts force row level security;
create policy tenant_isolation on quota_boosts to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on quota_boosts to tenantry_operator using (true) with check (true);
grant select, insert, update on quota_boosts to tenantry_tenant;
grant select, update on quota_boosts to tenantry_operator;

-- Reservations of several tenants are decided together, in one session over all of them: each was let in by its own scope.
alter table quota_usage enable row level security;
alter table quota_usage force row level security;
create policy tenant_isolation on quota_usage to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on quota_usage to tenantry_operator using (true) with check (true);
grant select, update on quota_usage to tenantry_tenant;
grant select, insert, update, delete on quota_usage to tenantry_operator;

alter table quota_reservations enable row level security;
alter table quota_reservations force row level security;
create policy tenant_isolation on quota_reservations to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on quota_reservations to tenantry_operator using (true) with check (true);
grant select on quota_reservations to tenantry_tenant;
grant select, insert, update, delete on quota_reservations to tenantry_operator;
