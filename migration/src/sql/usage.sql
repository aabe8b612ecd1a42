-- What is measured. `dimension_id` stands for the key in rows of which there are many.
create table usage_dimensions (
  key          text primary key check (key ~ '^[a-z][a-z0-9_]{0,62}$'),
  dimension_id smallint not null unique,
  unit         text not null check (length(unit) between 1 and 63),
  description  text not null default '' check (length(description) <= 2000),
  aggregation  text not null check (aggregation in ('SUM', 'MAX', 'LAST', 'UNIQUE_COUNT', 'DAILY_UNIQUE_COUNT', 'TIME_WEIGHTED_AVERAGE')),
  unit_size    bigint not null default 1 check (unit_size > 0),
  rounding     text not null default 'NONE' check (rounding in ('NONE', 'UP', 'DOWN', 'HALF_UP')),
  group_by     jsonb not null default '[]' check (jsonb_typeof(group_by) = 'array'),
  version      bigint not null default 1,
  created_at   timestamptz not null,
  updated_at   timestamptz not null
);
comment on table usage_dimensions is 'erasure=none; the catalogue of what is measured, no tenant in it';

-- Before row-level security is forced: from then on not even the owner writes.
insert into usage_dimensions (key, dimension_id, unit, description, aggregation, unit_size, rounding, created_at, updated_at) values
  ('discovered_resources', 1, 'resource-days', 'Resources that were seen, each once a day.', 'DAILY_UNIQUE_COUNT', 1, 'NONE', now(), now()),
  ('api_calls', 2, 'calls', 'Calls of the API, sold by the thousand.', 'SUM', 1000, 'UP', now(), now()),
  ('graph_queries', 3, 'queries', 'Queries of the graph, sold by the hundred.', 'SUM', 100, 'UP', now(), now()),
  ('llm_tokens', 4, 'tokens', 'Tokens of language models, sold by the thousand.', 'SUM', 1000, 'UP', now(), now()),
  ('storage', 5, 'GB-months', 'What is stored, in GB: the average over the time, by how long it was stored.', 'TIME_WEIGHTED_AVERAGE', 1, 'NONE', now(), now()),
  ('users', 6, 'users', 'Users who were active.', 'UNIQUE_COUNT', 1, 'NONE', now(), now());

-- The key of each event that was accepted: it makes a second one of the same tenant a duplicate.
create table usage_keys (
  tenant_id   uuid not null,
  key         uuid not null,
  received_on date not null,
  primary key (tenant_id, key)
);
comment on table usage_keys is 'erasure=delete';
-- Rows lie as they came.
create index usage_keys_age_idx on usage_keys using brin (received_on);

-- Accepted events that no total has yet: one row for each tenant of a batch, the events side by side in its arrays. What is read is
-- totals and these.
create table usage_inbox (
  tenant_id   uuid not null,
  batch_id    uuid not null,
  received_at timestamptz not null,
  first_at    timestamptz not null,
  last_at     timestamptz not null,
  events      integer not null,
  keys        uuid[] not null,
  dimensions  smallint[] not null,
  times       timestamptz[] not null,
  quantities  numeric[] not null,
  groups      text[] not null,
  subjects    text[] not null,
  reasons     text[] not null,
  primary key (tenant_id, batch_id)
);
comment on table usage_inbox is 'erasure=delete';
create index usage_inbox_order_idx on usage_inbox (batch_id);

-- Events that are in totals.
create table usage_events (like usage_inbox including constraints, primary key (tenant_id, batch_id));
comment on table usage_events is 'erasure=delete';
create index usage_events_time_idx on usage_events (tenant_id, last_at);
create index usage_events_age_idx on usage_events using brin (received_at);

-- Totals of each quarter of an hour, which every time zone's hours and days are made of, and of each day of UTC.
create table usage_quarters (
  tenant_id    uuid not null,
  dimension_id smallint not null references usage_dimensions (dimension_id),
  begins       timestamptz not null,
  labels       text not null,
  events       bigint not null,
  total        numeric not null,
  peak         numeric not null,
  latest       numeric not null,
  latest_at    timestamptz not null,
  latest_key   uuid not null,
  primary key (tenant_id, dimension_id, begins, labels)
) with (fillfactor = 70);
comment on table usage_quarters is 'erasure=delete';
create table usage_days (like usage_quarters including constraints, primary key (tenant_id, dimension_id, begins, labels),
  foreign key (dimension_id) references usage_dimensions (dimension_id)) with (fillfactor = 70);
comment on table usage_days is 'erasure=delete';

-- Who or what was seen in a quarter of an hour, of dimensions that count each once. `member` is the MD5 of its name.
create table usage_members (
  tenant_id    uuid not null,
  dimension_id smallint not null references usage_dimensions (dimension_id),
  begins       timestamptz not null,
  labels       text not null,
  member       uuid not null,
  primary key (tenant_id, dimension_id, begins, labels, member)
);
comment on table usage_members is 'erasure=delete';

-- What something was from a moment on, of dimensions that are averaged over the time.
create table usage_points (
  tenant_id    uuid not null,
  dimension_id smallint not null references usage_dimensions (dimension_id),
  labels       text not null,
  at           timestamptz not null,
  key          uuid not null,
  quantity     numeric not null,
  primary key (tenant_id, dimension_id, labels, at, key)
);
comment on table usage_points is 'erasure=delete';

alter table usage_dimensions enable row level security;
alter table usage_dimensions force row level security;
create policy tenant_isolation on usage_dimensions for select to tenantry_tenant using (true);
create policy operator_access on usage_dimensions to tenantry_operator using (true) with check (true);
grant select on usage_dimensions to tenantry_tenant;
grant select, insert, update on usage_dimensions to tenantry_operator;

-- Events of several tenants are taken together, in one session over all of them: each was let in by its own scope.
alter table usage_keys enable row level security;
alter table usage_keys force row level security;
create policy tenant_isolation on usage_keys to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on usage_keys to tenantry_operator using (true) with check (true);
grant select on usage_keys to tenantry_tenant;
grant select, insert, delete on usage_keys to tenantry_operator;

alter table usage_inbox enable row level security;
alter table usage_inbox force row level security;
create policy tenant_isolation on usage_inbox to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on usage_inbox to tenantry_operator using (true) with check (true);
grant select on usage_inbox to tenantry_tenant;
grant select, insert, update, delete on usage_inbox to tenantry_operator;

alter table usage_events enable row level security;
alter table usage_events force row level security;
create policy tenant_isolation on usage_events to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on usage_events to tenantry_operator using (true) with check (true);
grant select on usage_events to tenantry_tenant;
grant select, insert, delete on usage_events to tenantry_operator;

alter table usage_quarters enable row level security;
alter table usage_quarters force row level security;
create policy tenant_isolation on usage_quarters to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on usage_quarters to tenantry_operator using (true) with check (true);
grant select on usage_quarters to tenantry_tenant;
grant select, insert, update, delete on usage_quarters to tenantry_operator;

alter table usage_days enable row level security;
alter table usage_days force row level security;
create policy tenant_isolation on usage_days to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on usage_days to tenantry_operator using (true) with check (true);
grant select on usage_days to tenantry_tenant;
grant select, insert, update, delete on usage_days to tenantry_operator;

alter table usage_members enable row level security;
alter table usage_members force row level security;
create policy tenant_isolation on usage_members to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on usage_members to tenantry_operator using (true) with check (true);
grant select on usage_members to tenantry_tenant;
grant select, insert, delete on usage_members to tenantry_operator;

alter table usage_points enable row level security;
alter table usage_points force row level security;
create policy tenant_isolation on usage_points to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on usage_points to tenantry_operator using (true) with check (true);
grant select on usage_points to tenantry_tenant;
grant select, insert, delete on usage_points to tenantry_operator;
