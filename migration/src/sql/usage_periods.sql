-- Where an event's body says the quantity.
alter table usage_dimensions add column value_path text check (length(value_path) between 2 and 500);

-- When an event was used, where that is not when it counts: its period was closed when it came. Null where there is none such in a row.
alter table usage_inbox add column occurred timestamptz[];
alter table usage_events add column occurred timestamptz[];

-- Until when a tenant's usage is closed: nothing counts before `closing_until` any more. Once nothing that was let in before is under
-- way, that is said by `closed_until`.
create table usage_closings (
  tenant_id     uuid primary key,
  closing_until timestamptz not null,
  closed_until  timestamptz check (closed_until <= closing_until),
  closed_at     timestamptz
);
comment on table usage_closings is 'erasure=delete';

-- What corrects usage that was counted, and what came too late for its period: as it was booked, and with the reason that was given.
create table usage_corrections (
  tenant_id    uuid not null,
  key          uuid not null,
  dimension_id smallint not null references usage_dimensions (dimension_id),
  booked_at    timestamptz not null,
  occurred_at  timestamptz not null,
  received_at  timestamptz not null,
  quantity     numeric not null,
  labels       text not null,
  subject      text not null,
  reason       text not null,
  primary key (tenant_id, key)
);
comment on table usage_corrections is 'erasure=delete';
create index usage_corrections_booked_idx on usage_corrections (tenant_id, booked_at desc, key desc);

alter table usage_closings enable row level security;
alter table usage_closings force row level security;
create policy tenant_isolation on usage_closings to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on usage_closings to tenantry_operator using (true) with check (true);
grant select, insert, update on usage_closings to tenantry_tenant;
grant select, delete on usage_closings to tenantry_operator;

alter table usage_corrections enable row level security;
alter table usage_corrections force row level security;
create policy tenant_isolation on usage_corrections to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on usage_corrections to tenantry_operator using (true) with check (true);
grant select on usage_corrections to tenantry_tenant;
grant select, insert, delete on usage_corrections to tenantry_operator;
