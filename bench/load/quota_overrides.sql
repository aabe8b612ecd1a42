-- The limits of the peers' data; what W4 changes of them is restored before anything is loaded.
COPY (
  SELECT tenant_id, dimension, limit_value, 'bench', 'bench', now(), now() FROM peer.tenant_quotas ORDER BY tenant_id, dimension
) TO STDOUT
