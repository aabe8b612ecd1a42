-- Whom a lane works on stands in the lane's row: a batch is taken with one row written, not with one for each tenant. `rollout_tenants.lease_until`,
-- where it stood before, goes in a later release.
alter table rollout_lanes add column taken uuid[] not null default '{}';
