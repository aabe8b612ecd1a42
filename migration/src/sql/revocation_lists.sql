-- What authorities have revoked, by the newest list of each: of everything, or of a part that its scope and distribution points (in lines) say.
-- `authority` is the SHA-256 of an authority's name and key.
create table revocation_lists (
  tenant_id           uuid not null,
  list_id             uuid not null,
  authority           bytea not null check (octet_length(authority) = 32),
  scope               text not null check (scope in ('ALL', 'AUTHORITIES', 'USERS')),
  distribution_points text not null,
  issuer              text not null,
  source              text not null check (source in ('UPLOADED', 'FETCHED')),
  number              text,
  this_update         timestamptz not null,
  next_update         timestamptz not null,
  revoked             text[] not null,
  added_at            timestamptz not null,
  primary key (tenant_id, list_id),
  constraint revocation_lists_newest unique (tenant_id, authority, scope, distribution_points)
);
comment on table revocation_lists is 'erasure=delete';

alter table revocation_lists enable row level security;
alter table revocation_lists force row level security;
create policy tenant_isolation on revocation_lists to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on revocation_lists to tenantry_operator using (true) with check (true);
grant select, insert, update, delete on revocation_lists to tenantry_tenant;
grant select, delete on revocation_lists to tenantry_operator;
