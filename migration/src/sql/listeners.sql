-- The connections by which replicas hear of changes. While one is listed, what its replica has in memory may be answered from:
-- who changes something waits until every listed one has heard of it, or is past its time.
create table listeners (
  listener_id uuid primary key,
  good_until  timestamptz not null
) with (fillfactor = 50);
comment on table listeners is 'erasure=none; of replicas, not of tenants';
grant select, insert, update, delete on listeners to tenantry_operator;
alter table listeners enable row level security;
alter table listeners force row level security;
create policy operator_access on listeners to tenantry_operator using (true) with check (true);
