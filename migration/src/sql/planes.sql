-- Application planes: programs of the operators' own that make a part of tenants' environments, and say when it is done.
create table application_planes (
  -- Never given to another one: jobs, layers and the journal name it.
  name             text primary key,
  -- The client of the token endpoint that answers for it, and for no other.
  client_id        uuid not null,
  essential        boolean not null,
  -- How long it has to answer, from being asked or from its last sign of life.
  deadline_seconds bigint not null check (deadline_seconds > 0),
  -- How long a job may take in all, however many signs of life there are.
  longest_seconds  bigint not null check (longest_seconds >= deadline_seconds),
  -- Planes of a lower position are asked first, those of one position together.
  position         smallint not null check (position between 0 and 99),
  -- The tiers and plans of tenants that it serves; none: all.
  tiers            text[] not null default '{}',
  plans            text[] not null default '{}',
  version          bigint not null default 1,
  created_at       timestamptz not null,
  updated_at       timestamptz not null,
  -- It is asked for nothing new since then, only to take away what it has made.
  retired_at       timestamptz
);
comment on table application_planes is 'erasure=none; programs of the platform';
create unique index application_planes_client_idx on application_planes (client_id) where retired_at is null;

-- What a plane was asked for a tenant, until when it had to answer, and what it said.
create table plane_jobs (
  tenant_id uuid not null,
  job_id    uuid not null,
  plane     text not null references application_planes (name),
  kind      text not null check (kind in ('PROVISION', 'DEPROVISION')),
  state     text not null check (state in ('OPEN', 'SUCCEEDED', 'FAILED', 'EXPIRED', 'WITHDRAWN')),
  -- How often it was asked for this until it succeeds, this time included.
  attempt   integer not null,
  issued_at timestamptz not null,
  deadline  timestamptz not null,
  -- The deadline is not put off any further.
  latest    timestamptz not null,
  -- How much of the time that it has a sign of life is good for.
  patience_seconds bigint not null,
  percent   smallint check (percent between 0 and 100),
  message   text not null default '',
  outputs   jsonb not null default '{}',
  closed_at timestamptz,
  primary key (tenant_id, job_id),
  constraint plane_jobs_closed check ((state = 'OPEN') = (closed_at is null))
);
comment on table plane_jobs is 'erasure=delete';
-- One question at a time, whatever servers do at once.
create unique index plane_jobs_open_idx on plane_jobs (tenant_id, plane) where state = 'OPEN';
-- What a plane that was away asks for.
create index plane_jobs_waiting_idx on plane_jobs (plane, job_id) where state = 'OPEN';

alter table application_planes enable row level security;
alter table application_planes force row level security;
create policy operator_access on application_planes to tenantry_operator using (true) with check (true);
grant select, insert, update on application_planes to tenantry_operator;

alter table plane_jobs enable row level security;
alter table plane_jobs force row level security;
create policy tenant_isolation on plane_jobs to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on plane_jobs to tenantry_operator using (true) with check (true);
grant select on plane_jobs to tenantry_tenant;
grant select, insert, update, delete on plane_jobs to tenantry_operator;

-- A layer that an application plane was asked for, and has not answered yet.
alter table provisioning_layers drop constraint provisioning_layers_observed_check;
alter table provisioning_layers add constraint provisioning_layers_observed_check
  check (observed in ('UNKNOWN', 'PRESENT', 'ABSENT', 'DRIFTED', 'UNAVAILABLE', 'WAITING'));
