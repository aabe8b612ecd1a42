-- A tenant on its way from one cell or tier to another: what was asked for, how far it is, and who works on it now.
create table moves (
  tenant_id       uuid not null,
  move_id         uuid not null,
  source_cell     uuid not null references cells (cell_id),
  source_database text not null,
  source_tier     text not null check (source_tier in ('STANDARD', 'ENTERPRISE', 'PREMIUM')),
  source_region   text not null,
  target_cell     uuid not null references cells (cell_id),
  target_database text not null,
  target_tier     text not null check (target_tier in ('STANDARD', 'ENTERPRISE', 'PREMIUM')),
  target_region   text not null,
  reason          text not null,
  phase           text not null check (phase in ('PREPARING', 'COPYING', 'CATCHING_UP', 'SWITCHING', 'SWITCHED', 'CONFIRMED', 'CANCELLED', 'FAILED')),
  -- What it is to come to: a cancelled move goes back, a confirmed one gives up its source.
  wanted          text not null check (wanted in ('SWITCH', 'CANCEL', 'GIVE_UP', 'CONFIRM')),
  problem         text not null default '',
  attempts        integer not null default 0,
  rows_copied     bigint not null default 0,
  changes_applied bigint not null default 0,
  -- How long writes were refused; null until it is over.
  pause_ms        bigint,
  -- Tables at the source whose replica identity was changed for the move, and what it was.
  identities      jsonb not null default '{}',
  -- What the source's catalogue was like when the target's tables were made.
  fingerprint     text not null default '',
  started_at      timestamptz not null,
  switched_at     timestamptz,
  -- When the source is given up without being asked.
  keep_until      timestamptz,
  finished_at     timestamptz,
  due_at          timestamptz,
  lease_token     uuid,
  lease_holder    text,
  lease_until     timestamptz,
  primary key (tenant_id, move_id),
  constraint moves_lease check ((lease_token is null) = (lease_until is null))
);
comment on table moves is 'erasure=delete';
-- One at a time.
create unique index moves_running_idx on moves (tenant_id) where finished_at is null;
create index moves_move_idx on moves (move_id);
create index moves_tenant_idx on moves (tenant_id, started_at desc);
create index moves_due_idx on moves (due_at) where finished_at is null;

alter table moves enable row level security;
alter table moves force row level security;
create policy tenant_isolation on moves to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on moves to tenantry_operator using (true) with check (true);
grant select on moves to tenantry_tenant;
grant select, insert, update, delete on moves to tenantry_operator;

-- A move to another tier ends in one transaction of the platform; whoever places a tenant holds its tier until that is done.
grant update (isolation_tier, version, updated_at) on tenants to tenantry_operator;

-- Who keeps the environment from others: MOVING keeps it from rollouts and from removal, SWITCHING from everybody, KEPT from
-- removal while there is still something at the source.
alter table provisioning add column move_hold text check (move_hold in ('MOVING', 'SWITCHING', 'KEPT'));
