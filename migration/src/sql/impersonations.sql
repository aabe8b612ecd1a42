-- Operators inside a tenant: who, why, with which scopes, and until when. Each is good while it has not ended, its time is not over, and the
-- tenant's access epoch is the one that it began under. Where the operator had a session, it goes on no longer than that.
create table impersonations (
  tenant_id        uuid not null,
  impersonation_id uuid not null,
  operator         text not null,
  operator_session uuid,
  reason           text not null,
  scopes           text[] not null check (cardinality(scopes) > 0),
  tenant_epoch     bigint not null,
  began_at         timestamptz not null,
  ends_at          timestamptz not null,
  ended_at         timestamptz,
  ended_by_kind    text,
  ended_by         text,
  primary key (tenant_id, impersonation_id),
  constraint impersonations_end check (ends_at > began_at),
  constraint impersonations_ended check ((ended_at is null) = (ended_by is null) and (ended_by is null) = (ended_by_kind is null))
);
comment on table impersonations is 'erasure=delete';
create index impersonations_ends_idx on impersonations (ends_at);

alter table impersonations enable row level security;
alter table impersonations force row level security;
create policy tenant_isolation on impersonations to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on impersonations to tenantry_operator using (true) with check (true);
grant select, insert, update on impersonations to tenantry_tenant;
grant select, delete on impersonations to tenantry_operator;
