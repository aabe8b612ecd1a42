-- People who belong to a tenant. The same address in two tenants is two members. `email_key` is the address in small letters; `roles` are
-- keys of shipped roles, or of the tenant's own. Sessions and links of an earlier `access_epoch` are worth nothing.
create table members (
  tenant_id      uuid not null,
  member_id      uuid not null,
  email          text not null check (length(email) between 3 and 254),
  email_key      text not null,
  name           text not null check (length(name) <= 200),
  status         text not null check (status in ('INVITED', 'ACTIVE', 'DEACTIVATED')),
  source         text not null check (source in ('LOCAL', 'DIRECTORY', 'SSO', 'SCIM')),
  external_id    text check (length(external_id) between 1 and 512),
  roles          text[] not null,
  access_epoch   bigint not null default 1,
  version        bigint not null check (version > 0),
  created_at     timestamptz not null,
  updated_at     timestamptz not null,
  primary key (tenant_id, member_id),
  constraint members_email unique (tenant_id, email_key),
  constraint members_external unique (tenant_id, source, external_id)
);
comment on table members is 'erasure=delete';
create index members_owners_idx on members (tenant_id, member_id) where 'owner' = any (roles);

-- A tenant's own roles: scopes by a name.
create table member_roles (
  tenant_id   uuid not null,
  key         text not null check (key ~ '^[a-z][a-z0-9_-]{0,62}$'),
  description text not null check (length(description) <= 500),
  scopes      text[] not null,
  version     bigint not null check (version > 0),
  created_at  timestamptz not null,
  updated_at  timestamptz not null,
  primary key (tenant_id, key)
);
comment on table member_roles is 'erasure=delete';

-- Links that work once: the SHA-256 of the secret in each. A new one takes the place of the one before.
create table member_links (
  tenant_id  uuid not null,
  member_id  uuid not null,
  purpose    text not null check (purpose in ('INVITATION', 'PASSWORD')),
  token_hash bytea not null check (length(token_hash) = 32),
  created_at timestamptz not null,
  expires_at timestamptz not null,
  primary key (tenant_id, member_id, purpose),
  foreign key (tenant_id, member_id) references members on delete cascade
);
comment on table member_links is 'erasure=delete';
create index member_links_expires_idx on member_links (expires_at);

-- Passwords by argon2id (RFC 9106), with what each was made with.
create table member_passwords (
  tenant_id   uuid not null,
  member_id   uuid not null,
  salt        bytea not null check (length(salt) >= 16),
  hash        bytea not null check (length(hash) = 32),
  memory_kib  integer not null check (memory_kib > 0),
  iterations  integer not null check (iterations > 0),
  changed_at  timestamptz not null,
  primary key (tenant_id, member_id),
  foreign key (tenant_id, member_id) references members on delete cascade
);
comment on table member_passwords is 'erasure=delete';

-- Seats that were taken or given back, and are not yet counted in the quota: written with the members, gone once it is counted.
create table member_seats (
  tenant_id      uuid not null,
  change_id      uuid not null,
  reservation_id uuid,
  amount         bigint not null check (amount <> 0),
  created_at     timestamptz not null,
  primary key (tenant_id, change_id)
);
comment on table member_seats is 'erasure=delete';
create index member_seats_created_idx on member_seats (created_at);

alter table members enable row level security;
alter table members force row level security;
create policy tenant_isolation on members to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on members to tenantry_operator using (true) with check (true);
grant select, insert, update, delete on members to tenantry_tenant;
grant select, delete on members to tenantry_operator;

alter table member_roles enable row level security;
alter table member_roles force row level security;
create policy tenant_isolation on member_roles to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on member_roles to tenantry_operator using (true) with check (true);
grant select, insert, update, delete on member_roles to tenantry_tenant;
grant select, delete on member_roles to tenantry_operator;

alter table member_links enable row level security;
alter table member_links force row level security;
create policy tenant_isolation on member_links to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on member_links to tenantry_operator using (true) with check (true);
grant select, insert, update, delete on member_links to tenantry_tenant;
grant select, delete on member_links to tenantry_operator;

alter table member_seats enable row level security;
alter table member_seats force row level security;
create policy tenant_isolation on member_seats to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on member_seats to tenantry_operator using (true) with check (true);
grant select, insert, update, delete on member_seats to tenantry_tenant;
grant select, delete on member_seats to tenantry_operator;

-- Nobody reads hashes over all tenants.
alter table member_passwords enable row level security;
alter table member_passwords force row level security;
create policy tenant_isolation on member_passwords to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on member_passwords to tenantry_operator using (true) with check (true);
grant select, insert, update, delete on member_passwords to tenantry_tenant;
grant select (tenant_id, member_id), delete on member_passwords to tenantry_operator;

-- One more kind of actor. `not valid`: rows that are there satisfied the narrower rule, so the table need not be read.
alter table journal drop constraint journal_actor_kind_check;
alter table journal add constraint journal_actor_kind_check
  check (actor_kind in ('OPERATOR', 'SERVICE', 'MEMBER', 'PARTNER', 'SYSTEM')) not valid;
