-- Rows of queues, known by their name within the environment.

-- The app's table may hold rows without a name, and several with one name: `chosen` is for those. Selects created_at so
-- that a table without it is noticed.
-- name: read
SELECT q.name::text AS key, q.id AS row_id, false AS referenced, q.description, q.is_active, q.created_at IS NULL AS undated
FROM {app}.queues q
WHERE q.environment = %(environment)s AND q.name IS NOT NULL;

-- Of several rows with one name the oldest active one counts. They are deactivated together, and never removed, as
-- nobody knows which of them is meant.
-- name: chosen
SELECT DISTINCT ON (q.name)
       q.name::text AS key, q.id AS row_id, count(*) OVER (PARTITION BY q.name) > 1 AS referenced, q.description, q.is_active
FROM {app}.queues q
WHERE q.environment = %(environment)s AND q.name IS NOT NULL
ORDER BY q.name, q.is_active DESC NULLS LAST, q.created_at NULLS FIRST, q.id;

-- Read only if rows may be removed. For each foreign key of any table: the condition, in SQL, by which a row refers to
-- the queue q. Reads only the catalogue: the tables themselves are searched later, for few queues. If rows can't be
-- read, any may refer to q. In a tree of queues both ends count: removing one end would need another plan.
-- name: references
SELECT replace(CASE
         WHEN NOT bool_and(has_column_privilege(k.conrelid, k.child, 'SELECT')
                           AND has_schema_privilege(k.relnamespace, 'USAGE')) OR bool_or(k.hidden OR k.foreign_type) THEN 'true'
         ELSE format('EXISTS (SELECT FROM %%s c WHERE %%s)', k.conrelid::regclass,
                     string_agg(
                       format('q.%%I OPERATOR(%%I.%%s) c.%%I', k.parent, k.nspname, k.oprname, k.column), ' AND '))
              || CASE WHEN k.conrelid = k.confrelid
                      THEN string_agg(format(' OR q.%%I IS NOT NULL', k.column), '') ELSE '' END
       END, '%%', '%%%%') AS condition
FROM (
  SELECT f.oid, f.conrelid, f.confrelid, t.relnamespace, pair.child, c.attname AS column, p.attname AS parent,
         n.nspname, o.oprname,
         -- The implicit cast of another role's type may be that role's function, which this login must not run.
         current_setting('fivrec.write_path') = 'pg_catalog' AND EXISTS (
           SELECT FROM pg_type y JOIN pg_roles r ON r.oid = y.typowner
           WHERE y.oid IN (c.atttypid, p.atttypid) AND NOT (r.rolsuper OR r.rolname = session_user)) AS foreign_type,
         -- Of conversations, isolation: enforced hides what no valid key lets refer to a queue of this environment.
         row_security_active(f.conrelid) AND NOT EXISTS (
           SELECT FROM pg_constraint e
           WHERE e.conrelid = f.conrelid AND e.conrelid = to_regclass('{app}.conversations') AND e.confrelid = f.confrelid
             AND e.conname = 'conversations_queue_id_environment_fkey' AND e.convalidated AND e.conkey @> f.conkey
         ) AS hidden
  FROM pg_constraint f
  JOIN pg_class t ON t.oid = f.conrelid
  CROSS JOIN LATERAL unnest(f.conkey, f.confkey, f.conpfeqop) AS pair (child, parent, equal)
  JOIN pg_attribute c ON c.attrelid = f.conrelid AND c.attnum = pair.child
  JOIN pg_attribute p ON p.attrelid = f.confrelid AND p.attnum = pair.parent
  JOIN pg_operator o ON o.oid = pair.equal
  JOIN pg_namespace n ON n.oid = o.oprnamespace
  WHERE f.contype = 'f' AND f.confrelid = to_regclass('{app}.queues') AND f.conparentid = 0
) AS k
GROUP BY k.oid, k.conrelid, k.confrelid
UNION ALL
-- conversations.queue_id refers to a queue even if its foreign key is not there yet, or no longer.
SELECT CASE WHEN has_column_privilege(a.attrelid, a.attnum, 'SELECT') AND NOT row_security_active(a.attrelid)
            THEN replace(format('EXISTS (SELECT FROM %%s c WHERE c.queue_id::text = q.id::text)', a.attrelid::regclass),
                         '%%', '%%%%')
            ELSE 'true' END
FROM pg_attribute a
WHERE a.attrelid = to_regclass('{app}.conversations') AND a.attname = 'queue_id' AND NOT EXISTS (
  SELECT FROM pg_constraint f
  WHERE f.contype = 'f' AND f.conrelid = a.attrelid AND f.confrelid = to_regclass('{app}.queues')
    AND a.attnum = ANY (f.conkey));

-- name: create
INSERT INTO {app}.queues (name, description, is_active, environment)
SELECT %(key)s::text, %(description)s::text, %(is_active)s::boolean, %(environment)s
WHERE NOT EXISTS (
  SELECT FROM {app}.queues q
  WHERE q.name::text = %(key)s::text AND q.environment::text = current_setting('fiv.environment'));

-- A rename applies to all rows with the old name: nobody knows which of them was meant, and none may stay behind.
-- name: update
UPDATE {app}.queues
SET name = %(key)s,
    description = CASE WHEN id::text = %(row_id)s::text OR NOT %(is_active)s::boolean
                       THEN %(description)s ELSE description END,
    is_active = CASE WHEN id::text = %(row_id)s::text OR NOT %(is_active)s::boolean
                     THEN %(is_active)s::boolean ELSE is_active END
WHERE environment::text = %(environment)s::text
  AND (id::text = %(row_id)s::text
       OR (name::text = %(row_name)s::text AND (%(row_name)s::text <> %(key)s::text OR NOT %(is_active)s::boolean)));

-- name: deactivate
UPDATE {app}.queues SET is_active = false
WHERE environment::text = %(environment)s::text AND (id::text = %(row_id)s::text OR name::text = %(key)s::text);

-- Rows that began to refer to it since it was read are looked for first: sql/queries/referenced.sql.
-- name: remove
DELETE FROM {app}.queues WHERE id::text = %(row_id)s::text AND environment::text = %(environment)s::text;

-- Like `read`, from a table that may lack columns.
-- name: adopt
SELECT DISTINCT ON (j ->> 'name')
       j ->> 'name' AS key, j ->> 'id' AS row_id, count(*) OVER (PARTITION BY j ->> 'name') > 1 AS referenced,
       j ->> 'description' AS description,
       COALESCE(j -> 'is_active', 'true') AS is_active
FROM (SELECT to_jsonb(t) AS j FROM {app}.queues t) rows
WHERE j ->> 'name' IS NOT NULL
  AND CASE WHEN j ? 'environment' THEN j ->> 'environment' ELSE 'production' END = %(environment)s::text
ORDER BY j ->> 'name', COALESCE(j -> 'is_active', 'true') DESC, j ->> 'created_at' NULLS FIRST, j ->> 'id';
