-- The removal of test data. Every statement names 'development': no parameter can make it another environment.

-- Why other rows might be deleted too: constraints of isolation that old rows break, or that were not checked against all.
-- name: unchecked
SELECT format('%%s is not validated: %%s', conname, CASE
         WHEN conname NOT IN (SELECT name FROM fivrec.wanted()) THEN format('rows of %%I break it', t.relname)
         WHEN fivrec.is_broken(conname) THEN format('rows of %%I break it', t.relname)
         ELSE format('not all rows of %%I were looked at', t.relname) END) AS doubt
FROM pg_constraint JOIN pg_class t ON t.oid = conrelid
WHERE NOT convalidated
  AND (conname LIKE '%%\_environment\_check' OR conname LIKE '%%\_environment\_fkey')
  AND conrelid IN (
    '{app}.users'::regclass, '{app}.clients'::regclass, '{app}.queues'::regclass, '{app}.conversations'::regclass, '{app}.messages'::regclass)
UNION ALL  -- under row-level security an older fivrec called keys valid that hidden rows break
SELECT format('rows of %%I break %%s', tbl, name)
FROM fivrec.wanted()
WHERE kind = 'foreign key' AND row_security_active(fivrec.app_table(tbl)) AND fivrec.is_broken(name)
  AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = fivrec.app_table(tbl) AND k.conname = name AND NOT k.convalidated)
ORDER BY 1;

-- Foreign keys of any table, without the environment, that would delete or change the rows that refer here. One is safe
-- if a valid key has the same columns and the environment, or the `first` apply makes one: then no row of another
-- environment can refer here.
-- name: unsafe_keys
WITH shared AS (
  SELECT c.oid, c.relname::text AS name
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = {schema}
  WHERE c.relname IN ('users', 'clients', 'queues', 'conversations', 'messages')
)
SELECT format('the foreign key %%s of %%s is without environment: it would reach into rows of any',
              c.conname, CASE WHEN t.relnamespace = to_regnamespace(quote_ident({schema}))
                              THEN quote_ident(t.relname) ELSE t.oid::regclass::text END) AS doubt
FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid JOIN shared parent ON parent.oid = c.confrelid
WHERE c.contype = 'f' AND c.confdeltype IN ('c', 'n', 'd')
  AND NOT EXISTS (
    SELECT FROM pg_attribute a
    WHERE a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey) AND a.attname = 'environment')
  AND NOT EXISTS (
    SELECT FROM pg_constraint e
    JOIN pg_attribute a ON a.attrelid = e.conrelid AND a.attnum = ANY (e.conkey) AND a.attname = 'environment'
    JOIN pg_attribute p ON p.attrelid = e.confrelid AND p.attname = 'environment'
      AND p.attnum = e.confkey[array_position(e.conkey, a.attnum)]
    WHERE e.contype = 'f' AND e.convalidated AND e.conrelid = c.conrelid AND e.confrelid = c.confrelid
      -- A key that is partly NULL refers to nothing, and ensures nothing.
      AND (a.attnotnull OR EXISTS (
        SELECT FROM pg_constraint k
        WHERE k.conrelid = e.conrelid AND k.convalidated AND k.contype = 'c'
          AND k.conname LIKE '%%\_environment\_check'))
      AND NOT EXISTS (
        SELECT FROM unnest(c.conkey, c.confkey) AS pair (child, parent)
        WHERE e.confkey[array_position(e.conkey, pair.child)] IS DISTINCT FROM pair.parent))
  AND NOT (%(first)s AND EXISTS (
    SELECT FROM shared child JOIN pg_attribute a ON a.attrelid = child.oid AND c.conkey = ARRAY[a.attnum]
    WHERE child.oid = c.conrelid AND (child.name, a.attname::text, parent.name) IN ({references})))
ORDER BY 1;

-- What the first apply will find unchecked. `probe` looks for rows that break a constraint which is not there yet; a big
-- table has none. A table without the column gets it, with rows of production alone.
-- name: foreseen
WITH shared AS (
  SELECT c.oid, c.relname::text AS name, a.attnum IS NOT NULL AS has, pg_relation_size(c.oid) > 4 * 1024 * 1024 AS big,
         CASE WHEN i.attnum IS NULL THEN 'NULL' ELSE 'c.id::text' END AS id
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = {schema}
  LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'environment'
  LEFT JOIN pg_attribute i ON i.attrelid = c.oid AND i.attname = 'id'
  WHERE c.relname IN ('users', 'clients', 'queues', 'conversations', 'messages')
)
SELECT name, NULL AS reason, NULL AS probe,
       format('not all rows of %%I are looked at before, as it is big: apply once without purge_development_data', name) AS doubt
FROM shared WHERE big
UNION ALL
SELECT name, 'environment',
       format('SELECT %%s AS id FROM %%I.%%I c WHERE (c.environment::text IN (''production'', ''development'')) IS NOT TRUE LIMIT %%s',
              id, {schema}, name, %(limit)s::integer),
       format('rows of %%I are of no environment', name)
FROM shared WHERE has AND NOT big
UNION ALL
SELECT child.name, links.reference,
       format('SELECT %%7$s AS id FROM %%1$I.%%2$I c WHERE c.%%3$I IS NOT NULL AND NOT EXISTS (SELECT FROM %%1$I.%%4$I p '
              'WHERE p.id::text = c.%%3$I::text AND %%5$s = %%6$s) LIMIT %%8$s', {schema},
              child.name, links.reference, parent.name,
              CASE WHEN parent.has THEN 'p.environment::text' ELSE '''production''' END,
              CASE WHEN child.has THEN 'c.environment::text' ELSE '''production''' END, child.id, %(limit)s::integer),
       format('rows of %%I refer by %%I to none of their environment', child.name, links.reference)
FROM (VALUES {references}) AS links (child, reference, parent)
JOIN shared child ON child.name = links.child
JOIN shared parent ON parent.name = links.parent
JOIN pg_attribute a ON a.attrelid = child.oid AND a.attname = links.reference
JOIN pg_attribute p ON p.attrelid = parent.oid AND p.attname = 'id'
WHERE NOT (child.big OR parent.big)
ORDER BY doubt;

-- Foreign keys that would stop the deletion: `probe` looks for rows of other tables that refer to test data. Not by a
-- column of another role's type: its implicit cast may be that role's function, which would run with this login's rights.
-- name: blocking
WITH trusted AS (
  SELECT oid FROM pg_roles WHERE rolsuper OR rolname = session_user
)
SELECT 'purge_in_use' AS code, format('rows of %%I refer to test data of %%I', t.relname, p.relname) AS doubt,
       format('SELECT FROM %%I.%%I c JOIN %%I.%%I p ON %%s '
              'WHERE p.environment::text = ''development'' AND p.id::text IS DISTINCT FROM %%L::text LIMIT 1',
              tn.nspname, t.relname, {schema}, p.relname, joined.pairs, %(kept)s::text) AS probe
FROM pg_constraint c
JOIN pg_class t ON t.oid = c.conrelid
JOIN pg_namespace tn ON tn.oid = t.relnamespace
JOIN pg_class p ON p.oid = c.confrelid
JOIN pg_namespace pn ON pn.oid = p.relnamespace AND pn.nspname = {schema}
CROSS JOIN LATERAL (
  SELECT string_agg(format('p.%%I OPERATOR(%%I.%%s) c.%%I', pa.attname, n.nspname, o.oprname, ca.attname), ' AND ') AS pairs,
         bool_and(ct.typowner IN (SELECT oid FROM trusted) AND pt.typowner IN (SELECT oid FROM trusted)) AS is_safe
  FROM unnest(c.conkey, c.confkey, c.conpfeqop) AS pair (child, parent, equal)
  JOIN pg_attribute ca ON ca.attrelid = t.oid AND ca.attnum = pair.child
  JOIN pg_attribute pa ON pa.attrelid = p.oid AND pa.attnum = pair.parent
  JOIN pg_type ct ON ct.oid = ca.atttypid
  JOIN pg_type pt ON pt.oid = pa.atttypid
  JOIN pg_operator o ON o.oid = pair.equal
  JOIN pg_namespace n ON n.oid = o.oprnamespace
) AS joined
WHERE c.contype = 'f' AND c.confdeltype IN ('a', 'r') AND c.conparentid = 0 AND joined.is_safe
  AND p.relname IN ('users', 'clients', 'queues', 'conversations', 'messages')
  AND NOT (tn.oid = pn.oid AND t.relname IN ('users', 'clients', 'queues', 'conversations', 'messages'))
  AND 2 = (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = p.oid AND a.attname IN ('id', 'environment'))
  AND has_schema_privilege(tn.oid, 'USAGE') AND has_table_privilege(t.oid, 'SELECT') AND NOT row_security_active(t.oid)
ORDER BY 2;

-- Whether this transaction left something of big tables for later.
-- name: unfinished
SELECT COALESCE(current_setting('fivrec.defer', true), '') = 'skipped' AS unfinished;

-- Identifies exactly these rows, in whatever order they are read.
-- name: shown
SELECT 'messages' AS name, count(*) AS rows, COALESCE(sum(hashtextextended(id::text, 0)::numeric), 0)::text AS mark
FROM {app}.messages WHERE environment::text = 'development'::text
UNION ALL
SELECT 'conversations', count(*), COALESCE(sum(hashtextextended(id::text, 0)::numeric), 0)::text
FROM {app}.conversations WHERE environment::text = 'development'::text
UNION ALL
SELECT 'clients', count(*), COALESCE(sum(hashtextextended(id::text, 0)::numeric), 0)::text
FROM {app}.clients WHERE environment::text = 'development'::text
UNION ALL
SELECT 'queues', count(*), COALESCE(sum(hashtextextended(id::text, 0)::numeric), 0)::text
FROM {app}.queues WHERE environment::text = 'development'::text
UNION ALL
SELECT 'users', count(*), COALESCE(sum(hashtextextended(id::text, 0)::numeric), 0)::text
FROM {app}.users WHERE environment::text = 'development'::text;

-- name: environment
SELECT set_config('fiv.environment', %(environment)s::text, true);

-- A cursor keeps its position without memory: every new search would find the rows again that its transaction deleted.
-- name: open
DECLARE fivrec_purge NO SCROLL CURSOR FOR
SELECT ctid FROM {table} WHERE environment::text = 'development'::text AND id::text IS DISTINCT FROM {kept}::text;

-- name: fetch
FETCH {batch} FROM fivrec_purge;

-- A ctid identifies one row only if the table has no partitions and no table inherits from it.
-- name: remove
DELETE FROM {table}
WHERE environment::text = 'development'::text AND ctid = ANY ({places}::tid[]) AND id::text IS DISTINCT FROM {kept}::text;

-- name: close
CLOSE fivrec_purge;

-- What was applied as development is deleted: the next apply makes it again.
-- name: forget
DELETE FROM fivrec.applied WHERE environment = 'development'::text AND kind IN ('admin'::text, 'queue'::text);
