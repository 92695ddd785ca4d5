-- Whose code would run, and who owns fivrec's tables: first what the statement `settings` of transaction.sql asks, then
-- the same in words. An owner is trusted if it is the login itself or a superuser. The login is the session's user: the
-- role that it acts as may be the database owner's choice (ALTER DATABASE … SET role), and code may undo that.

-- Whether a policy of fivrec's is on the app's tables: on other tables anybody may have a policy of that name, and on
-- these the app may have others that begin with fivrec_.
-- name: own_policy
SELECT 1 AS found
FROM pg_policy p
JOIN pg_class c ON c.oid = p.polrelid
WHERE p.polname IN ('fivrec_environment', 'fivrec_production', 'fivrec_development', 'fivrec_owner')
  AND c.relnamespace = to_regnamespace(quote_ident({schema}))
  AND c.relname IN ('users', 'clients', 'queues', 'conversations', 'messages');

-- Whether the session could get more rights than the role that it acts as, which may not be its own.
-- name: acting
SELECT 1 AS found
FROM pg_roles r
WHERE r.rolname IN (session_user, current_user) AND (r.rolsuper OR r.rolcreaterole OR r.rolbypassrls OR EXISTS (
  SELECT FROM pg_auth_members m
  WHERE m.member = r.oid AND m.roleid <> to_regrole(quote_ident(current_user))
    AND (to_jsonb(m) ->> 'set_option' IS DISTINCT FROM 'false' OR to_jsonb(m) ->> 'inherit_option' = 'true')));

-- Whether a superuser's session, which may act as another role, holds no tables (`hold`).
-- name: unheld
SELECT 1 AS found
FROM pg_roles r
WHERE r.rolname = session_user AND r.rolsuper
  AND split_part(current_setting('fivrec.held', true), ' ', 1) IS DISTINCT FROM extract(epoch FROM now())::text;

-- Whether there can be other roles' code at all: an object that needs a user-defined function, operator or type, a
-- trigger with a condition, or a table that is not a plain table of this login, also if foreign keys change it.
-- name: any_code
SELECT 1 AS found
WHERE EXISTS (
    SELECT FROM pg_depend d
    WHERE d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_type'::regclass, 'pg_opclass'::regclass)
      AND d.refobjid >= 16384 AND d.classid IN (
        'pg_trigger'::regclass, 'pg_rewrite'::regclass, 'pg_policy'::regclass, 'pg_attrdef'::regclass,
        'pg_constraint'::regclass, 'pg_class'::regclass, 'pg_statistic_ext'::regclass, 'pg_event_trigger'::regclass)
  ) OR EXISTS (
    SELECT FROM pg_class c
    WHERE c.relnamespace IN (to_regnamespace('fivrec'), to_regnamespace(quote_ident({schema})))
      AND c.relkind NOT IN ('i', 'I', 'S', 't', 'c') AND (
        c.relkind <> 'r' OR c.relhasrules OR c.relhassubclass
        OR c.relowner <> to_regrole(quote_ident(session_user))
        OR c.relhastriggers AND EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = c.oid AND g.tgqual IS NOT NULL))
  ) OR EXISTS (  -- a table of any schema whose rows are changed along
    SELECT FROM pg_constraint k
    JOIN pg_class c ON c.oid = k.conrelid
    WHERE k.contype = 'f' AND (k.confdeltype NOT IN ('a', 'r') OR k.confupdtype NOT IN ('a', 'r')) AND (
      c.relowner <> to_regrole(quote_ident(session_user))
      OR EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = c.oid AND g.tgqual IS NOT NULL)));

-- What in the schema fivrec belongs to somebody else, with the statement that hands it to this login. If a plain login
-- only reads (a dry run in a pull request), objects of the database's owner are accepted: with that login's rights, in
-- a read-only transaction, they could do nothing. A role that the login only administers, as from PostgreSQL 16 on every
-- role that it made, is another's: its code may be anybody's. Objects of the server's first superuser have no entry in pg_shdepend.
-- Parts of another object (identity columns' sequences) go with it.
-- name: foreign_schema
SELECT concat(CASE WHEN found.classid NOT IN ('pg_class'::regclass, 'pg_proc'::regclass) THEN concat(made.type, ' ') END,
              made.identity) AS what,
       pg_get_userbyid(found.owner) AS owner,
       format('ALTER %%s %%s OWNER TO %%I', upper(made.type), made.identity, session_user) AS statement
FROM (
  SELECT 'pg_namespace'::regclass::oid AS classid, n.oid AS objid, n.nspowner AS owner
  FROM pg_namespace n WHERE n.nspname = 'fivrec'
  UNION ALL
  SELECT d.classid, d.objid, s.refobjid
  FROM pg_namespace n
  JOIN pg_depend d ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid AND d.classid <> 'pg_default_acl'::regclass
  JOIN pg_shdepend s ON s.dbid = (SELECT b.oid FROM pg_database b WHERE b.datname = current_database())
    AND s.classid = d.classid AND s.objid = d.objid AND s.deptype = 'o'
  WHERE n.nspname = 'fivrec' AND NOT EXISTS (
    SELECT FROM pg_depend p
    WHERE p.classid = d.classid AND p.objid = d.objid AND p.deptype IN ('a', 'i') AND p.refobjsubid > 0)
) AS found
CROSS JOIN LATERAL pg_identify_object(found.classid, found.objid, 0) AS made
JOIN pg_roles me ON me.rolname = session_user
WHERE found.owner <> me.oid
  AND NOT EXISTS (SELECT FROM pg_roles s WHERE s.oid = found.owner AND s.rolsuper)
  AND (me.rolsuper OR NOT pg_has_role(me.oid, found.owner,
    CASE WHEN current_setting('server_version_num')::integer < 160000 THEN 'MEMBER' ELSE 'USAGE, SET' END))
  AND NOT (
    current_setting('transaction_read_only') = 'on' AND NOT (me.rolsuper OR me.rolcreaterole OR me.rolbypassrls)
    AND found.owner = (SELECT d.datdba FROM pg_database d WHERE d.datname = current_database()))
ORDER BY found.classid <> 'pg_namespace'::regclass, found.classid, 1;

-- Fails with division by zero if there is any of that. Asked before fivrec's own functions are called, as PostgreSQL
-- would prefer an overload with closer types.
-- name: owned
SELECT 1 / CASE WHEN NOT %(trusted)s::boolean AND EXISTS (SELECT FROM pg_namespace WHERE nspname = 'fivrec')
                 AND EXISTS (SELECT FROM ts_stat(%(foreign_schema)s::text)) THEN 0 ELSE 1 END;

-- Other roles' code on the tables of the app and of fivrec: what it is, and on which table. Functions and types of
-- pg_catalog are not in pg_depend. Expressions on somebody else's table may use them too, and those of extensions, except
-- `risky` ones: they change something, or run a query, or the code of a type, that they get as a text or a number, or
-- read what only the login may. An expression's tree names each function that it calls by its number.
-- name: foreign_code
WITH RECURSIVE me AS (
  SELECT oid FROM pg_roles WHERE rolname = session_user
), trusted AS (
  SELECT oid FROM pg_roles WHERE rolsuper
  UNION SELECT oid FROM me
), risky AS (
  SELECT f.oid
  FROM pg_proc f JOIN pg_language l ON l.oid = f.prolang AND l.lanname IN ('internal', 'c')
  WHERE f.provolatile = 'v' AND f.prorettype <> 'trigger'::regtype AND f.proname <> ALL (string_to_array(
      'clock_timestamp timeofday random random_normal gen_random_uuid uuidv4 uuidv7 uuid_generate_v1 uuid_generate_v1mc '
      'uuid_generate_v4 uuid_generate_v7 gen_ulid gen_random_bytes gen_salt nextval currval lastval txid_current pg_current_xact_id', ' '))
    OR f.proname ~ '^((domain|array|record|range|multirange)_in$|pg_input_|(table|schema|database)_to_xml|crosstab|connectby$|xpath_table$|pg_stat_get_backend_activity$|lo_manage$|check_(primary|foreign)_key$)'
), cascades AS MATERIALIZED (
  -- Rows of these are changed along: before PostgreSQL 18 their triggers run as the login. Read once: no index finds them
  -- by the table that they refer to. `place`: only beside its first one is a table looked up for the rest.
  SELECT k.confrelid, k.conrelid, row_number() OVER (PARTITION BY k.confrelid) AS place
  FROM pg_constraint k
  WHERE k.contype = 'f' AND (k.confdeltype NOT IN ('a', 'r') OR k.confupdtype NOT IN ('a', 'r'))
), tables AS (
  SELECT c.oid, c.relkind, c.relowner
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND (n.nspname = 'fivrec' OR n.nspname = {schema} AND c.relname IN (
    'users', 'clients', 'queues', 'conversations', 'messages', 'instance_config', 'plans', 'status_check_logs', 'settings'))
  UNION
  SELECT c.oid, c.relkind, c.relowner
  FROM tables t
  LEFT JOIN cascades k ON k.confrelid = t.oid
  CROSS JOIN LATERAL (
    SELECT k.conrelid AS oid
    UNION ALL
    SELECT i.inhrelid FROM pg_inherits i WHERE i.inhparent = t.oid AND COALESCE(k.place, 1) = 1
    UNION ALL  -- a view over views, a rule that writes elsewhere: whoever made it, theirs runs as the login too
    SELECT d.refobjid
    FROM pg_rewrite w JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass
    WHERE w.ev_class = t.oid AND COALESCE(k.place, 1) = 1
    UNION ALL
    SELECT d.refobjid
    FROM pg_policy p JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_class'::regclass
    WHERE p.polrelid = t.oid AND COALESCE(k.place, 1) = 1
  ) AS along
  JOIN pg_class c ON c.oid = along.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
), parts AS (
  SELECT t.oid AS tbl, 'trigger' AS kind, g.tgname::text AS name, 'pg_trigger'::regclass AS class, g.oid AS object,
         concat(g.tgqual::text, ' :funcid ', g.tgfoid) AS tree
  FROM tables t JOIN pg_trigger g ON g.tgrelid = t.oid WHERE NOT g.tgisinternal
  UNION ALL
  SELECT t.oid, 'rule', r.rulename::text, 'pg_rewrite'::regclass, r.oid, NULL
  FROM tables t JOIN pg_rewrite r ON r.ev_class = t.oid
  UNION ALL
  SELECT t.oid, 'policy', p.polname::text, 'pg_policy'::regclass, p.oid,
         concat(p.polqual::text, ' ', p.polwithcheck::text)
  FROM tables t JOIN pg_policy p ON p.polrelid = t.oid
  UNION ALL
  SELECT t.oid, CASE WHEN a.attgenerated = '' THEN 'default' ELSE 'generated column' END, a.attname::text,
         'pg_attrdef'::regclass, d.oid, d.adbin::text
  FROM tables t JOIN pg_attrdef d ON d.adrelid = t.oid JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.adnum
  UNION ALL
  SELECT t.oid, 'constraint', k.conname::text, 'pg_constraint'::regclass, k.oid, k.conbin::text
  FROM tables t JOIN pg_constraint k ON k.conrelid = t.oid
  UNION ALL
  SELECT t.oid, 'index', i.indexrelid::regclass::text, 'pg_class'::regclass, i.indexrelid,
         concat(i.indexprs::text, ' ', i.indpred::text)
  FROM tables t JOIN pg_index i ON i.indrelid = t.oid
  UNION ALL
  SELECT t.oid, 'statistics', s.stxname::text, 'pg_statistic_ext'::regclass, s.oid, NULL
  FROM tables t JOIN pg_statistic_ext s ON s.stxrelid = t.oid
  UNION ALL
  SELECT t.oid, 'column type', a.attname::text, 'pg_type'::regclass, a.atttypid, NULL
  FROM tables t JOIN pg_attribute a ON a.attrelid = t.oid WHERE a.attnum > 0 AND NOT a.attisdropped
  UNION ALL  -- what a partition key calls is the table's own
  SELECT t.oid, 'partition key', '', d.refclassid, d.refobjid, NULL
  FROM tables t JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = t.oid AND d.objsubid = 0
  WHERE t.relkind = 'p' AND d.refclassid IN ('pg_proc'::regclass, 'pg_opclass'::regclass, 'pg_operator'::regclass)
), reached (tbl, kind, name, class, object) AS (
  -- What a part runs, and what that depends on: the CHECK of the login's own domain may call another role's function.
  SELECT p.tbl, p.kind, p.name, p.class::oid, p.object FROM parts p
  UNION
  SELECT r.tbl, r.kind, r.name, further.class, further.object
  FROM reached r
  CROSS JOIN LATERAL (
    SELECT d.refclassid AS class, d.refobjid AS object
    FROM pg_depend d
    WHERE d.classid = r.class AND d.objid = r.object AND d.refclassid IN (
      'pg_proc'::regclass, 'pg_operator'::regclass, 'pg_type'::regclass, 'pg_opclass'::regclass)
    UNION ALL
    SELECT 'pg_constraint'::regclass, k.oid
    FROM pg_constraint k WHERE r.class = 'pg_type'::regclass AND k.contypid = r.object
    UNION ALL
    SELECT 'pg_class'::regclass, y.typrelid
    FROM pg_type y WHERE r.class = 'pg_type'::regclass AND y.oid = r.object AND y.typrelid <> 0
    UNION ALL
    SELECT d.classid, d.objid
    FROM pg_depend d
    WHERE r.class = 'pg_opclass'::regclass AND d.refclassid = r.class AND d.refobjid = r.object
      AND d.classid IN ('pg_amproc'::regclass, 'pg_amop'::regclass)
  ) AS further
), code AS (
  SELECT r.tbl, r.kind, r.name, COALESCE(f.proowner, o.oprowner, s.opcowner, y.typowner) AS owner
  FROM reached r
  LEFT JOIN pg_proc f ON r.class = 'pg_proc'::regclass AND f.oid = r.object
  LEFT JOIN pg_operator o ON r.class = 'pg_operator'::regclass AND o.oid = r.object
  LEFT JOIN pg_opclass s ON r.class = 'pg_opclass'::regclass AND s.oid = r.object
  LEFT JOIN pg_type y ON r.class = 'pg_type'::regclass AND y.oid = r.object
  UNION ALL
  SELECT p.tbl, p.kind, p.name, c.relowner
  FROM parts p
  JOIN pg_depend d ON d.classid = p.class AND d.objid = p.object AND d.refclassid = 'pg_class'::regclass
  JOIN pg_class c ON c.oid = d.refobjid
  WHERE p.kind = 'policy' AND c.oid <> p.tbl
  UNION ALL
  -- PostgreSQL does not record who made a trigger: its condition may be anybody's.
  SELECT p.tbl, p.kind, p.name, CASE WHEN p.kind = 'trigger' THEN 0 ELSE t.relowner END
  FROM parts p JOIN tables t ON t.oid = p.tbl
  WHERE p.kind = 'rule' OR EXISTS (
    SELECT FROM regexp_matches(p.tree, ':(?:funcid|opfuncid|aggfnoid|winfnoid) ([0-9]+)', 'g') AS called (functions)
    WHERE called.functions[1]::oid IN (SELECT oid FROM risky))
    OR p.kind = 'default' AND position('current_setting(' IN regexp_replace((
      -- Settings with a prefix, like app.tenant, are anybody's to read; others may be superusers'. Not EXISTS: PostgreSQL
      -- would print every default of the database to look up a few.
      SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d WHERE d.oid = p.object
    ), 'current_setting[(]''[A-Za-z0-9_]+[.]', '', 'g')) > 0
  UNION ALL
  SELECT t.oid, 'view', '', t.relowner FROM tables t WHERE t.relkind NOT IN ('r', 'p')
  UNION ALL  -- a migration would run it
  SELECT 0, 'event trigger', e.evtname::text, f.proowner
  FROM pg_event_trigger e JOIN pg_proc f ON f.oid = e.evtfoid WHERE e.evtenabled <> 'D'
)
SELECT DISTINCT CASE WHEN c.tbl = 0 THEN 'this database' ELSE c.tbl::regclass::text END AS on_table, c.kind, c.name,
       CASE WHEN c.owner = 0 THEN 'an unknown role' ELSE pg_get_userbyid(c.owner) END AS owner
FROM code c
WHERE c.owner NOT IN (SELECT oid FROM trusted)
ORDER BY 1, 2, 3;

-- For superusers, before the guard looks: until the end nobody puts code onto these tables, or another table or view in the
-- place of one. Who reads or writes rows does not wait for these locks. By names: what bears one is held, whatever it was a
-- moment ago. `held` are the tables that the transaction uses: it does not wait for another one. The word fivrec means
-- fivrec's own. Only a transaction that uses them all changes keys, which is when those that refer to them are looked at.
-- `used` are those that its first statements name: what is missing is said here, as it could be made before they run.
-- name: to_hold
SELECT set_config('lock_timeout', %(lock_timeout)s, true), set_config('fivrec.held', concat(%(held)s::text, '|', %(used)s::text), true);

-- Only one query in the usual case: PostgreSQL plans each anew, while it just evaluates plain expressions.
-- name: hold
DO $$
DECLARE
  names text[] := string_to_array(split_part(current_setting('fivrec.held'), '|', 1), ' ');
  used text[] := string_to_array(split_part(current_setting('fivrec.held'), '|', 2), ' ');
  reads boolean := current_setting('transaction_read_only') = 'on';
  held record;
  place text;
  found regclass;
  places text[];
  locked oid[];
  spaces oid[];
  there text[];
BEGIN
  IF current_setting('session_replication_role') = 'replica' THEN  -- by its database or login: no trigger would fire
    SET LOCAL session_replication_role = 'origin';
  END IF;
  FOR left_over IN REVERSE 50..0 LOOP
    BEGIN
      places := '{}';
      locked := '{}';
      spaces := '{}';
      there := CASE WHEN to_regnamespace('fivrec') IS NULL THEN '{}' ELSE '{fivrec}' END;
      FOR held IN
        WITH shared AS (
          SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE n.nspname = 'fivrec' AND 'fivrec' = ANY (names) OR n.nspname = {schema} AND c.relname = ANY (names)
        ), trusted AS (
          SELECT oid FROM pg_roles WHERE rolsuper OR rolname = session_user
        )
        SELECT c.oid, format('%%I.%%I', n.nspname, c.relname) AS place, CASE
            WHEN reads THEN 'ACCESS SHARE'
            -- Its owner could make another table inherit from it, whose triggers an UPDATE then runs. Of the large ones
            -- plain tables are only inserted into, or purged: autovacuum need not stop for each run.
            WHEN (c.relkind = 'p' OR 'purge' = ANY (names) OR n.nspname = {schema} AND c.relname IN (
                'users', 'queues', 'instance_config', 'plans', 'status_check_logs', 'settings'))
              AND c.relowner NOT IN (SELECT oid FROM trusted) THEN 'SHARE UPDATE EXCLUSIVE'
            ELSE 'ROW EXCLUSIVE' END AS mode,
          CASE WHEN CASE WHEN n.nspowner = 'pg_database_owner'::regrole
                    THEN (SELECT datdba FROM pg_database WHERE datname = current_database()) ELSE n.nspowner END
                 NOT IN (SELECT oid FROM trusted) THEN n.oid END AS space
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND (c.oid IN (SELECT oid FROM shared) OR 'users' = ANY (names) AND c.oid IN (
          SELECT k.conrelid FROM pg_constraint k WHERE k.contype = 'f' AND k.confrelid IN (SELECT oid FROM shared)))
        ORDER BY c.oid
      LOOP
        EXECUTE format('LOCK TABLE %%s IN %%s MODE', held.place, held.mode);
        places := places || held.place;
        locked := locked || held.oid;
        IF held.space <> ALL (spaces) THEN
          spaces := spaces || held.space;
        END IF;
      END LOOP;
      -- A schema's owner could give its name to another one.
      IF spaces <> '{}' AND NOT pg_is_in_recovery() THEN
        IF reads THEN
          LOCK TABLE pg_catalog.pg_namespace IN SHARE MODE;
        ELSE
          PERFORM FROM pg_namespace WHERE oid = ANY (spaces) ORDER BY oid FOR KEY SHARE;
        END IF;
      END IF;
      -- A reading sees the catalogue of an earlier moment than the one whose names its statements use.
      FOR at IN 1..cardinality(locked) LOOP
        IF to_regclass(places[at]) IS NULL THEN
          RAISE undefined_table;
        ELSIF to_regclass(places[at]) <> locked[at] THEN
          RAISE serialization_failure;
        END IF;
      END LOOP;
      FOR at IN 1..cardinality(names) LOOP
        place := format('%%I.%%I', {schema}, names[at]);
        found := to_regclass(place);
        IF names[at] NOT IN ('fivrec', 'purge') AND found IS NOT NULL THEN
          there := there || names[at];
          IF place <> ALL (places) AND NOT EXISTS (  -- a view: the guard looks at it
              SELECT FROM pg_class WHERE oid = found AND relkind NOT IN ('r', 'p')) THEN
            RAISE serialization_failure;
          END IF;
        END IF;
      END LOOP;
      EXIT;
    EXCEPTION
      WHEN invalid_schema_name OR undefined_table THEN
        -- Its row is there, its name is not: a commit shows rows a moment before it tells other sessions to forget what
        -- they know of names, so that one that has looked in vain for fivrec, while another run made it, still finds nothing.
        IF left_over = 0 THEN
          RAISE;
        END IF;
        PERFORM pg_sleep(0.02);
      WHEN serialization_failure THEN
        IF left_over = 0 OR reads THEN
          RAISE;
        END IF;
    END;
  END LOOP;
  FOR at IN 1..cardinality(used) LOOP
    IF split_part(used[at], '.', 1) <> ALL (there) THEN
      place := CASE WHEN used[at] LIKE 'fivrec.%%' THEN used[at] ELSE concat({schema}, '.', used[at]) END;
      RAISE undefined_table USING MESSAGE = format('relation "%%s" does not exist', place);
    END IF;
  END LOOP;
  -- An adoption reads those that are there. With the time, as a database's owner could give the setting a default.
  PERFORM set_config('fivrec.held', concat(extract(epoch FROM now()), ' ', array_to_string(there, ' ')), true);
END
$$;

-- Tables that a superuser's transaction looked for in vain: whoever makes one now could put a trigger on it.
-- name: lacking
SELECT wanted.name
FROM unnest(%(names)s::text[]) AS wanted (name), string_to_array(current_setting('fivrec.held', true), ' ') AS held
WHERE held[1] = extract(epoch FROM now())::text AND wanted.name <> ALL (held);

-- Tables of the app that can't be adopted, and why.
-- name: unfit_tables
SELECT c.oid::regclass::text AS on_table, CASE c.relkind
         WHEN 'v' THEN 'a view' WHEN 'm' THEN 'a materialized view' WHEN 'f' THEN 'a foreign table'
         WHEN 'p' THEN CASE WHEN c.relname = 'users' THEN 'partitioned, so that (email) can''t be unique beside (id, environment)'
           ELSE 'partitioned by other columns than id and environment, so that (id, environment) can''t be unique' END
         ELSE 'no table' END AS kind
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = {schema} AND c.relname IN (
    'users', 'clients', 'queues', 'conversations', 'messages', 'instance_config', 'plans', 'status_check_logs', 'settings')
  AND (c.relkind NOT IN ('r', 'p') OR c.relkind = 'p' AND (c.relname = 'users' OR c.relname IN (
         'clients', 'queues', 'conversations', 'messages') AND EXISTS (
         SELECT FROM pg_partitioned_table p
         CROSS JOIN LATERAL unnest(p.partattrs::smallint[]) AS part (attnum)
         LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = part.attnum
         WHERE p.partrelid = c.oid AND COALESCE(a.attname NOT IN ('id', 'environment'), true))))
ORDER BY 1;

-- Documented tables that another schema than the declared one has, and whether the declared one lacks them. A table of that
-- name counts if it has the columns that the documentation says are never null: other programs have a table users too.
-- Many have a table settings with a key and a value: it counts if its schema is on the search_path of this database or
-- login.
-- name: elsewhere
SELECT n.nspname::text AS schema, c.relname::text AS name,
       to_regclass(format('%%I.%%I', {schema}, documented.name)) IS NULL AS lacking
FROM (VALUES
  ('users', ARRAY['id', 'name', 'email', 'password', 'role', 'environment']),
  ('instance_config', ARRAY['id', 'instance_id', 'instance_key', 'connect_api_url']),
  ('plans', ARRAY['id', 'name', 'price', 'currency', 'billing_interval', 'features']),
  ('status_check_logs', ARRAY['id', 'instance_config_id', 'check_type', 'success']),
  ('queues', ARRAY['id', 'name', 'environment']),
  ('clients', ARRAY['id', 'name', 'environment']),
  ('conversations', ARRAY['id', 'status', 'environment']),
  ('messages', ARRAY['id', 'conversation_id', 'environment']),
  ('settings', ARRAY['key', 'value'])
) AS documented (name, columns)
JOIN pg_class c ON c.relname = documented.name AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'fivrec', {schema})
  AND n.nspname NOT LIKE 'pg\_%%'
  AND (documented.name <> 'settings' OR n.nspname = ANY (
    SELECT btrim(part, ' "') FROM pg_settings, unnest(string_to_array(reset_val, ',')) AS part
    WHERE pg_settings.name = 'search_path'))
  AND NOT EXISTS (
    SELECT FROM unnest(documented.columns) AS wanted (name)
    WHERE NOT EXISTS (
      SELECT FROM pg_attribute a
      WHERE a.attrelid = c.oid AND a.attname = wanted.name AND a.attnum > 0 AND NOT a.attisdropped))
ORDER BY 1, 2;

-- Documented columns of another type than documented, or with a collation that treats several texts as equal, and what
-- they are: an error about types, or a difference that never goes away, may come from them. For a column that generates
-- its values: also what turns it into an ordinary column.
-- name: other_types
SELECT format('%%s.%%s is %%s', c.relname, a.attname, concat(format_type(a.atttypid, a.atttypmod), CASE
         WHEN a.attidentity = 'a' THEN ' GENERATED ALWAYS AS IDENTITY' WHEN a.attgenerated <> '' THEN ' GENERATED ALWAYS' END,
         ' COLLATE ' || quote_ident(l.collname))) AS found,
       CASE
         WHEN a.attidentity = 'a' THEN format('ALTER TABLE %%I.%%I ALTER COLUMN %%I DROP IDENTITY', n.nspname, c.relname, a.attname)
         WHEN a.attgenerated = 's' THEN format('ALTER TABLE %%I.%%I ALTER COLUMN %%I DROP EXPRESSION', n.nspname, c.relname, a.attname)
         WHEN a.attgenerated <> '' THEN format('replace %%I.%%I.%%I, which is virtual, by an ordinary column with its values', n.nspname, c.relname, a.attname)
       END AS ordinary
FROM (VALUES
  ('users', 'id name email password role environment', ARRAY['text', 'character varying']),
  ('instance_config', 'id instance_id instance_key connect_api_url status billing_status', ARRAY['text', 'character varying']),
  ('instance_config', 'check_interval_minutes', ARRAY['integer']),
  ('instance_config', 'is_locked', ARRAY['boolean']),
  ('instance_config', 'enabled_features', ARRAY['json', 'jsonb']),
  ('instance_config', 'last_status_check', ARRAY['timestamp without time zone', 'timestamp with time zone']),
  ('plans', 'id name description currency billing_interval stripe_product_id stripe_price_id', ARRAY['text', 'character varying']),
  ('plans', 'price max_users max_conversations storage_limit', ARRAY['integer']),
  ('plans', 'is_active', ARRAY['boolean']),
  ('plans', 'features', ARRAY['json', 'jsonb']),
  ('status_check_logs', 'id instance_config_id check_type status_received error_message', ARRAY['text', 'character varying']),
  ('status_check_logs', 'success', ARRAY['boolean']),
  ('status_check_logs', 'response_time', ARRAY['integer']),
  ('status_check_logs', 'created_at', ARRAY['timestamp without time zone', 'timestamp with time zone']),
  ('queues', 'id name description environment', ARRAY['text', 'character varying']),
  ('queues', 'is_active', ARRAY['boolean']),
  ('clients', 'id environment', ARRAY['text', 'character varying']),
  ('conversations', 'id client_id queue_id user_id status environment', ARRAY['text', 'character varying']),
  ('conversations', 'last_activity_at', ARRAY['timestamp without time zone', 'timestamp with time zone']),
  ('messages', 'id conversation_id user_id environment', ARRAY['text', 'character varying']),
  ('settings', 'key', ARRAY['text', 'character varying']),
  ('settings', 'value', ARRAY['json', 'jsonb']),
  ('settings', 'updated_at', ARRAY['timestamp without time zone', 'timestamp with time zone'])
) AS documented (name, columns, types)
JOIN pg_class c ON c.relname = documented.name
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = {schema}
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = ANY (string_to_array(documented.columns, ' '))
LEFT JOIN pg_collation l ON l.oid = a.attcollation AND NOT l.collisdeterministic
WHERE NOT a.attisdropped AND (
  a.attidentity = 'a' OR a.attgenerated <> '' OR l.oid IS NOT NULL
  OR NOT format_type(a.atttypid, CASE WHEN a.atttypid NOT IN ('timestamp'::regtype, 'timestamptz'::regtype) THEN a.atttypmod END)
    = ANY (documented.types))
ORDER BY a.atttypid = 'uuid'::regtype, 1;

-- Columns between which no foreign key can be made, as one is text and the other a number, a UUID or an enum, say. A column
-- that is not there yet is going to be text, or of the type that the app's own columns have.
-- name: unfit_references
WITH ids AS (
  SELECT c.relname AS tbl, a.attname AS col, format_type(t.oid, NULL) AS type,
         concat(t.typcategory, CASE t.typcategory WHEN 'E' THEN t.oid END) AS sort
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = {schema}
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  JOIN pg_type t ON t.oid = a.atttypid
)
SELECT format('%%s.%%s is %%s and %%s.%%s %%s', link.child, pair.own, COALESCE(own.type, 'text'),
              link.parent, pair.other, COALESCE(other.type, 'text')) AS found
FROM (VALUES {references}) AS link (child, reference, parent)
CROSS JOIN LATERAL (VALUES (link.reference, 'id'), ('environment', 'environment')) AS pair (own, other)
LEFT JOIN ids own ON own.tbl = link.child AND own.col = pair.own
LEFT JOIN ids other ON other.tbl = link.parent AND other.col = pair.other
WHERE COALESCE(own.sort, 'S') <> COALESCE(other.sort, 'S')
  AND NOT (own.col IS NULL AND left(other.sort, 1) IN ('N', 'U', 'E'))
  AND NOT (pair.own = 'environment' AND other.col IS NULL AND left(own.sort, 1) IN ('N', 'U', 'E'))
ORDER BY 1;

-- Columns that need a default in rows that fivrec makes, as it gives them no value and they must have one; each with
-- the statement. For a time that is now(); only the app knows the other values.
-- name: unfilled
SELECT format('%%s, %%s', c.relname, a.attname) AS found,
       format('ALTER TABLE %%I.%%I ALTER COLUMN %%I SET DEFAULT %%s', n.nspname, c.relname, a.attname,
              CASE t.typcategory WHEN 'D'::"char" THEN 'now()' ELSE '...' END) AS statement
FROM (VALUES
  ('users', 'name email password role environment'),
  ('instance_config', 'instance_id instance_key connect_api_url check_interval_minutes'),
  ('plans', 'id name description price currency billing_interval features max_users max_conversations storage_limit is_active stripe_product_id stripe_price_id'),
  ('status_check_logs', 'id instance_config_id check_type success status_received error_message response_time created_at'),
  ('queues', 'name description is_active environment'),
  ('settings', 'key value')
) AS written (name, columns)
JOIN pg_class c ON c.relname = written.name
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = {schema}
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AND a.attgenerated = '' AND t.typdefault IS NULL
  AND a.attname <> ALL (string_to_array(written.columns, ' '))
  AND NOT (a.attname = 'id' AND a.atttypid IN ('varchar'::regtype, 'text'::regtype, 'uuid'::regtype))  -- the migration's
ORDER BY 1;

-- name: newest
SELECT max(version) AS version FROM fivrec.migrations;

-- Fails with division by zero if a newer fivrec migrated the database.
-- name: not_newer
SELECT 1 / CASE WHEN EXISTS (SELECT FROM fivrec.migrations WHERE version > %(latest)s::integer) THEN 0 ELSE 1 END;
