-- One peer tenant per line, in the order of the columns that adapter.py copies it into: the same values, in Tenantry's form.
COPY (
  SELECT id, slug, name,
         CASE tier WHEN 'STANDARD' THEN 'starter' ELSE 'enterprise' END,
         CASE tier WHEN 'STANDARD' THEN 'STANDARD' WHEN 'PROFESSIONAL' THEN 'ENTERPRISE' WHEN 'SOVEREIGN' THEN 'PREMIUM' END,
         data_residency, status,
         CASE status WHEN 'ARCHIVED' THEN 'ACTIVE' END,
         CASE status WHEN 'SUSPENDED' THEN jsonb_build_object('mode', 'GRACEFUL', 'reason', 'REQUEST', 'note', '',
                                                              'since', updated_at, 'drainUntil', updated_at) END,
         created_at,
         jsonb_build_object('legalName', legal_name, 'billingAddress', jsonb_build_object('country', country),
                            'technicalContacts', jsonb_build_array(jsonb_build_object('name', 'Operations', 'email', contact_email))),
         jsonb_build_object('settings', jsonb_build_object('retentionDays', retention_days)),
         created_at, updated_at
  FROM peer.tenants ORDER BY created_at, id
) TO STDOUT
