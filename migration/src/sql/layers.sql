-- A credential's slot is shut after its end where the server itself does not know when that is.
alter table dataplane_credentials add column retired_at timestamptz;

-- What the last look at a layer's server said, where that is no cell. Its mark tells one run of the server from the next.
create table layer_health (
  layer  text primary key,
  health text not null check (health in ('HEALTHY', 'DEGRADED', 'UNHEALTHY', 'UNKNOWN')),
  reason text not null default '',
  since  timestamptz not null,
  mark   text not null default ''
);
comment on table layer_health is 'erasure=none; servers of the platform';

alter table layer_health enable row level security;
alter table layer_health force row level security;
create policy operator_access on layer_health to tenantry_operator using (true) with check (true);
grant select, insert, update, delete on layer_health to tenantry_operator;
