-- What the peers' 8 quotas and 20 flags are in Tenantry: a quota of theirs counts by month, or in all.
INSERT INTO tenantry.quota_keys (key, unit, kind, period, created_at, updated_at)
SELECT key, 'units', CASE k % 2 WHEN 0 THEN 'PERIOD' ELSE 'LEVEL' END, CASE k % 2 WHEN 0 THEN 'MONTH' END, now(), now()
FROM unnest(ARRAY['ai_minutes', 'api_calls', 'cases', 'exports', 'guests', 'storage_gb', 'streams', 'users']) WITH ORDINALITY AS d (key, place),
     LATERAL (SELECT place - 1 AS k) AS number
ON CONFLICT DO NOTHING;
INSERT INTO tenantry.flags (key, kind, default_value, lifecycle, enabled, operator_only, approval, created_at, updated_at)
SELECT 'feature_' || lpad(k::text, 2, '0'), 'BOOLEAN', 'false', 'PERMANENT', true, false, 'NONE', now(), now() FROM generate_series(0, 19) k
ON CONFLICT DO NOTHING;
