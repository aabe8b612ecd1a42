-- One row for each tenant that has, or is to have, an environment: when something is to be done for it, and who does it now.
create table provisioning (
  tenant_id    uuid primary key,
  wanted       text not null check (wanted in ('PRESENT', 'ABSENT')),
  -- The layers that it was looked at with: another list is a reason to look again.
  layers       text not null default '',
  -- Null: nothing is to be done any more.
  due_at       timestamptz,
  served_at    timestamptz,
  -- When every essential layer was first there, or nothing was left; null until then.
  settled_at   timestamptz,
  -- Counts who asked for another look: one that came while somebody was at work is not lost.
  requests     bigint not null default 1,
  lease_token  uuid,
  lease_holder text,
  lease_until  timestamptz,
  constraint provisioning_lease check ((lease_token is null) = (lease_until is null))
);
comment on table provisioning is 'erasure=delete';
-- Who was served longest ago is next, among those that are due.
create index provisioning_due_idx on provisioning (due_at, tenant_id);

-- What is wanted of a layer and what was seen of it are separate columns; the reconciler closes the gap.
create table provisioning_layers (
  tenant_id       uuid not null,
  layer           text not null,
  position        smallint not null,
  essential       boolean not null,
  wanted          text not null check (wanted in ('PRESENT', 'ABSENT')),
  observed        text not null check (observed in ('UNKNOWN', 'PRESENT', 'ABSENT', 'DRIFTED', 'UNAVAILABLE')),
  since           timestamptz not null,
  attempts        integer not null default 0,
  last_error      text not null default '',
  next_attempt_at timestamptz,
  verified_at     timestamptz,
  facts           jsonb not null default '{}',
  primary key (tenant_id, layer)
);
comment on table provisioning_layers is 'erasure=delete';

-- Short-lived credentials of a tenant's data plane. Two slots for each layer: the new one is made while the old one still opens.
create table dataplane_credentials (
  tenant_id   uuid not null,
  layer       text not null,
  slot        smallint not null check (slot in (0, 1)),
  sealed      bytea not null,
  details     jsonb not null,
  issued_at   timestamptz not null,
  valid_until timestamptz not null,
  primary key (tenant_id, layer, slot)
);
comment on table dataplane_credentials is 'erasure=delete';
create index dataplane_credentials_end_idx on dataplane_credentials (valid_until);

alter table provisioning enable row level security;
alter table provisioning force row level security;
create policy tenant_isolation on provisioning to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on provisioning to tenantry_operator using (true) with check (true);
grant select on provisioning to tenantry_tenant;
-- A change of a tenant, which its own services may make, can be a reason to look again.
grant insert (tenant_id, wanted, due_at), update (due_at, requests) on provisioning to tenantry_tenant;
grant select, insert, update, delete on provisioning to tenantry_operator;

alter table provisioning_layers enable row level security;
alter table provisioning_layers force row level security;
create policy tenant_isolation on provisioning_layers to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on provisioning_layers to tenantry_operator using (true) with check (true);
grant select on provisioning_layers to tenantry_tenant;
grant select, insert, update, delete on provisioning_layers to tenantry_operator;

alter table dataplane_credentials enable row level security;
alter table dataplane_credentials force row level security;
create policy tenant_isolation on dataplane_credentials to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on dataplane_credentials to tenantry_operator using (true) with check (true);
grant select on dataplane_credentials to tenantry_tenant;
grant select, insert, update, delete on dataplane_credentials to tenantry_operator;
