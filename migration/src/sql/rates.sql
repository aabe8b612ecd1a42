-- What replicas tell each other: how much of a limit per second was taken, in all (tokens) and of that is still owed (millionths of
-- a token, as of counted_at). Unlogged: it is about the last second, and a server that crashed begins anew.
create unlogged table rate_usage (
  tenant_id  uuid not null,
  quota_key  text not null,
  consumed   bigint not null check (consumed >= 0),
  debt       bigint not null check (debt >= 0),
  per_second bigint not null check (per_second >= 0),
  counted_at timestamptz not null,
  primary key (tenant_id, quota_key)
) with (fillfactor = 50);
comment on table rate_usage is 'erasure=delete';

-- Replicas write for all their tenants at once, as the platform; a tenant's own session has no business here.
alter table rate_usage enable row level security;
alter table rate_usage force row level security;
create policy tenant_isolation on rate_usage to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on rate_usage to tenantry_operator using (true) with check (true);
grant select, insert, update, delete on rate_usage to tenantry_operator;
