-- The three roles. None can log in or pass by a policy; the login role (made by the caller of this file) becomes a
-- NOINHERIT member of the last two, so that it has no right at all outside a session.
do $$
declare
  role text;
begin
  foreach role in array array['tenantry_owner', 'tenantry_tenant', 'tenantry_operator'] loop
    if not exists (select from pg_roles where rolname = role) then
      begin
        execute format('create role %I nologin noinherit nosuperuser nobypassrls nocreatedb nocreaterole noreplication', role);
      exception when duplicate_object or unique_violation then null; -- another replica was faster
      end;
    end if;
  end loop;
  if not (select rolsuper from pg_roles where rolname = current_user) then
    execute format('grant tenantry_owner to %I', current_user);
  end if;
end $$;

create schema if not exists tenantry authorization tenantry_owner;
revoke all on schema tenantry from public;
grant usage on schema tenantry to tenantry_tenant, tenantry_operator;

do $$
begin
  create extension if not exists pg_trgm schema tenantry;
exception when insufficient_privilege or feature_not_supported or undefined_file then
  raise notice 'pg_trgm is not available: searching tenants by text reads every tenant';
end $$;
