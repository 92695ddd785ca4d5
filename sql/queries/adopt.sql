-- Read tables that may lack columns: a missing column reads as its default, the value that the migration will fill it
-- with. Each statement is named after what it reads; `tables` says which can be run.

-- Reads the catalogue's rows: names that the session has cached (to_regclass) may be from before the lock was granted,
-- when another run had not committed its tables yet. For a
-- superuser those that guard.sql holds are present: others were made since. `named`: anything at all, in whatever schema, has a name of the app's.
-- name: tables
SELECT wanted.name, count(c.oid) > 0 AS named, bool_or(n.nspname IS NOT NULL AND (
         split_part(current_setting('fivrec.held', true), ' ', 1) IS DISTINCT FROM extract(epoch FROM now())::text
         OR split_part(wanted.name, '.', 1) = ANY (string_to_array(current_setting('fivrec.held', true), ' ')))) AS present
FROM unnest(%(tables)s::text[]) AS wanted (name)
LEFT JOIN pg_class c ON c.relname = regexp_replace(wanted.name, '^fivrec[.]', '')
LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
  AND n.nspname = CASE WHEN wanted.name LIKE 'fivrec.%%' THEN 'fivrec' ELSE %(schema)s::text END
GROUP BY wanted.name;

-- For each table with JSON or space-padded (char) columns: all its columns in SQL, with those cast to text. The app's
-- JSON must not pass through PostgreSQL's jsonb, which refuses some of it, and the padding is not part of the value.
-- name: columns
SELECT wanted.name, string_agg(
         CASE WHEN a.atttypid IN ('json'::regtype, 'jsonb'::regtype, 'bpchar'::regtype)
              THEN format('%%1$I::text AS %%1$I', a.attname) ELSE quote_ident(a.attname) END,
         ', ' ORDER BY a.attnum) AS columns
FROM unnest(%(tables)s::text[]) AS wanted (name)
JOIN pg_class c ON c.relname = wanted.name
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = %(schema)s::text
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
GROUP BY wanted.name
HAVING bool_or(a.atttypid IN ('json'::regtype, 'jsonb'::regtype, 'bpchar'::regtype));

-- name: migrations
SELECT (j ->> 'version')::integer AS version, j ->> 'checksum' AS checksum,
       COALESCE(j ->> 'app_schema', 'public') AS app_schema, COALESCE((j ->> 'finished')::boolean, true) AS finished
FROM (SELECT to_jsonb(t) AS j FROM fivrec.migrations t) rows;

-- name: audit_head
SELECT (j ->> 'seq')::bigint AS seq, j ->> 'hash' AS hash
FROM (SELECT to_jsonb(t) AS j FROM fivrec.audit_log t) rows
WHERE (j ->> 'seq')::bigint > 0
ORDER BY 1 DESC LIMIT 1;

-- name: audit_key
SELECT j ->> 'instance' AS instance, j ->> 'sealed' AS sealed
FROM (SELECT to_jsonb(t) AS j FROM fivrec.audit_key t) rows
LIMIT 1;

-- name: applied
SELECT j ->> 'kind' AS kind, j ->> 'name' AS name, j -> 'fields' AS fields, j ->> 'run_id' AS run_id,
       COALESCE((j ->> 'applied_at')::timestamptz, now()) AS applied_at,
       COALESCE(j ->> 'provenance', 'adopted') AS provenance, COALESCE(j ->> 'tenure', 'declared') AS tenure,
       COALESCE(j -> 'before', '{}') AS before, j ->> 'environment' <> %(environment)s AS other_environment
FROM (SELECT to_jsonb(t) AS j FROM fivrec.applied t) rows
WHERE j ->> 'environment' = %(environment)s OR j ->> 'kind' <> ALL (%(per_environment)s::text[])
   OR (j ->> 'kind' = 'admin' AND lower(j ->> 'name') IN (lower(%(admin_email)s::text), lower(%(admin_renamed_from)s::text)))
ORDER BY 5;

-- name: open_drift
SELECT COALESCE(j -> 'open_drift', '[]') AS open_drift,
       COALESCE(j ->> 'outcome' IN ('degraded', 'failed', 'refused'), false) AS unanswered
FROM (SELECT to_jsonb(t) AS j FROM fivrec.last_run t) rows
WHERE j ->> 'instance' = %(instance)s;

-- name: answered
SELECT EXISTS (
  SELECT FROM (SELECT to_jsonb(t) AS j FROM {app}.status_check_logs t) logs
  JOIN (SELECT to_jsonb(t) AS j FROM {app}.instance_config t) configs
    ON configs.j ->> 'id' = logs.j ->> 'instance_config_id'
  WHERE configs.j ->> 'instance_id' = %(instance)s AND (logs.j ->> 'success')::boolean
) AS answered;

-- name: test_data_messages
SELECT 'messages' AS key, 'messages' AS row_id, false AS referenced, count(*) AS rows
FROM (SELECT to_jsonb(t) AS j FROM {app}.messages t) rows
WHERE %(test_data)s::boolean AND j ->> 'environment' = 'development'
HAVING count(*) > 0;

-- name: test_data_conversations
SELECT 'conversations' AS key, 'conversations' AS row_id, false AS referenced, count(*) AS rows
FROM (SELECT to_jsonb(t) AS j FROM {app}.conversations t) rows
WHERE %(test_data)s::boolean AND j ->> 'environment' = 'development'
HAVING count(*) > 0;

-- name: test_data_clients
SELECT 'clients' AS key, 'clients' AS row_id, false AS referenced, count(*) AS rows
FROM (SELECT to_jsonb(t) AS j FROM {app}.clients t) rows
WHERE %(test_data)s::boolean AND j ->> 'environment' = 'development'
HAVING count(*) > 0;

-- name: test_data_queues
SELECT 'queues' AS key, 'queues' AS row_id, false AS referenced, count(*) AS rows
FROM (SELECT to_jsonb(t) AS j FROM {app}.queues t) rows
WHERE %(test_data)s::boolean AND j ->> 'environment' = 'development'
HAVING count(*) > 0;

-- name: test_data_users
SELECT 'users' AS key, 'users' AS row_id, false AS referenced, count(*) AS rows
FROM (SELECT to_jsonb(t) AS j FROM {app}.users t) rows
WHERE %(test_data)s::boolean AND j ->> 'environment' = 'development'
HAVING count(*) > 0;

-- What an adoption leaves for later: each step runs in its own transaction, an index by CREATE INDEX CONCURRENTLY.
-- name: finished
SELECT bool_and(finished) AS finished FROM fivrec.migrations;

-- name: steps
SELECT kind, name, state, before, remedy FROM fivrec.unfit() WHERE state <> 'no table' ORDER BY place;

-- Whether another session builds an index of these tables, perhaps another run that finishes the same adoption.
-- name: at_work
SELECT EXISTS (
  SELECT FROM pg_stat_progress_create_index p
  WHERE p.datname = current_database() AND p.relid IN (SELECT tbl FROM fivrec.unfit()) AND p.pid <> pg_backend_pid()
) AS found;

-- name: nullable
SELECT format('ALTER TABLE %%s ALTER COLUMN environment SET NOT NULL', t) AS remedy FROM fivrec.nullable() AS t;

-- name: finish
UPDATE fivrec.migrations SET finished = true WHERE NOT finished;
