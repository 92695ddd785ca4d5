-- The beginning of every transaction. Settings are local to it: behind PgBouncer anything else would leak.

-- Before anything is read: names, operators and functions of fivrec's statements are pg_catalog's, whatever other
-- schemas hold.
-- name: read_path
SET LOCAL search_path = pg_catalog, pg_temp;

-- What a login or database allows one statement may be less than the next one takes, which then has a limit of its own.
-- name: own_time
SET LOCAL statement_timeout = '60s';

-- What `settings` says of jit, for catalogue queries that are asked without it.
-- name: no_jit
SET LOCAL jit = off;

-- The lock comes with the settings, and last: what is read after this statement sees the previous run. Without a number
-- there is none (the function is strict), and granted is NULL.
--
-- Before it the guard: division by zero ends the pipeline before its readings, if one could run or believe what a weaker
-- role made. foreign_schema and foreign_code (guard.sql) then say what it is. Each of these parameters is a query that
-- ts_stat runs only if what stands before it holds, so that it costs nobody else: does the schema fivrec, or a relation in
-- it, have another owner, or may anybody else make objects there (an access list is there only after a GRANT), and is any
-- of them a foreign one's? May this login do more than others (superuser, CREATEROLE, BYPASSRLS, may become another role),
-- is there any code at all, and is it foreign? What calls fivrec's own functions asks for foreign_schema in any case.
-- name: settings
SELECT set_config('lock_timeout', %(lock_timeout)s, true),
       set_config('statement_timeout', %(statement_timeout)s, true),
       set_config('idle_in_transaction_session_timeout', %(idle_timeout)s, true),
       -- A link that freezes within a pipeline leaves the server neither idle nor in a statement: only this ends it.
       CASE WHEN %(transaction_timeout)s::text IS NOT NULL
            THEN set_config('transaction_timeout', %(transaction_timeout)s, true) END,
       set_config('timezone', 'UTC', true),
       set_config('client_min_messages', 'warning', true),
       -- With fewer digits a number in a column of floats reads as another one.
       set_config('extra_float_digits', '1', true),
       -- Catalogue queries look dear to the planner: to compile one takes seconds, to run it a millisecond.
       set_config('jit', 'off', true),
       set_config('fiv.environment', %(environment)s, true),
       -- Rows that a policy of others would hide from the readings are an error, not absent; under fivrec's own, hiding
       -- the other environment is what is meant, and a login that has row_security off reads all the same.
       set_config('row_security', CASE WHEN EXISTS (
         SELECT FROM pg_policy WHERE starts_with(polname::text, 'fivrec_')) AND EXISTS (
         SELECT FROM ts_stat(%(own_policy)s::text)) THEN 'on' ELSE 'off' END, true),
       -- See write_path. A setting of fivrec's own is dear: before PostgreSQL 16 the server sorts all of them for each.
       set_config('fivrec.write_path', CASE WHEN me.strong THEN 'pg_catalog' ELSE %(write_path)s END, true),
       1 / CASE
         WHEN NOT %(trusted)s::boolean AND EXISTS (
             SELECT FROM pg_namespace n
             WHERE n.nspname = 'fivrec' AND (n.nspowner <> me.oid OR n.nspacl IS NOT NULL OR EXISTS (
               SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relowner <> me.oid))
           ) AND EXISTS (SELECT FROM ts_stat(%(foreign_schema)s::text)) THEN 0
         WHEN me.strong AND EXISTS (SELECT FROM ts_stat(%(any_code)s::text))
           AND EXISTS (SELECT FROM ts_stat(%(foreign_code)s::text)) THEN 0
         ELSE 1 END,
       pg_try_advisory_xact_lock(%(lock)s::bigint) AS granted
FROM (
  -- A database's owner may have every session begin as another role: then that one and the session's own count. A
  -- member of other roles may be one who can't become them.
  SELECT r.oid, NOT %(trusted)s::boolean AND CASE
           WHEN session_user <> current_user OR EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid)
             THEN EXISTS (SELECT FROM ts_stat(%(acting)s::text))
           ELSE r.rolsuper OR r.rolcreaterole OR r.rolbypassrls
         END AS strong
  FROM pg_roles r WHERE r.rolname = session_user
  OFFSET 0  -- or the planner puts a copy of `strong` in each of its places
) AS me;

-- The app's triggers, defaults and CHECKs look up their names by the path of the writer, so a plain login writes with
-- the app's schema and then the path that the session came with, a stronger one with pg_catalog alone. Of fivrec's
-- statements every operand is cast to a type for which pg_catalog has the exact operator. own_path comes first: under it
-- nothing that is not qualified is safe, and no operator.
-- name: own_path
SET LOCAL search_path TO DEFAULT;

-- name: write_path
SELECT pg_catalog.set_config('search_path', pg_catalog.rtrim(pg_catalog.concat_ws(', ',
         pg_catalog.current_setting('fivrec.write_path'),
         CASE WHEN pg_catalog.current_setting('fivrec.write_path') OPERATOR(pg_catalog.<>) 'pg_catalog'
              THEN pg_catalog.current_setting('search_path') END), ', '), true);

-- name: long_settings
SELECT set_config('statement_timeout', %(timeout)s, true);

-- The clock of a transaction that goes on starts again only after it was stopped. For PostgreSQL 17 and newer.
-- name: renewed
SELECT set_config('transaction_timeout', '0', true), set_config('transaction_timeout', %(timeout)s, true),
       set_config('row_security', 'on', true);

-- The tables that were read hide nothing; what the app's own triggers do to others is for their policies to say.
-- name: own_rows
SELECT set_config('row_security', 'on', true);

-- What was written is read again as in settings.
-- name: read_rows
SELECT set_config('row_security', CASE WHEN EXISTS (SELECT FROM ts_stat(%(own_policy)s::text)) THEN 'on' ELSE 'off' END, true);

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

-- What may have changed, or dropped, a row that was written: triggers and rules on these tables, each with its schema.
-- name: triggers
SELECT format('trigger %%s on %%s', t.tgname, c.relname) AS trigger
FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE concat(n.nspname, '.', c.relname) = ANY (%(tables)s::text[]) AND NOT t.tgisinternal AND t.tgenabled <> 'D'
UNION
SELECT format('rule %%s on %%s', r.rulename, c.relname)
FROM pg_catalog.pg_rewrite r
JOIN pg_catalog.pg_class c ON c.oid = r.ev_class
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE concat(n.nspname, '.', c.relname) = ANY (%(tables)s::text[]) AND c.relkind <> 'v' AND r.ev_enabled <> 'D'
ORDER BY 1;
