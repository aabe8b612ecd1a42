-- Time-based codes of members (RFC 6238): the secret, sealed with the tenant's key, and the last step that was used.
create table member_totp (
  tenant_id    uuid not null,
  member_id    uuid not null,
  sealed       bytea not null,
  key_version  bigint not null,
  confirmed_at timestamptz,
  last_step    bigint not null,
  created_at   timestamptz not null,
  primary key (tenant_id, member_id),
  foreign key (tenant_id, member_id) references members on delete cascade,
  foreign key (tenant_id, key_version) references tenant_keys deferrable
);
comment on table member_totp is 'erasure=delete';

-- Codes that work once, where the device is lost: the SHA-256 of each.
create table member_recovery_codes (
  tenant_id uuid not null,
  member_id uuid not null,
  code_hash bytea not null check (length(code_hash) = 32),
  primary key (tenant_id, member_id, code_hash),
  foreign key (tenant_id, member_id) references members on delete cascade
);
comment on table member_recovery_codes is 'erasure=delete';

alter table member_totp enable row level security;
alter table member_totp force row level security;
create policy tenant_isolation on member_totp to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on member_totp to tenantry_operator using (true) with check (true);
grant select, insert, update, delete on member_totp to tenantry_tenant;
grant select (tenant_id, member_id), delete on member_totp to tenantry_operator;

alter table member_recovery_codes enable row level security;
alter table member_recovery_codes force row level security;
create policy tenant_isolation on member_recovery_codes to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on member_recovery_codes to tenantry_operator using (true) with check (true);
grant select, insert, update, delete on member_recovery_codes to tenantry_tenant;
grant select (tenant_id, member_id), delete on member_recovery_codes to tenantry_operator;
