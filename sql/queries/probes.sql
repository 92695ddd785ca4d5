-- Rows that must be refused: tried within a savepoint by `fivrec production-test`, never committed. And what it and
-- `--deep` look for beside the catalogue.

-- name: environment
SELECT set_config('fiv.environment', %(environment)s::text, true);

-- name: parent
INSERT INTO {app}.queues (name, environment) VALUES ('fivrec production-test', %(environment)s) RETURNING id;

-- name: child
INSERT INTO {app}.conversations (queue_id, environment) VALUES (%(parent)s, %(environment)s);

-- name: stray
INSERT INTO {app}.clients (name, environment) VALUES ('fivrec production-test', %(environment)s);

-- Roles whose sessions begin with row_security off: if a policy binds them, their statements end in an error.
-- name: unsecured
SELECT COALESCE(r.rolname, 'every role') AS role
FROM pg_catalog.pg_db_role_setting s
LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
WHERE s.setdatabase IN (0, (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()))
  AND (r.oid IS NULL OR NOT (r.rolsuper OR r.rolbypassrls))
  AND EXISTS (SELECT FROM pg_catalog.unnest(s.setconfig) c WHERE pg_catalog.lower(c) IN (
    'row_security=off', 'row_security=false', 'row_security=no', 'row_security=0'))
ORDER BY 1;

-- Roles whose sessions begin as a replica's, in which triggers don't fire and foreign keys check nothing. The session's
-- own default counts too: the server may have it for all.
-- name: replicas
SELECT COALESCE(r.rolname, 'every role') AS role
FROM pg_catalog.pg_db_role_setting s
LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
WHERE s.setdatabase IN (0, (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()))
  AND EXISTS (SELECT FROM pg_catalog.unnest(s.setconfig) c WHERE pg_catalog.lower(c) = 'session_replication_role=replica')
UNION
SELECT session_user
FROM pg_catalog.pg_settings p
WHERE p.name = 'session_replication_role' AND p.reset_val = 'replica'
ORDER BY 1;

-- Checks that rows of no known environment may break, which no environment shows under row-level security.
-- name: hidden
SELECT t.relname::text AS name, conname AS rule,
       format('ALTER TABLE %%I.%%I VALIDATE CONSTRAINT %%I', {schema}, t.relname, conname) AS statement
FROM pg_catalog.pg_constraint JOIN pg_catalog.pg_class t ON t.oid = conrelid
WHERE NOT convalidated AND contype = 'c' AND conname = t.relname || '_environment_check' AND row_security_active(t.oid)
  AND t.oid IN (
    '{app}.users'::regclass, '{app}.clients'::regclass, '{app}.queues'::regclass, '{app}.conversations'::regclass, '{app}.messages'::regclass)
ORDER BY 1;

-- Declared rows that the app has marked as deleted, in a column that fivrec does not know: where a table has none of that
-- name, it is the one of `lacking`. JSON of the row would fail if the app's JSON is none for PostgreSQL's jsonb. Some apps
-- mark the other rows, with 0, say, as NULL is never a duplicate.
-- name: deleted
SELECT marked.kind, marked.name
FROM (SELECT NULL AS deleted_at, NULL AS "deletedAt", '{0,false,infinity,-infinity}'::text[] AS alive) AS lacking
CROSS JOIN LATERAL (
  SELECT 'admin' AS kind, t.email::text AS name
  FROM {app}.users t
  WHERE lower(t.email::text) = ANY (%(admin)s::text[]) AND t.environment::text = %(environment)s::text
    AND (deleted_at::text <> ALL (lacking.alive) OR "deletedAt"::text <> ALL (lacking.alive))
  UNION
  SELECT 'queue', t.name::text
  FROM {app}.queues t
  WHERE t.name::text = ANY (%(queue)s::text[]) AND t.environment::text = %(environment)s::text
    AND (deleted_at::text <> ALL (lacking.alive) OR "deletedAt"::text <> ALL (lacking.alive))
  UNION
  SELECT 'plan', t.name::text
  FROM {app}.plans t
  WHERE (t.id::text = ANY (%(plan)s::text[]) OR t.name::text = ANY (%(plan)s::text[]))
    AND (deleted_at::text <> ALL (lacking.alive) OR "deletedAt"::text <> ALL (lacking.alive))
) AS marked
ORDER BY 1, 2;

-- How many rows of the other environment this session sees: none if isolation is enforced.
-- name: seen
SELECT count(*) FROM {app}.queues WHERE id::text = %(parent)s::text AND environment::text = %(environment)s::text;
