-- What the probes found open and nothing has shown refused since: a run in which a server is down must not forget it.
alter table isolation_runs add column open jsonb not null default '[]';
