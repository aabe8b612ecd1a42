-- A layer of the probes that is made of an extension which a cell has not.
alter table isolation_probes drop constraint isolation_probes_outcome_check;
alter table isolation_probes add constraint isolation_probes_outcome_check
  check (outcome in ('NOT_HERE', 'REFUSED', 'INCONCLUSIVE', 'LET_THROUGH'));
