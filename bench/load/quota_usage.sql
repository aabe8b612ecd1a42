-- In the present month: adapter.py loads anew when it is over.
COPY (
  SELECT tenant_id, dimension, CASE period WHEN 'MONTH' THEN to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM') ELSE '' END, used
  FROM peer.tenant_quotas ORDER BY tenant_id, dimension
) TO STDOUT
