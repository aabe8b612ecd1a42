-- When the probes of a region ran last, and who runs them now. Tenants that are made up for them are called after the seed, so that
-- whoever comes next finds what one that was killed has left.
create table isolation_runs (
  region      text primary key,
  seed        uuid not null default gen_random_uuid(),
  holder      text not null default '',
  lease_until timestamptz,
  began_at    timestamptz,
  ended_at    timestamptz,
  outcome     text check (outcome in ('REFUSED', 'INCONCLUSIVE', 'LET_THROUGH')),
  findings    bigint not null default 0
);
comment on table isolation_runs is 'erasure=none; the platform''s own tries, with tenants that there are not';

-- What was tried last, by place (a cell''s id, or "registry", or empty for servers that are no cells) and layer.
create table isolation_probes (
  region   text not null,
  place    text not null,
  layer    text not null,
  cell     text not null default '',
  outcome  text not null check (outcome in ('REFUSED', 'INCONCLUSIVE', 'LET_THROUGH')),
  reason   text not null default '',
  attempts jsonb not null,
  at       timestamptz not null,
  primary key (region, place, layer)
);
comment on table isolation_probes is 'erasure=none; the platform''s own tries, with tenants that there are not';

alter table isolation_runs enable row level security;
alter table isolation_runs force row level security;
create policy operator_access on isolation_runs to tenantry_operator using (true) with check (true);
grant select, insert, update, delete on isolation_runs to tenantry_operator;

alter table isolation_probes enable row level security;
alter table isolation_probes force row level security;
create policy operator_access on isolation_probes to tenantry_operator using (true) with check (true);
grant select, insert, update, delete on isolation_probes to tenantry_operator;

-- How far the log of a cell's server has been read for what tenants tried and were refused. Each line is told by one server: by who
-- moves the mark.
create table cell_logs (
  cell_id  uuid primary key references cells (cell_id),
  file     text not null,
  position bigint not null check (position >= 0)
);
comment on table cell_logs is 'erasure=none; names of files of the platform''s servers';

alter table cell_logs enable row level security;
alter table cell_logs force row level security;
create policy operator_access on cell_logs to tenantry_operator using (true) with check (true);
grant select, insert, update, delete on cell_logs to tenantry_operator;
