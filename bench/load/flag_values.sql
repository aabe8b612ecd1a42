COPY (
  SELECT tenant_id, key, to_jsonb(enabled), 'bench', now() FROM peer.tenant_flags ORDER BY tenant_id, key
) TO STDOUT
