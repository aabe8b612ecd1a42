-- When a tenant was not served as promised, and announced maintenance. A report made by mistake is withdrawn, not deleted.
create table outages (
  tenant_id    uuid not null,
  outage_id    uuid not null,
  kind         text not null check (kind in ('OUTAGE', 'MAINTENANCE')),
  began_at     timestamptz not null,
  ended_at     timestamptz,
  summary      text not null check (length(summary) between 1 and 2000),
  reported_by  text not null,
  withdrawn_at timestamptz,
  version      bigint not null default 1,
  created_at   timestamptz not null,
  updated_at   timestamptz not null,
  primary key (tenant_id, outage_id),
  constraint outages_order check (ended_at > began_at)
);
comment on table outages is 'erasure=delete';
create index outages_began_idx on outages (tenant_id, began_at, outage_id);
-- A month looks for what had not ended before it, and leaves the years before alone.
create index outages_ended_idx on outages (tenant_id, ended_at);

-- Operators, too, write in a session that is bound to the one tenant. Only they have the permission to.
alter table outages enable row level security;
alter table outages force row level security;
create policy tenant_isolation on outages to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on outages to tenantry_operator using (true) with check (true);
grant select, insert, update on outages to tenantry_tenant;
grant select on outages to tenantry_operator;
