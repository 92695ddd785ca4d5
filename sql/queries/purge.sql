-- The removal of test data. Every statement names 'development': no parameter can make it another environment.

-- Why other rows might be deleted too: constraints of isolation that old rows break, and foreign keys of any table,
-- without the environment, that would delete or change the rows that refer here. A foreign key is safe if a valid key
-- has the same columns and the environment: then no row of another environment can refer here.
-- name: doubts
SELECT format('%%s is not validated: rows of %%I break it', conname, t.relname) AS doubt
FROM pg_constraint JOIN pg_class t ON t.oid = conrelid
WHERE NOT convalidated
  AND (conname LIKE '%%\_environment\_check' OR conname LIKE '%%\_environment\_fkey')
  AND conrelid IN (
    '{app}.users'::regclass, '{app}.clients'::regclass, '{app}.queues'::regclass, '{app}.conversations'::regclass, '{app}.messages'::regclass)
UNION ALL
SELECT format('the foreign key %%s of %%s is without environment: it would reach into rows of any',
              c.conname, CASE WHEN t.relnamespace = to_regnamespace(quote_ident({schema}))
                              THEN quote_ident(t.relname) ELSE t.oid::regclass::text END)
FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
WHERE c.contype = 'f' AND c.confdeltype IN ('c', 'n', 'd')
  AND c.confrelid IN (
    '{app}.users'::regclass, '{app}.clients'::regclass, '{app}.queues'::regclass, '{app}.conversations'::regclass, '{app}.messages'::regclass)
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
UNION ALL  -- under row-level security an older fivrec called keys valid that hidden rows break
SELECT format('rows of %%I break %%s', tbl, name)
FROM fivrec.wanted()
WHERE kind = 'foreign key' AND row_security_active(fivrec.app_table(tbl)) AND fivrec.is_broken(name)
  AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = fivrec.app_table(tbl) AND k.conname = name AND NOT k.convalidated)
ORDER BY 1;

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
