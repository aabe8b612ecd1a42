-- Layers that tenants of a plan cannot do without: their cell has to have the extension.
alter table plans add column required_layers jsonb not null default '[]' check (jsonb_typeof(required_layers) = 'array');

-- Secrets of a tenant's data plane are sealed with its own data key, so that they end with it. Null: sealed with the platform's,
-- by a release from before; gone with their next renewal.
alter table dataplane_credentials add column key_version bigint,
  add constraint dataplane_credentials_key_fkey foreign key (tenant_id, key_version) references tenant_keys deferrable;
create index dataplane_credentials_key_idx on dataplane_credentials (tenant_id, key_version);
