-- Each tenant's keys. A ring says which data key seals and which wrapping key wraps; it outlives the keys, so that a tenant whose
-- keys were destroyed gets no new ones. References can be deferred: erasure deletes in any order.
create table tenant_key_rings (
  tenant_id         uuid primary key,
  active_version    bigint not null default 0 check (active_version >= 0), -- 0: the first is still to be made
  active_generation bigint not null check (active_generation > 0),
  shredded_at       timestamptz,
  due_at            timestamptz, -- when the schedule looks at it; null: there is nothing to do
  attempts          int not null default 0,
  created_at        timestamptz not null,
  updated_at        timestamptz not null
);
comment on table tenant_key_rings is 'erasure=delete';
create index tenant_key_rings_due_idx on tenant_key_rings (due_at) where due_at is not null;

-- Wrapping keys at their providers. A row comes before the key, so that none is ever forgotten there.
create table tenant_wrapping_keys (
  tenant_id    uuid not null references tenant_key_rings deferrable,
  generation   bigint not null check (generation > 0),
  provider     text not null check (provider in ('local', 'transit', 'kms', 'pkcs11')),
  reference    text, -- what the provider calls it; null until it is made
  created_at   timestamptz not null,
  destroyed_at timestamptz,
  primary key (tenant_id, generation)
);
comment on table tenant_wrapping_keys is 'erasure=delete';

-- Data keys, wrapped. What one has sealed refers to it, so that none goes while it is needed.
create table tenant_keys (
  tenant_id    uuid not null,
  version      bigint not null check (version > 0),
  generation   bigint not null,
  wrapped      bytea, -- null once destroyed
  created_at   timestamptz not null,
  replaced_at  timestamptz, -- when the next version took over
  wrapped_at   timestamptz not null,
  primary key (tenant_id, version),
  foreign key (tenant_id, generation) references tenant_wrapping_keys deferrable
);
comment on table tenant_keys is 'erasure=delete';
create index tenant_keys_generation_idx on tenant_keys (tenant_id, generation);

-- Secrets of a tenant by name (passwords, DSNs, credentials of providers), sealed.
create table tenant_secrets (
  tenant_id   uuid not null,
  name        text not null check (length(name) between 1 and 200),
  key_version bigint not null,
  sealed      bytea not null,
  created_at  timestamptz not null,
  updated_at  timestamptz not null,
  primary key (tenant_id, name),
  foreign key (tenant_id, key_version) references tenant_keys deferrable
);
comment on table tenant_secrets is 'erasure=delete';
create index tenant_secrets_key_idx on tenant_secrets (tenant_id, key_version);

alter table tenant_key_rings enable row level security;
alter table tenant_key_rings force row level security;
create policy tenant_isolation on tenant_key_rings to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on tenant_key_rings to tenantry_operator using (true) with check (true);
grant select, insert, update on tenant_key_rings to tenantry_tenant;
grant select, update on tenant_key_rings to tenantry_operator;

alter table tenant_wrapping_keys enable row level security;
alter table tenant_wrapping_keys force row level security;
create policy tenant_isolation on tenant_wrapping_keys to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on tenant_wrapping_keys to tenantry_operator using (true) with check (true);
grant select, insert, update on tenant_wrapping_keys to tenantry_tenant;
grant select on tenant_wrapping_keys to tenantry_operator;

alter table tenant_keys enable row level security;
alter table tenant_keys force row level security;
create policy tenant_isolation on tenant_keys to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on tenant_keys to tenantry_operator using (true) with check (true);
grant select, insert, update, delete on tenant_keys to tenantry_tenant;
grant select on tenant_keys to tenantry_operator;

alter table tenant_secrets enable row level security;
alter table tenant_secrets force row level security;
create policy tenant_isolation on tenant_secrets to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on tenant_secrets to tenantry_operator using (true) with check (true);
grant select, insert, update, delete on tenant_secrets to tenantry_tenant;
grant select on tenant_secrets to tenantry_operator;
