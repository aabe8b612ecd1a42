-- Events that are in totals, by the day that they count in: a day of UTC is a partition, which goes as a whole. What has no partition is kept in `usage_events_rest`.
alter table usage_events rename to usage_events_before;
alter table usage_events_before no force row level security;
alter table usage_events_before rename constraint usage_events_pkey to usage_events_before_pkey;
drop index usage_events_time_idx;
drop index usage_events_age_idx;

create table usage_events (
  like usage_events_before including constraints,
  primary key (tenant_id, batch_id, last_at),
  constraint usage_events_of_one_day check (date_bin('1 day', first_at, timestamptz 'epoch') = date_bin('1 day', last_at, timestamptz 'epoch'))
) partition by range (last_at);
comment on table usage_events is 'erasure=delete';
create index usage_events_time_idx on usage_events (tenant_id, last_at);
create index usage_events_age_idx on usage_events using brin (last_at);

alter table usage_events enable row level security;
alter table usage_events force row level security;
create policy tenant_isolation on usage_events to tenantry_tenant
  using (tenant_id = current_setting('tenantry.tenant_id')::uuid)
  with check (tenant_id = current_setting('tenantry.tenant_id')::uuid);
create policy operator_access on usage_events to tenantry_operator using (true) with check (true);
grant select on usage_events to tenantry_tenant;
grant select, insert, delete on usage_events to tenantry_operator;

create table usage_events_rest partition of usage_events default;
alter table usage_events_rest enable row level security;
alter table usage_events_rest force row level security;

-- Makes a day's partition, unless there is one, or its events are among the rest already. For the owner alone.
create function make_usage_day(day date) returns boolean language plpgsql set search_path = tenantry, pg_temp as $$
declare
  made text := 'usage_events_' || to_char(day, 'YYYYMMDD');
  begins timestamptz := day::timestamp at time zone 'UTC';
  ends timestamptz := (day + 1)::timestamp at time zone 'UTC';
begin
  perform pg_advisory_xact_lock('usage_events'::regclass::oid::bigint);
  if to_regclass(made) is not null then
    return false;
  end if;
  -- Attached rather than made in place: who reads other days is not kept waiting.
  execute format('create table %I (like usage_events including constraints)', made);
  execute format('alter table %I enable row level security', made);
  execute format('alter table %I force row level security', made);
  begin
    execute format('alter table usage_events attach partition %I for values from (%L) to (%L)', made, begins, ends);
  exception when check_violation then
    execute format('drop table %I', made);
    return false;
  end;
  return true;
end $$;

-- Drops the oldest partition of a day before the one that is named; answers its day. For the owner alone.
create function drop_usage_day(before date) returns date language plpgsql set search_path = tenantry, pg_temp as $$
declare
  oldest text;
begin
  perform pg_advisory_xact_lock('usage_events'::regclass::oid::bigint);
  select min(relname) into oldest from pg_inherits join pg_class on pg_class.oid = inhrelid
    where inhparent = 'usage_events'::regclass and relname ~ '^usage_events_\d{8}$' and to_date(right(relname, 8), 'YYYYMMDD') < before;
  if oldest is not null then
    execute format('drop table %I', oldest);
  end if;
  return to_date(right(oldest, 8), 'YYYYMMDD');
end $$;

revoke execute on function make_usage_day(date), drop_usage_day(date) from public;

do $$
declare
  day date;
begin
  for day in select distinct (at at time zone 'UTC')::date from usage_events_before, unnest(times) as at loop
    perform make_usage_day(day);
  end loop;
end $$;

alter table usage_events no force row level security;
insert into usage_events
  select tenant_id, batch_id, received_at, min(at), max(at), count(*), array_agg(key), array_agg(dimension), array_agg(at), array_agg(quantity),
    array_agg(labels), array_agg(subject), array_agg(reason), case when count(happened) > 0 then array_agg(happened) end
  from usage_events_before before,
    unnest(keys, dimensions, times, quantities, groups, subjects, reasons, occurred)
      as event (key, dimension, at, quantity, labels, subject, reason, happened)
  group by tenant_id, batch_id, received_at, date_bin('1 day', at, timestamptz 'epoch');
alter table usage_events force row level security;
drop table usage_events_before;
