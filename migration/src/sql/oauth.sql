-- Clients of the token endpoint. The platform's own have the nil tenant.
create table oauth_clients (
  tenant_id    uuid not null,
  client_id    uuid not null,
  name         text not null check (length(name) between 1 and 200),
  scopes       text[] not null,
  roles        text[] not null default '{}',
  secret_hash  bytea check (length(secret_hash) = 32),
  jwks         jsonb,
  created_at   timestamptz not null,
  expires_at   timestamptz,
  disabled_at  timestamptz,
  last_used_at timestamptz,
  version      bigint not null default 1,
  primary key (tenant_id, client_id),
  constraint oauth_clients_client_id_key unique (client_id),
  constraint oauth_clients_credential check (secret_hash is not null or jwks is not null),
  constraint oauth_clients_roles check (roles = '{}' or tenant_id = '00000000-0000-0000-0000-000000000000')
);
comment on table oauth_clients is 'erasure=delete';
comment on constraint oauth_clients_client_id_key on oauth_clients is 'global=random ids; the token endpoint finds the client by it alone';

-- Whose tokens died before they expired: read into memory when a replica begins to listen.
create index oauth_clients_disabled_idx on oauth_clients (disabled_at) where disabled_at is not null;

-- Tokens revoked before they expired (RFC 7009); kept until they would have.
create table revoked_tokens (
  tenant_id  uuid not null,
  jti_hash   bytea not null check (length(jti_hash) = 32),
  revoked_at timestamptz not null,
  expires_at timestamptz not null,
  primary key (tenant_id, jti_hash)
);
comment on table revoked_tokens is 'erasure=delete';
create index revoked_tokens_expiry_idx on revoked_tokens (expires_at);

-- Client assertions that were used (RFC 7523, section 3, `jti`), so that none works twice.
create table used_assertions (
  tenant_id  uuid not null,
  client_id  uuid not null,
  jti_hash   bytea not null check (length(jti_hash) = 32),
  expires_at timestamptz not null,
  primary key (tenant_id, client_id, jti_hash)
);
comment on table used_assertions is 'erasure=delete';
create index used_assertions_expiry_idx on used_assertions (expires_at);

-- Own signing keys. The private half is sealed with the master key, and destroyed when the key retires.
create table signing_keys (
  kid            text primary key,
  public_jwk     jsonb not null,
  sealed_private bytea,
  created_at     timestamptz not null,
  retired_at     timestamptz,
  revoked_at     timestamptz,
  constraint signing_keys_private check ((sealed_private is null) = (retired_at is not null)),
  constraint signing_keys_revoked check (revoked_at is null or retired_at is not null)
);
comment on table signing_keys is 'erasure=none; keys of the platform itself';
-- One key signs: replicas that start or rotate at once agree through this.
create unique index signing_keys_active_idx on signing_keys ((true)) where retired_at is null;

alter table oauth_clients enable row level security;
alter table oauth_clients force row level security;
create policy tenant_isolation on oauth_clients to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on oauth_clients to tenantry_operator using (true) with check (true);
grant select, insert, update on oauth_clients to tenantry_tenant, tenantry_operator;

alter table revoked_tokens enable row level security;
alter table revoked_tokens force row level security;
create policy tenant_isolation on revoked_tokens to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on revoked_tokens to tenantry_operator using (true) with check (true);
grant select, insert on revoked_tokens to tenantry_tenant;
grant select, insert, delete on revoked_tokens to tenantry_operator;

alter table used_assertions enable row level security;
alter table used_assertions force row level security;
create policy tenant_isolation on used_assertions to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on used_assertions to tenantry_operator using (true) with check (true);
grant select, insert, delete on used_assertions to tenantry_operator;

alter table signing_keys enable row level security;
alter table signing_keys force row level security;
create policy operator_access on signing_keys to tenantry_operator using (true) with check (true);
grant select, insert, update on signing_keys to tenantry_operator;
