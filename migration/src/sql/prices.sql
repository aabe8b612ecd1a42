-- What is asked for a plan from a moment on, in one currency; without a plan, for all that have no price of their own. Rows are only added:
-- what was priced stays priced.
create table prices (
  price_id       uuid primary key,
  plan           text,
  currency       text not null check (currency ~ '^[A-Z]{3}$'),
  effective_from timestamptz not null,
  components     jsonb not null check (jsonb_typeof(components) = 'array'),
  created_at     timestamptz not null,
  constraint prices_plan_fkey foreign key (plan) references plans (key),
  constraint prices_once unique nulls not distinct (plan, currency, effective_from)
);
comment on table prices is 'erasure=none; the catalogue of what is sold, no tenant in it';

-- What a single quantity costs the platform itself from a moment on. No tenant may know it.
create table unit_costs (
  dimension_id   smallint not null references usage_dimensions (dimension_id),
  currency       text not null check (currency ~ '^[A-Z]{3}$'),
  effective_from timestamptz not null,
  cost           numeric not null check (cost >= 0),
  created_at     timestamptz not null,
  constraint unit_costs_pkey primary key (dimension_id, currency, effective_from)
);
comment on table unit_costs is 'erasure=none; what the platform pays, no tenant in it';

-- When a tenant went to another plan: what it used before is priced by the one that it was on. A tenant without a row has always been on
-- the plan that it is on.
create table tenant_plan_changes (
  tenant_id  uuid not null,
  version    bigint not null,
  changed_at timestamptz not null,
  plan       text not null,
  before     text not null,
  primary key (tenant_id, version)
);
comment on table tenant_plan_changes is 'erasure=delete';

-- What tenants want to spend in a month, of one dimension or of everything. `budget_id` stays with its alerts.
create table usage_budgets (
  tenant_id    uuid not null,
  key          text not null check (key ~ '^[a-z][a-z0-9_]{0,62}$'),
  budget_id    uuid not null,
  dimension    text,
  dimension_id smallint references usage_dimensions (dimension_id),
  currency     text not null check (currency ~ '^[A-Z]{3}$'),
  amount       numeric not null check (amount > 0),
  thresholds   jsonb not null check (jsonb_typeof(thresholds) = 'array' and jsonb_array_length(thresholds) between 1 and 10),
  version      bigint not null check (version > 0),
  created_at   timestamptz not null,
  updated_at   timestamptz not null,
  primary key (tenant_id, key),
  unique (tenant_id, budget_id)
);
comment on table usage_budgets is 'erasure=delete';

-- Alerts of budgets are in money. The dimension of one of everything is the empty text.
alter table usage_alerts add column kind text not null default 'USAGE', add column currency text;

-- A rule that also tells when a month is forecast to pass its limit: `forecast_id` is what such alerts are of, each once in a month.
alter table usage_alert_rules add column forecast_id uuid;
-- The same for days that are unlike those before; `compared_on` is the last day that was over when it was marked to be looked at.
alter table usage_alert_rules add column anomaly_id uuid, add column compared_on date;
create index usage_alert_rules_anomaly_idx on usage_alert_rules (tenant_id) where anomaly_id is not null;
alter table usage_alerts add column expected numeric, add column passes_at timestamptz;

create function keep_plan_change() returns trigger language plpgsql set search_path = tenantry, pg_temp as $$
begin
  insert into tenant_plan_changes (tenant_id, version, changed_at, plan, before)
  values (new.tenant_id, new.version, new.updated_at, new.plan, old.plan);
  return null;
end $$;
create trigger tenants_plan_change after update of plan on tenants for each row
  when (old.plan is distinct from new.plan) execute function keep_plan_change();

alter table prices enable row level security;
alter table prices force row level security;
create policy tenant_isolation on prices for select to tenantry_tenant using (true);
create policy operator_access on prices to tenantry_operator using (true) with check (true);
grant select on prices to tenantry_tenant;
grant select, insert on prices to tenantry_operator;

alter table unit_costs enable row level security;
alter table unit_costs force row level security;
create policy operator_access on unit_costs to tenantry_operator using (true) with check (true);
grant select, insert on unit_costs to tenantry_operator;

alter table usage_budgets enable row level security;
alter table usage_budgets force row level security;
create policy tenant_isolation on usage_budgets to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on usage_budgets to tenantry_operator using (true) with check (true);
grant select, insert, update, delete on usage_budgets to tenantry_tenant;
grant select, delete on usage_budgets to tenantry_operator;

alter table tenant_plan_changes enable row level security;
alter table tenant_plan_changes force row level security;
create policy tenant_isolation on tenant_plan_changes to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on tenant_plan_changes to tenantry_operator using (true) with check (true);
grant select, insert on tenant_plan_changes to tenantry_tenant;
grant select, insert, delete on tenant_plan_changes to tenantry_operator;
