-- What a tenant's partners may do to it, and until when. The row is the accessed tenant's, who can read who reaches in; what a
-- partner reaches it does not read here by itself.
create table partner_access (
  tenant_id  uuid not null,
  partner_id uuid not null,
  scopes     text[] not null check (cardinality(scopes) > 0),
  expires_at timestamptz not null,
  reason     text not null check (length(reason) between 1 and 2000),
  granted_by text not null,
  granted_at timestamptz not null,
  revoked_at timestamptz,
  version    bigint not null,
  primary key (tenant_id, partner_id),
  constraint partner_access_other check (partner_id <> tenant_id),
  constraint partner_access_time check (expires_at > granted_at)
);
comment on table partner_access is 'erasure=delete; rows that name an erased tenant as the partner open nothing: ids are never reused';
create index partner_access_partner_idx on partner_access (partner_id, tenant_id);

alter table partner_access enable row level security;
alter table partner_access force row level security;
create policy tenant_isolation on partner_access to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on partner_access to tenantry_operator using (true) with check (true);
grant select on partner_access to tenantry_tenant;
grant select, insert, update on partner_access to tenantry_operator;

-- One more kind of actor. `not valid`: rows that are there satisfied the narrower rule, so the table need not be read.
alter table journal drop constraint journal_actor_kind_check;
alter table journal add constraint journal_actor_kind_check
  check (actor_kind in ('OPERATOR', 'SERVICE', 'PARTNER', 'SYSTEM')) not valid;
