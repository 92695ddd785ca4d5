-- The beginning of every transaction. Settings are local to it: behind PgBouncer anything else would leak.

-- Before anything is read: names, operators and functions in fivrec's statements are pg_catalog's, whatever other
-- schemas have.
-- name: read_path
SET LOCAL search_path = pg_catalog, pg_temp;

-- A login or database may allow a statement less time than the next one takes, which then sets a limit of its own.
-- name: own_time
SET LOCAL statement_timeout = '60s';

-- As in `settings`, for catalogue queries that run without it.
-- name: no_jit
SET LOCAL jit = off;

-- The lock comes with the settings, and last: readings after this statement see the previous run. Without a number no
-- lock is taken (the function is strict), and granted is NULL.
--
-- Before the lock comes the guard: a division by zero ends the pipeline before its readings if they could run or trust
-- something that a weaker role made. foreign_schema and foreign_code (guard.sql) then say what it is. Each of these
-- parameters is a query that ts_stat runs only if the condition before it holds, so that others don't pay for it: does
-- the schema fivrec, or a relation in it, have another owner, or may anybody else make objects there (only after a
-- GRANT does it have an access list), and does any of them belong to somebody else? May this login do more than others
-- (superuser, CREATEROLE, BYPASSRLS, may become another role), is there any code at all, and is it somebody else's?
-- Statements that call fivrec's own functions ask for foreign_schema in any case.
-- name: settings
SELECT set_config('lock_timeout', %(lock_timeout)s, true),
       set_config('statement_timeout', %(statement_timeout)s, true),
       set_config('idle_in_transaction_session_timeout', %(idle_timeout)s, true),
       -- If a link freezes within a pipeline, the server is neither idle nor in a statement: only this limit ends it.
       CASE WHEN %(transaction_timeout)s::text IS NOT NULL
            THEN set_config('transaction_timeout', %(transaction_timeout)s, true) END,
       set_config('timezone', 'UTC', true),
       set_config('client_min_messages', 'warning', true),
       -- With fewer digits, a number in a float column would read as another one.
       set_config('extra_float_digits', '1', true),
       -- The text of policies, indexes and defaults is compared: names in it are quoted where they have to be, and nowhere else.
       set_config('quote_all_identifiers', 'off', true),
       -- The planner overrates the cost of catalogue queries: compiling one takes seconds, running it a millisecond.
       set_config('jit', 'off', true),
       set_config('fiv.environment', %(environment)s, true),
       -- Rows that another's policy would hide from the readings must be an error, not absent. Fivrec's own policies
       -- are meant to hide the other environment, and a login that has row_security off must still be able to read.
       set_config('row_security', CASE WHEN EXISTS (
         SELECT FROM pg_policy WHERE starts_with(polname::text, 'fivrec_')) AND EXISTS (
         SELECT FROM ts_stat(%(own_policy)s::text)) THEN 'on' ELSE 'off' END, true),
       -- See write_path. A setting of our own is expensive: for each, PostgreSQL before 16 sorts all settings.
       set_config('fivrec.write_path', CASE WHEN me.strong THEN 'pg_catalog' ELSE %(write_path)s END, true),
       1 / CASE
         WHEN NOT %(trusted)s::boolean AND EXISTS (
             SELECT FROM pg_namespace n
             WHERE n.nspname = 'fivrec' AND (n.nspowner <> me.oid OR n.nspacl IS NOT NULL OR EXISTS (
               SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relowner <> me.oid))
           ) AND EXISTS (SELECT FROM ts_stat(%(foreign_schema)s::text)) THEN 0
         WHEN me.strong AND EXISTS (SELECT FROM ts_stat(%(any_code)s::text))
           AND EXISTS (SELECT FROM ts_stat(%(foreign_code)s::text)) THEN 0
         -- A superuser's session that acts as another role looks like a plain one to the client: it has to hold first.
         WHEN me.strong AND session_user <> current_user AND EXISTS (SELECT FROM ts_stat(%(unheld)s::text)) THEN 0
         ELSE 1 END,
       pg_try_advisory_xact_lock(%(lock)s::bigint) AS granted
FROM (
  -- A database's owner may make every session begin as another role: then both that role and the session's own count. A
  -- member of other roles may not be allowed to become them.
  SELECT r.oid, NOT %(trusted)s::boolean AND CASE
           WHEN session_user <> current_user OR EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid)
             THEN EXISTS (SELECT FROM ts_stat(%(acting)s::text))
           ELSE r.rolsuper OR r.rolcreaterole OR r.rolbypassrls
         END AS strong
  FROM pg_roles r WHERE r.rolname = session_user
  OFFSET 0  -- or the planner puts a copy of `strong` in each of its places
) AS me;

-- The app's triggers, defaults and CHECKs look up their names on the writer's search_path. So a plain login writes with
-- the app's schema and then the path that the session came with, a stronger login only with pg_catalog. In fivrec's
-- statements every operand is cast to a type for which pg_catalog has the exact operator. own_path comes first: under
-- it no unqualified name is safe, and no operator.
-- name: own_path
SET LOCAL search_path TO DEFAULT;

-- name: write_path
SELECT pg_catalog.set_config('search_path', pg_catalog.rtrim(pg_catalog.concat_ws(', ',
         pg_catalog.current_setting('fivrec.write_path'),
         CASE WHEN pg_catalog.current_setting('fivrec.write_path') OPERATOR(pg_catalog.<>) 'pg_catalog'
              THEN pg_catalog.current_setting('search_path') END), ', '), true);

-- name: long_settings
SELECT set_config('statement_timeout', %(timeout)s, true);

-- The clock of an open transaction only restarts after it was stopped. For PostgreSQL 17 and newer.
-- name: renewed
SELECT set_config('transaction_timeout', '0', true), set_config('transaction_timeout', %(timeout)s, true),
       set_config('row_security', 'on', true);

-- PostgreSQL stops the clock at each error, even if a savepoint saves the transaction.
-- name: on_the_clock
SELECT set_config('transaction_timeout', current_setting('transaction_timeout'), true);

-- The tables that were read hide nothing; policies on other tables decide what the app's own triggers may do there.
-- name: own_rows
SELECT set_config('row_security', 'on', true);

-- Sets row_security as `settings` does, to read what was written.
-- name: read_rows
SELECT set_config('row_security', CASE WHEN EXISTS (
         SELECT FROM pg_policy WHERE starts_with(polname::text, 'fivrec_')) AND EXISTS (
         SELECT FROM ts_stat(%(own_policy)s::text)) THEN 'on' ELSE 'off' END, true);

-- name: holder
SELECT a.application_name, l.pid, a.xact_start
FROM pg_locks l
LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.classid::bigint = (%(lock)s::bigint >> 32) & 4294967295
  AND l.objid::bigint = %(lock)s::bigint & 4294967295
LIMIT 1;

-- Check deferred constraints before what was written is read again, not at COMMIT.
-- name: immediate
SET CONSTRAINTS ALL IMMEDIATE;

-- What may have changed or dropped a row that was written: the triggers and rules on these tables (schema.table).
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

-- Whether a table of the app was rewritten (ALTER TABLE, TRUNCATE), dropped or renamed since the moment that a reading
-- sees: names are looked up, and locks waited for, after it, and a table that was rewritten or created since then reads
-- as empty. The rows of pg_class are those of that moment; the functions look at what is there now.
-- name: moved
SELECT EXISTS (
  SELECT FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_inherits i ON i.inhparent = c.oid
  LEFT JOIN pg_class part ON part.oid = i.inhrelid
  WHERE n.nspname = {schema} AND c.relkind IN ('r', 'p') AND c.relname IN (
      'users', 'clients', 'queues', 'conversations', 'messages', 'instance_config', 'plans', 'status_check_logs', 'settings')
    AND (c.oid::regclass::text <> format('%%I.%%I', n.nspname, c.relname)
      OR pg_relation_filenode(c.oid) IS DISTINCT FROM NULLIF(c.relfilenode, 0)
      OR pg_relation_filenode(part.oid) IS DISTINCT FROM NULLIF(part.relfilenode, 0))
) AS moved;
