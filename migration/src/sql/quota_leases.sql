-- A lease is a reservation that a replica holds, to promise parts of it from memory until `lease_until`. What it has not promised comes
-- back when it is closed; what it has is a row of its own from the moment that it is committed or released.
alter table quota_reservations
  add column lease_until  timestamptz,
  add column lease_closed boolean not null default false;

create index quota_reservations_leased_idx on quota_reservations (tenant_id)
  where state = 'HELD' and lease_until is not null and not lease_closed;
