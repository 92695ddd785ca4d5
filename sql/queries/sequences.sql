-- Sequences that are behind their tables, because of rows with explicit ids or logical replication, which copies none.

-- Sequences that fill a unique integer column, in tables of any schema that the login may read. CASE, because the
-- server may call a function for a row before a join drops it. Only plain tables without children: a child may be a
-- foreign table, and somebody else decides where that is read from.
-- name: feeding
SELECT DISTINCT n.nspname::text AS schema, c.relname::text AS name, a.attname::text AS column,
       format('%%I.%%I', sn.nspname, s.relname) AS sequence, CASE WHEN s.relkind = 'S' THEN pg_sequence_last_value(s.oid) END AS last,
       CASE WHEN s.relkind = 'S' THEN has_sequence_privilege(s.oid, 'UPDATE') END AS may
FROM (
  SELECT d.objid AS sequence, d.refobjid AS tbl, d.refobjsubid::smallint AS attnum
  FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
  UNION ALL
  SELECT d.refobjid, f.adrelid, f.adnum
  FROM pg_depend d JOIN pg_attrdef f ON f.oid = d.objid
  WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass
) AS fed
JOIN pg_class s ON s.oid = fed.sequence AND s.relkind = 'S'
JOIN pg_namespace sn ON sn.oid = s.relnamespace
JOIN pg_sequence q ON q.seqrelid = s.oid AND q.seqincrement > 0
JOIN pg_class c ON c.oid = fed.tbl AND c.relkind = 'r' AND NOT c.relhassubclass
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = fed.attnum
  AND a.atttypid IN ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype)
WHERE CASE WHEN s.relkind = 'S' THEN has_sequence_privilege(s.oid, 'SELECT, USAGE') END
  AND EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND i.indkey[0] = a.attnum)
  AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
  -- A stronger login reads no other table whose owner, or whose schema's, could put a view in its place meanwhile.
  AND (current_setting('fivrec.write_path') <> 'pg_catalog' OR n.nspname = 'fivrec' OR n.nspname = {schema} AND c.relname IN (
      'users', 'clients', 'queues', 'conversations', 'messages', 'instance_config', 'plans', 'status_check_logs', 'settings')
    OR NOT EXISTS (
      SELECT FROM pg_roles r JOIN pg_database d ON d.datname = current_database()
      WHERE r.oid IN (c.relowner, CASE WHEN n.nspowner = 'pg_database_owner'::regrole THEN d.datdba ELSE n.nspowner END)
        AND NOT (r.rolsuper OR r.rolname = session_user)))
ORDER BY 1, 2, 3;

-- name: advance
SELECT setval(%(sequence)s::text::regclass, %(top)s::bigint);
