-- Layers that tenants of a plan cannot do without: their cell has to have the extension.
alter table plans add column required_layers jsonb not null default '[]' check (jsonb_typeof(required_layers) = 'array');
