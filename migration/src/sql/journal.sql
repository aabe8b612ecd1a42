-- The one append-only record of what was done: audit log, outbox, source of subscriptions. Per tenant the rows are
-- numbered without gaps and chained by hash; the platform's own entries have the nil tenant.
create table journal (
  tenant_id     uuid not null,
  sequence      bigint not null,
  entry_id      uuid not null,
  transaction   xid8 not null default pg_current_xact_id(),
  position      bigint generated always as identity,
  at            timestamptz not null,
  event         text not null,
  actor_kind    text not null check (actor_kind in ('OPERATOR', 'SERVICE', 'SYSTEM')),
  actor         text not null,
  subject_kind  text not null,
  subject_id    text not null,
  before        json,
  after         json,
  request_id    text,
  address       text,
  previous_hash bytea not null check (length(previous_hash) = 32),
  hash          bytea not null check (length(hash) = 32),
  primary key (tenant_id, sequence),
  constraint journal_tenant_entry_key unique (tenant_id, entry_id)
);
comment on table journal is 'erasure=delete';
-- Readers over all tenants follow (transaction, position) below the oldest running transaction, so they skip nothing.
create index journal_order_idx on journal (transaction, position);
create index journal_time_idx on journal (tenant_id, at, sequence);
-- Led by what is asked for, not by the tenant: they serve a tenant's list and the operators' over all tenants alike.
create index journal_event_idx on journal (event, tenant_id, sequence);
create index journal_actor_idx on journal (actor, tenant_id, sequence);
create index journal_subject_idx on journal (subject_id, tenant_id, sequence);

-- The last link of each chain; its row lock orders the writers of one tenant.
create table journal_heads (
  tenant_id  uuid primary key,
  sequence   bigint not null,
  hash       bytea not null check (length(hash) = 32),
  checkpoint bigint not null default 0,
  unsigned_since timestamptz
);
comment on table journal_heads is 'erasure=delete';
create index journal_heads_unsigned_idx on journal_heads (unsigned_since) where unsigned_since is not null;

-- Signed statements "entry N of this tenant had this hash": what was cut off or rewritten before them shows.
create table journal_checkpoints (
  tenant_id uuid not null,
  sequence  bigint not null,
  hash      bytea not null check (length(hash) = 32),
  at        timestamptz not null,
  kid       text not null,
  signature bytea not null,
  primary key (tenant_id, sequence)
);
comment on table journal_checkpoints is 'erasure=delete';

create function refuse_change() returns trigger language plpgsql set search_path = tenantry, pg_temp as $$
begin
  raise exception '% is append-only', tg_table_name using errcode = 'TY002';
end $$;
create trigger journal_append_only before update or delete on journal for each row execute function refuse_change();
create trigger journal_no_truncate before truncate on journal for each statement execute function refuse_change();
create trigger journal_checkpoints_append_only before update or delete on journal_checkpoints for each row execute function refuse_change();
create trigger journal_checkpoints_no_truncate before truncate on journal_checkpoints for each statement execute function refuse_change();

alter table journal enable row level security;
alter table journal force row level security;
create policy tenant_isolation on journal to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on journal to tenantry_operator using (true) with check (true);
grant select, insert on journal to tenantry_tenant, tenantry_operator;

alter table journal_heads enable row level security;
alter table journal_heads force row level security;
create policy tenant_isolation on journal_heads to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on journal_heads to tenantry_operator using (true) with check (true);
grant select, insert, update on journal_heads to tenantry_tenant, tenantry_operator;

alter table journal_checkpoints enable row level security;
alter table journal_checkpoints force row level security;
create policy tenant_isolation on journal_checkpoints to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on journal_checkpoints to tenantry_operator using (true) with check (true);
grant select on journal_checkpoints to tenantry_tenant;
grant select, insert on journal_checkpoints to tenantry_operator;
