-- What of tenants that it has a plane wants to be told: that they were moved, that they are in use or not.
alter table application_planes add column follows text[] not null default '{}'
  check (follows <@ array['MOVES', 'ACTIVATION']);

alter table plane_jobs drop constraint plane_jobs_kind_check;
alter table plane_jobs add constraint plane_jobs_kind_check
  check (kind in ('PROVISION', 'DEPROVISION', 'RELOCATE', 'ACTIVATE', 'DEACTIVATE'));
-- What the plane knows of the tenant once it has done the job: where its data is, and whether it is in use. What is missing or null is
-- not known; of jobs from before this column it is the place.
alter table plane_jobs add column told jsonb not null default '{"inUse": true}';
alter table plane_jobs alter column told set default '{}';
