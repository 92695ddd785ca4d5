-- The beginning of every transaction. Settings are local to it: behind PgBouncer anything else would leak.

-- Before anything is read: names, operators and functions of fivrec's statements are pg_catalog's, whatever other
-- schemas hold. The path that the session came with is kept for its writes. No operator stands here.
-- name: path
SELECT pg_catalog.set_config('fivrec.schema', %(schema)s, true),
       pg_catalog.set_config('fivrec.own_path', pg_catalog.current_setting('search_path'), true),
       pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);

-- What guard.sql found fit for the writes of this login.
-- name: write_path
SELECT set_config('search_path', current_setting('fivrec.write_path'), true);

-- name: read_path
SELECT set_config('search_path', 'pg_catalog, pg_temp', true);

-- The lock comes with the settings: what is read after this statement sees the previous run. Without a number
-- there is none (the function is strict), and granted is NULL.
-- name: settings
SELECT set_config('lock_timeout', %(lock_timeout)s, true),
       set_config('statement_timeout', %(statement_timeout)s, true),
       set_config('idle_in_transaction_session_timeout', %(idle_timeout)s, true),
       -- A link that freezes within a pipeline leaves the server neither idle nor in a statement: only this ends it.
       CASE WHEN %(lock)s::bigint IS NOT NULL AND current_setting('server_version_num')::integer >= 170000
            THEN set_config('transaction_timeout', %(transaction_timeout)s, true) END,
       set_config('timezone', 'UTC', true),
       set_config('client_min_messages', 'warning', true),
       set_config('fiv.environment', %(environment)s, true),
       pg_try_advisory_xact_lock(%(lock)s::bigint) AS granted;

-- name: long_settings
SELECT set_config('statement_timeout', %(timeout)s, true);

-- The clock of a transaction that goes on begins anew only where it was stopped. For PostgreSQL 17 and newer.
-- name: renewed
SELECT set_config('transaction_timeout', '0', true), set_config('transaction_timeout', %(timeout)s, true);

-- name: holder
SELECT a.application_name, l.pid, a.xact_start
FROM pg_locks l
LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.classid::bigint = (%(lock)s::bigint >> 32) & 4294967295
  AND l.objid::bigint = %(lock)s::bigint & 4294967295
LIMIT 1;
