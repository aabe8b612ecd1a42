-- What a tenant was given beside its plan: so much of a quota, a feature, or a resource. Used up or over, a grant stays: what it was
-- for and how much of it was burnt is asked for later.
create table entitlement_grants (
  tenant_id    uuid not null,
  grant_id     uuid not null,
  kind         text not null check (kind in ('QUOTA', 'FEATURE', 'RESOURCE')),
  key          text not null check (length(key) between 1 and 200),
  amount       bigint check (amount > 0),
  burnt        bigint not null default 0 check (burnt >= 0),
  priority     integer not null check (priority between 0 and 255),
  effective_at timestamptz not null,
  expires_at   timestamptz,
  ended_at     timestamptz,
  reason       text not null check (length(reason) <= 2000),
  granted_by   text not null,
  version      bigint not null default 1,
  created_at   timestamptz not null,
  primary key (tenant_id, grant_id),
  constraint entitlement_grants_amount check ((kind = 'QUOTA') = (amount is not null)),
  constraint entitlement_grants_burnt check (burnt <= coalesce(amount, 0)),
  constraint entitlement_grants_schedule check (expires_at > effective_at)
);
comment on table entitlement_grants is 'erasure=delete';
create index entitlement_grants_live_idx on entitlement_grants (tenant_id, kind, key) where ended_at is null;
create index entitlement_grants_due_idx on entitlement_grants (expires_at) where ended_at is null;

-- Up to when it is known how much of a quota's grants is burnt, in which period that was, and when it has to be found out again:
-- a period ends, a grant begins or ends. Null: never.
create table quota_settlements (
  tenant_id    uuid not null,
  quota_key    text not null references quota_keys (key),
  quota_window text not null,
  settled_at   timestamptz not null,
  next_turn    timestamptz,
  primary key (tenant_id, quota_key)
);
comment on table quota_settlements is 'erasure=delete';
create index quota_settlements_due_idx on quota_settlements (next_turn) where next_turn is not null;

-- How much of a grant a period has burnt, while the period can still give back some of it.
create table quota_burns (
  tenant_id    uuid not null,
  quota_key    text not null,
  quota_window text not null,
  grant_id     uuid not null,
  amount       bigint not null check (amount > 0),
  primary key (tenant_id, quota_key, quota_window, grant_id),
  constraint quota_burns_grant_fk foreign key (tenant_id, grant_id) references entitlement_grants (tenant_id, grant_id)
);
comment on table quota_burns is 'erasure=delete';
create index quota_burns_grant_idx on quota_burns (tenant_id, grant_id);

-- What can be allowed tenant by tenant: kinds, and the items of each.
create table resource_kinds (
  key            text primary key check (key ~ '^[a-z][a-z0-9_]{0,62}$'),
  name           text not null,
  description    text not null default '',
  default_access text not null check (default_access in ('ALLOWED', 'DENIED')),
  version        bigint not null default 1,
  created_at     timestamptz not null,
  updated_at     timestamptz not null
);
comment on table resource_kinds is 'erasure=none; the catalogue of what can be allowed, no tenant in it';

-- Before row-level security is forced: from then on not even the owner writes.
insert into resource_kinds (key, name, description, default_access, created_at, updated_at) values
  ('models', 'Models', 'Language and other models that tenants may call.', 'DENIED', now(), now());

create table resources (
  kind        text not null references resource_kinds (key),
  key         text not null check (key ~ '^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}$'),
  name        text not null,
  description text not null default '',
  retired     boolean not null,
  version     bigint not null default 1,
  created_at  timestamptz not null,
  updated_at  timestamptz not null,
  primary key (kind, key)
);
comment on table resources is 'erasure=none; the catalogue of what can be allowed, no tenant in it';

-- What tenants of a plan may use of a kind.
create table plan_allow_lists (
  plan       text not null references plans (key),
  kind       text not null references resource_kinds (key),
  everything boolean not null,
  resources  jsonb not null default '[]',
  version    bigint not null default 1,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  primary key (plan, kind)
);
comment on table plan_allow_lists is 'erasure=none; what is sold, no tenant in it';
create index plan_allow_lists_kind_idx on plan_allow_lists (kind);

-- What one tenant may use beside that, and what it may not use although its plan has it.
create table tenant_allow_lists (
  tenant_id  uuid not null,
  kind       text not null references resource_kinds (key),
  added      jsonb not null default '[]',
  removed    jsonb not null default '[]',
  reason     text not null check (length(reason) <= 2000),
  set_by     text not null,
  version    bigint not null default 1,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  primary key (tenant_id, kind)
);
comment on table tenant_allow_lists is 'erasure=delete';
create index tenant_allow_lists_kind_idx on tenant_allow_lists (kind);

alter table entitlement_grants enable row level security;
alter table entitlement_grants force row level security;
create policy tenant_isolation on entitlement_grants to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on entitlement_grants to tenantry_operator using (true) with check (true);
grant select, insert, update on entitlement_grants to tenantry_tenant;
grant select on entitlement_grants to tenantry_operator;

alter table quota_settlements enable row level security;
alter table quota_settlements force row level security;
create policy tenant_isolation on quota_settlements to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on quota_settlements to tenantry_operator using (true) with check (true);
grant select, insert, update on quota_settlements to tenantry_tenant;
grant select on quota_settlements to tenantry_operator;

alter table quota_burns enable row level security;
alter table quota_burns force row level security;
create policy tenant_isolation on quota_burns to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on quota_burns to tenantry_operator using (true) with check (true);
grant select, insert, update, delete on quota_burns to tenantry_tenant;
grant select on quota_burns to tenantry_operator;

alter table resource_kinds enable row level security;
alter table resource_kinds force row level security;
create policy operator_access on resource_kinds to tenantry_operator using (true) with check (true);
grant select, insert, update on resource_kinds to tenantry_operator;

alter table resources enable row level security;
alter table resources force row level security;
create policy operator_access on resources to tenantry_operator using (true) with check (true);
grant select, insert, update on resources to tenantry_operator;

alter table plan_allow_lists enable row level security;
alter table plan_allow_lists force row level security;
create policy operator_access on plan_allow_lists to tenantry_operator using (true) with check (true);
grant select, insert, update on plan_allow_lists to tenantry_operator;

alter table tenant_allow_lists enable row level security;
alter table tenant_allow_lists force row level security;
create policy tenant_isolation on tenant_allow_lists to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on tenant_allow_lists to tenantry_operator using (true) with check (true);
grant select, insert, update on tenant_allow_lists to tenantry_tenant;
grant select on tenant_allow_lists to tenantry_operator;
