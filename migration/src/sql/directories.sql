-- How a tenant's directory (LDAP) is reached and read. The bind secret is sealed with the tenant's own key.
create table directories (
  tenant_id     uuid primary key,
  settings      jsonb not null check (jsonb_typeof(settings) = 'object'),
  key_version   bigint not null,
  sealed_secret bytea not null,
  secret_set_at timestamptz not null,
  next_sync_at  timestamptz, -- null: nobody waits for one
  version       bigint not null check (version > 0),
  created_at    timestamptz not null,
  updated_at    timestamptz not null,
  foreign key (tenant_id, key_version) references tenant_keys deferrable
);
comment on table directories is 'erasure=delete';
create index directories_key_idx on directories (tenant_id, key_version);
create index directories_next_sync_idx on directories (next_sync_at) where next_sync_at is not null;

-- What operators permit to a tenant's directory that is not safe by itself. Tenants read it and cannot change it.
create table directory_permits (
  tenant_id    uuid primary key,
  plain_text   boolean not null,
  unverified   boolean not null,
  reason       text not null check (length(reason) between 1 and 500),
  version      bigint not null check (version > 0),
  created_at   timestamptz not null,
  updated_at   timestamptz not null
);
comment on table directory_permits is 'erasure=delete';

alter table directories enable row level security;
alter table directories force row level security;
create policy tenant_isolation on directories to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on directories to tenantry_operator using (true) with check (true);
grant select, insert, update, delete on directories to tenantry_tenant;
grant select (tenant_id, next_sync_at), delete on directories to tenantry_operator;

alter table directory_permits enable row level security;
alter table directory_permits force row level security;
create policy tenant_isolation on directory_permits to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on directory_permits to tenantry_operator using (true) with check (true);
grant select on directory_permits to tenantry_tenant;
grant select, insert, update, delete on directory_permits to tenantry_operator;
