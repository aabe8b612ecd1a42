-- Whose child a tenant is. The row is the child's: who its children are, a tenant does not see by itself.
create table tenant_parents (
  tenant_id  uuid primary key,
  parent_id  uuid not null,
  barrier    boolean not null,
  rolls_up   boolean not null,
  version    bigint not null,
  updated_at timestamptz not null,
  constraint tenant_parents_other check (parent_id <> tenant_id)
);
comment on table tenant_parents is 'erasure=delete';
create index tenant_parents_children_idx on tenant_parents (parent_id, tenant_id);

alter table tenant_parents enable row level security;
alter table tenant_parents force row level security;
create policy tenant_isolation on tenant_parents to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on tenant_parents to tenantry_operator using (true) with check (true);
grant select on tenant_parents to tenantry_tenant;
grant select, insert, update, delete on tenant_parents to tenantry_operator;
