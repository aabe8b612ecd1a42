-- Authorities whose certificates a tenant trusts (ANCHOR), or knows as links to those (INTERMEDIATE). What a certificate says is read from it
-- each time; what is listed or waited for by has a column.
create table trust_anchors (
  tenant_id   uuid not null,
  anchor_id   uuid not null,
  role        text not null check (role in ('ANCHOR', 'INTERMEDIATE')),
  fingerprint bytea not null check (octet_length(fingerprint) = 32),
  der         bytea not null check (octet_length(der) <= 16384),
  not_after   timestamptz not null,
  added_at    timestamptz not null,
  added_by    text not null,
  primary key (tenant_id, anchor_id),
  constraint trust_anchors_once unique (tenant_id, fingerprint)
);
comment on table trust_anchors is 'erasure=delete';
create index trust_anchors_not_after_idx on trust_anchors (not_after);

-- Of which ends of which certificates a tenant has been told: so many days before.
create table trust_anchor_alerts (
  tenant_id uuid not null,
  anchor_id uuid not null,
  days      smallint not null,
  at        timestamptz not null,
  primary key (tenant_id, anchor_id, days),
  foreign key (tenant_id, anchor_id) references trust_anchors (tenant_id, anchor_id) on delete cascade
);
comment on table trust_anchor_alerts is 'erasure=delete';

-- How a tenant's certificates are checked, and whom they name. Without a row, as the server has it.
create table certificate_policies (
  tenant_id   uuid primary key,
  revocation  text not null check (revocation in ('OFF', 'SOFT_FAIL', 'HARD_FAIL')),
  ocsp        boolean not null,
  fetch_lists boolean not null,
  mapping     jsonb not null,
  version     bigint not null,
  updated_at  timestamptz not null
);
comment on table certificate_policies is 'erasure=delete';

alter table trust_anchors enable row level security;
alter table trust_anchors force row level security;
create policy tenant_isolation on trust_anchors to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on trust_anchors to tenantry_operator using (true) with check (true);
grant select, insert, delete on trust_anchors to tenantry_tenant;
grant select, delete on trust_anchors to tenantry_operator;

alter table trust_anchor_alerts enable row level security;
alter table trust_anchor_alerts force row level security;
create policy tenant_isolation on trust_anchor_alerts to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on trust_anchor_alerts to tenantry_operator using (true) with check (true);
grant select, insert on trust_anchor_alerts to tenantry_tenant;
grant select, delete on trust_anchor_alerts to tenantry_operator;

alter table certificate_policies enable row level security;
alter table certificate_policies force row level security;
create policy tenant_isolation on certificate_policies to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on certificate_policies to tenantry_operator using (true) with check (true);
grant select, insert, update on certificate_policies to tenantry_tenant;
grant select, delete on certificate_policies to tenantry_operator;
