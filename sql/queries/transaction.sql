-- The beginning of every transaction. Settings are local to it: behind PgBouncer anything else would leak.

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

-- Deferred constraints speak before what was written is read again, not at COMMIT.
-- name: immediate
SET CONSTRAINTS ALL IMMEDIATE;

-- What may have changed a row that was written: triggers and rules of the app's on these tables.
-- name: triggers
SELECT format('trigger %%s on %%s', t.tgname, c.relname) AS trigger
FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
WHERE c.relname = ANY (%(tables)s::text[]) AND NOT t.tgisinternal AND t.tgenabled <> 'D'
UNION
SELECT format('rule %%s on %%s', r.rulename, c.relname)
FROM pg_catalog.pg_rewrite r
JOIN pg_catalog.pg_class c ON c.oid = r.ev_class
WHERE c.relname = ANY (%(tables)s::text[]) AND c.relkind <> 'v' AND r.ev_enabled <> 'D'
ORDER BY 1;
