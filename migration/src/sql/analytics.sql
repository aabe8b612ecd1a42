-- What tenants asked of the server, by quarters of an hour of UTC, which every time zone's hours and days are made of. `buckets` is how
-- many took how long: the n-th is of those that took from 2^((n-1)/8) to 2^(n/8) microseconds.
create table request_quarters (
  tenant_id uuid not null,
  begins    timestamptz not null,
  operation text not null check (length(operation) <= 200),
  outcome   text not null,
  requests  bigint not null,
  buckets   integer[] not null,
  primary key (tenant_id, begins, operation, outcome)
) with (fillfactor = 70);
comment on table request_quarters is 'erasure=delete';
create index request_quarters_age_idx on request_quarters using brin (begins);

-- Whose tokens were sent in a quarter of an hour: the beginning of a SHA-256 of tenant and subject.
create table request_callers (
  tenant_id uuid not null,
  begins    timestamptz not null,
  caller    uuid not null,
  primary key (tenant_id, begins, caller)
);
comment on table request_callers is 'erasure=delete';
create index request_callers_age_idx on request_callers using brin (begins);

-- What was asked of several tenants is written together, in one session over all of them.
alter table request_quarters enable row level security;
alter table request_quarters force row level security;
create policy tenant_isolation on request_quarters to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on request_quarters to tenantry_operator using (true) with check (true);
grant select on request_quarters to tenantry_tenant;
grant select, insert, update, delete on request_quarters to tenantry_operator;

alter table request_callers enable row level security;
alter table request_callers force row level security;
create policy tenant_isolation on request_callers to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on request_callers to tenantry_operator using (true) with check (true);
grant select on request_callers to tenantry_tenant;
grant select, insert, delete on request_callers to tenantry_operator;
