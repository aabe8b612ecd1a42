\set n random(1, :tenants)
\startpipeline
BEGIN;
SELECT set_config('app.tenant_id', overlay(overlay(md5('peer-tenant-' || :n) placing '4' from 13 for 1) placing 'a' from 17 for 1), true);
SELECT id, slug, name, status, tier, legal_name, country, data_residency, contact_email, retention_days, created_at, updated_at FROM peer.tenants;
COMMIT;
\endpipeline
