-- What shows rows of both environments under `isolation: enforced`, since partitions and tables that inherit count.

-- Views that read a shared table with their owner's rights, and copies of one: row-level security does not bind these. Nor
-- does that of a table bind its partitions, and tables that inherit from it, for whoever was granted those.
CREATE OR REPLACE FUNCTION fivrec.leaking_views() RETURNS SETOF regclass
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH RECURSIVE tree AS (
    SELECT fivrec.app_table(name)::oid AS oid, false AS is_part
    FROM unnest(ARRAY['users', 'clients', 'queues', 'conversations', 'messages']) AS name
    UNION
    SELECT i.inhrelid, true FROM tree JOIN pg_inherits i ON i.inhparent = tree.oid
  ), readers AS (
    SELECT v.oid, v.relkind, v.reloptions
    FROM pg_depend d
    JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    JOIN pg_class v ON v.oid = r.ev_class
    WHERE d.refclassid = 'pg_class'::regclass AND v.relkind IN ('v', 'm') AND d.refobjid = ANY (ARRAY(SELECT oid FROM tree))
    UNION
    SELECT v.oid, v.relkind, v.reloptions
    FROM readers
    JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = readers.oid
    JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    JOIN pg_class v ON v.oid = r.ev_class
    WHERE v.relkind IN ('v', 'm') AND v.oid <> readers.oid
  )
  SELECT oid::regclass FROM readers
  WHERE relkind = 'm' OR NOT COALESCE(
    'security_invoker=true' = ANY (reloptions) OR 'security_invoker=on' = ANY (reloptions)
    OR 'security_invoker=1' = ANY (reloptions) OR 'security_invoker=yes' = ANY (reloptions), false)
  UNION ALL
  SELECT c.oid::regclass
  FROM tree JOIN pg_class c ON c.oid = tree.oid
  WHERE tree.is_part AND NOT c.relrowsecurity AND EXISTS (
    SELECT
    FROM (SELECT c.relacl UNION ALL SELECT attacl FROM pg_attribute WHERE attrelid = c.oid) AS granted (acl)
    CROSS JOIN LATERAL aclexplode(granted.acl) AS entry
    LEFT JOIN pg_roles r ON r.oid = entry.grantee
    WHERE entry.grantee <> c.relowner AND entry.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
      AND NOT COALESCE(r.rolsuper OR r.rolbypassrls, false))  -- whom no row-level security binds
  ORDER BY 1
$$;

-- 0006's function, with the hint for these, and policies that compare an environment of the app's as text: an enum has no
-- comparison with it, and isolation() does not know one of char(n).
DO $$
BEGIN
  EXECUTE replace(replace(
    pg_get_functiondef('fivrec.set_isolation(text)'::regprocedure), 'drop materialized views''',
    'drop materialized views; REVOKE what others were granted on partitions, and on tables that inherit'''),
    'USING (environment = ', 'USING (environment::text = ');
END
$$;
