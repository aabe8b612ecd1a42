-- When a tenant wants to be told of its usage. `rule_id` stays with its alerts: a rule that is set again after it was deleted is another.
create table usage_alert_rules (
  tenant_id    uuid not null,
  key          text not null check (key ~ '^[a-z][a-z0-9_]{0,62}$'),
  rule_id      uuid not null,
  dimension    text not null,
  dimension_id smallint not null references usage_dimensions (dimension_id),
  labels       jsonb not null check (jsonb_typeof(labels) = 'object'),
  period       text not null check (period in ('DAY', 'MONTH')),
  thresholds   jsonb not null check (jsonb_typeof(thresholds) = 'array' and jsonb_array_length(thresholds) between 1 and 10),
  alert_limit  numeric check (alert_limit > 0),
  version      bigint not null check (version > 0),
  created_at   timestamptz not null,
  updated_at   timestamptz not null,
  primary key (tenant_id, key),
  unique (tenant_id, rule_id)
);
comment on table usage_alert_rules is 'erasure=delete';
create index usage_alert_rules_dimension_idx on usage_alert_rules (tenant_id, dimension_id);

-- What has to be looked at: usage from the first to the last moment has gone into totals, or a rule was set. Rows are only added and
-- taken, each once, so that nobody who adds waits for who looks.
create table usage_alert_looks (
  tenant_id    uuid not null,
  look_id      uuid not null,
  dimension_id smallint not null,
  first_at     timestamptz not null,
  last_at      timestamptz not null,
  primary key (tenant_id, look_id)
);
comment on table usage_alert_looks is 'erasure=delete';

-- Alerts as they fired: the key is what makes each of them fire once. Nobody may change one.
create table usage_alerts (
  tenant_id    uuid not null,
  rule_id      uuid not null,
  period_begin timestamptz not null,
  threshold    text not null,
  alert_id     uuid not null,
  period_end   timestamptz not null,
  period       text not null,
  rule         text not null,
  rule_version bigint not null,
  dimension    text not null,
  labels       jsonb not null,
  quantity     numeric not null,
  total        numeric not null,
  alert_limit  numeric,
  percent      numeric,
  fired_at     timestamptz not null,
  primary key (tenant_id, rule_id, period_begin, threshold),
  unique (tenant_id, alert_id)
);
comment on table usage_alerts is 'erasure=delete';

alter table usage_alert_rules enable row level security;
alter table usage_alert_rules force row level security;
create policy tenant_isolation on usage_alert_rules to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on usage_alert_rules to tenantry_operator using (true) with check (true);
grant select, insert, update, delete on usage_alert_rules to tenantry_tenant;
grant select, delete on usage_alert_rules to tenantry_operator;

alter table usage_alert_looks enable row level security;
alter table usage_alert_looks force row level security;
create policy tenant_isolation on usage_alert_looks to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on usage_alert_looks to tenantry_operator using (true) with check (true);
-- `update` is what a row lock asks for.
grant select, insert, update, delete on usage_alert_looks to tenantry_tenant;
grant select, insert, delete on usage_alert_looks to tenantry_operator;

alter table usage_alerts enable row level security;
alter table usage_alerts force row level security;
create policy tenant_isolation on usage_alerts to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on usage_alerts to tenantry_operator using (true) with check (true);
grant select, insert on usage_alerts to tenantry_tenant;
grant select, delete on usage_alerts to tenantry_operator;
