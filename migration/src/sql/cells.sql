-- PostgreSQL databases that hold what tenants have. What is known of one besides its secret is the platform's to read;
-- tenants' own sessions learn where they are from their placement alone.
create table cells (
  cell_id       uuid primary key,
  name          text not null check (name ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
  region        text not null,
  tier          text not null check (tier in ('STANDARD', 'ENTERPRISE', 'PREMIUM')),
  capacity      bigint not null check (capacity > 0),
  placed        bigint not null default 0 check (placed >= 0),
  reserved_for  uuid,
  state         text not null check (state in ('ACTIVE', 'DRAINING', 'RETIRED')),
  sealed_url    bytea not null,
  address       jsonb not null,
  identity      text not null,
  facts         jsonb not null,
  health        text not null check (health in ('HEALTHY', 'DEGRADED', 'UNHEALTHY', 'UNKNOWN')),
  health_reason text not null default '',
  health_since  timestamptz not null,
  is_own        boolean not null default false,
  version       bigint not null default 1,
  created_at    timestamptz not null,
  updated_at    timestamptz not null,
  constraint cells_name_key unique (name),
  constraint cells_identity_key unique (identity),
  constraint cells_reserved check (reserved_for is null or tier = 'PREMIUM')
);
comment on table cells is 'erasure=none; databases of the platform; a premium one is named after its tenant by id alone';
create unique index cells_own_idx on cells (is_own) where is_own;

-- How full a cell was at the end of each day: what "days to full" is told from.
create table cell_growth (
  cell_id uuid not null references cells (cell_id),
  day     date not null,
  placed  bigint not null,
  primary key (cell_id, day)
);
comment on table cell_growth is 'erasure=none; counts of tenants by day';

-- Where a tenant is, and why there.
create table placements (
  tenant_id     uuid primary key,
  cell_id       uuid not null references cells (cell_id),
  tier          text not null check (tier in ('STANDARD', 'ENTERPRISE', 'PREMIUM')),
  region        text not null,
  database_name text not null,
  reason        text not null,
  placed_at     timestamptz not null
);
comment on table placements is 'erasure=delete';
create index placements_cell_idx on placements (cell_id, tenant_id);

alter table cells enable row level security;
alter table cells force row level security;
create policy operator_access on cells to tenantry_operator using (true) with check (true);
grant select, insert, update, delete on cells to tenantry_operator;

alter table cell_growth enable row level security;
alter table cell_growth force row level security;
create policy operator_access on cell_growth to tenantry_operator using (true) with check (true);
grant select, insert, update, delete on cell_growth to tenantry_operator;

alter table placements enable row level security;
alter table placements force row level security;
create policy tenant_isolation on placements to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on placements to tenantry_operator using (true) with check (true);
grant select on placements to tenantry_tenant;
grant select, insert, update, delete on placements to tenantry_operator;
