-- What each tenant asks of the sessions of its members; where there is no row, the server's own rules hold.
create table session_policies (
  tenant_id       uuid not null primary key,
  session_seconds bigint not null check (session_seconds > 0),
  idle_seconds    bigint not null check (idle_seconds > 0),
  most_sessions   integer not null check (most_sessions > 0),
  multi_factor    text not null check (multi_factor in ('OFF', 'OPTIONAL', 'REQUIRED', 'REQUIRED_FOR_ADMINS')),
  version         bigint not null check (version > 0),
  updated_at      timestamptz not null
);
comment on table session_policies is 'erasure=delete';

-- Sessions of members. Each is good while it has not ended, its times are not over, and the access epochs of tenant and member are those
-- that it began under. `generation` is that of the one refresh token that is good: an earlier one ends the session.
create table member_sessions (
  tenant_id    uuid not null,
  session_id   uuid not null,
  member_id    uuid not null,
  method       text not null check (method in ('PASSWORD', 'DIRECTORY', 'CERTIFICATE', 'SSO')),
  amr          text[] not null,
  tenant_epoch bigint not null,
  member_epoch bigint not null,
  generation   bigint not null,
  address      text,
  began_at     timestamptz not null,
  refreshed_at timestamptz not null,
  idle_at      timestamptz not null,
  expires_at   timestamptz not null,
  ended_at     timestamptz,
  end_reason   text,
  primary key (tenant_id, session_id),
  foreign key (tenant_id, member_id) references members on delete cascade,
  constraint member_sessions_ended check ((ended_at is null) = (end_reason is null))
);
comment on table member_sessions is 'erasure=delete';
create index member_sessions_member_idx on member_sessions (tenant_id, member_id, session_id);
create index member_sessions_expires_idx on member_sessions (expires_at);

-- Attempts to sign in that failed: of what, by the SHA-256 of its name. `until`: the next attempt is not looked at before.
create table sign_in_attempts (
  tenant_id uuid not null,
  name_hash bytea not null check (length(name_hash) = 32),
  failures  integer not null,
  failed_at timestamptz not null,
  until     timestamptz not null,
  primary key (tenant_id, name_hash)
);
comment on table sign_in_attempts is 'erasure=delete';
create index sign_in_attempts_failed_idx on sign_in_attempts (failed_at);

-- Addresses that a member has signed in from: the SHA-256 of account and address.
create table sign_in_addresses (
  tenant_id uuid not null,
  name_hash bytea not null check (length(name_hash) = 32),
  last_at   timestamptz not null,
  primary key (tenant_id, name_hash)
);
comment on table sign_in_addresses is 'erasure=delete';
create index sign_in_addresses_last_idx on sign_in_addresses (last_at);

alter table session_policies enable row level security;
alter table session_policies force row level security;
create policy tenant_isolation on session_policies to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on session_policies to tenantry_operator using (true) with check (true);
grant select, insert, update, delete on session_policies to tenantry_tenant;
grant select, delete on session_policies to tenantry_operator;

alter table member_sessions enable row level security;
alter table member_sessions force row level security;
create policy tenant_isolation on member_sessions to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on member_sessions to tenantry_operator using (true) with check (true);
grant select, insert, update, delete on member_sessions to tenantry_tenant;
grant select, delete on member_sessions to tenantry_operator;

alter table sign_in_attempts enable row level security;
alter table sign_in_attempts force row level security;
create policy tenant_isolation on sign_in_attempts to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on sign_in_attempts to tenantry_operator using (true) with check (true);
grant select, insert, update, delete on sign_in_attempts to tenantry_tenant;
grant select, delete on sign_in_attempts to tenantry_operator;

alter table sign_in_addresses enable row level security;
alter table sign_in_addresses force row level security;
create policy tenant_isolation on sign_in_addresses to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on sign_in_addresses to tenantry_operator using (true) with check (true);
grant select, insert, update, delete on sign_in_addresses to tenantry_tenant;
grant select, delete on sign_in_addresses to tenantry_operator;
