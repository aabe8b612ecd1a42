-- From where a tenant is reached: ranges by name, and its own proxies.
alter table tenants add column network jsonb not null default '{}' check (jsonb_typeof(network) = 'object');
