-- Synchronisations of tenants' directories. At most one of a tenant runs: who runs it says so again and again (`seen_at`), and who says
-- nothing for long has stopped.
create table directory_syncs (
  tenant_id    uuid not null,
  sync_id      uuid not null,
  is_dry_run   boolean not null,
  state        text not null check (state in ('RUNNING', 'DONE', 'REFUSED', 'FAILED')),
  phase        text not null check (phase in ('CONNECTING', 'READING_PEOPLE', 'READING_GROUPS', 'COMPARING', 'WRITING', 'ENDED')),
  trigger      text not null check (trigger in ('REQUEST', 'SCHEDULE')),
  started_by   text not null,
  people_read  integer not null default 0 check (people_read >= 0),
  written      integer not null default 0 check (written >= 0),
  result       jsonb,
  reason       text,
  started_at   timestamptz not null,
  seen_at      timestamptz not null,
  ended_at     timestamptz,
  primary key (tenant_id, sync_id),
  check ((state = 'RUNNING') = (ended_at is null))
);
comment on table directory_syncs is 'erasure=delete';
create unique index directory_syncs_running on directory_syncs (tenant_id) where state = 'RUNNING';

alter table directory_syncs enable row level security;
alter table directory_syncs force row level security;
create policy tenant_isolation on directory_syncs to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on directory_syncs to tenantry_operator using (true) with check (true);
grant select, insert, update, delete on directory_syncs to tenantry_tenant;
grant select, delete on directory_syncs to tenantry_operator;
