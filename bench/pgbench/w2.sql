\set m random(0, :tenants - 100)
BEGIN;
SELECT id, slug, name, status, tier, created_at FROM peer.tenants
WHERE status = 'ACTIVE' AND (created_at, id) > (timestamptz '2024-01-01 00:00:00+00' + :m * interval '1 minute', 'ffffffff-ffff-4fff-afff-ffffffffffff')
ORDER BY created_at, id LIMIT 51;
COMMIT;
