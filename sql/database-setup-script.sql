-- The database of one Fi.V App instance: everything that fivrec needs, in plain SQL.
--
--   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -1
--   \i sql/database-setup-script.sql
--
-- For an empty database and for one that the app already made: tables keep their rows and gain what they lack.
-- Running it again changes nothing. `fivrec apply` runs the same statements.
-- Made from sql/migrations by `fivrec sql`; edit those.

-- The app's tables are in schema public, or in another one: psql -v schema=NAME

\if :{?schema}
\else
  \set schema public
\endif
SET client_min_messages = warning;
SET search_path = pg_catalog, pg_temp;
SET plpgsql.extra_errors = 'none';

-- 0001 fivrec

-- What only fivrec uses, in a schema of its own: the app's tables hold the app's data and nothing else.

-- One that another role made is refused: what stands in it would run with this login's rights. See docs/logins.md.
DO $$
DECLARE
  other text;
BEGIN
  SELECT quote_ident(pg_get_userbyid(n.nspowner)) INTO other
  FROM pg_namespace n JOIN pg_roles me ON me.rolname = current_user
  WHERE n.nspname = 'fivrec' AND n.nspowner <> me.oid
    AND NOT EXISTS (SELECT FROM pg_roles s WHERE s.oid = n.nspowner AND s.rolsuper)
    AND (me.rolsuper OR NOT pg_has_role(me.oid, n.nspowner, 'MEMBER'));
  IF other IS NOT NULL THEN
    RAISE EXCEPTION 'the schema fivrec belongs to %, which could make it run code', other
      USING HINT = format('if that role made it for fivrec: ALTER SCHEMA fivrec OWNER TO %I', current_user);
  ELSIF to_regnamespace('fivrec') IS NULL THEN
    CREATE SCHEMA fivrec;
  END IF;
END
$$;

-- Where the app's tables are: the variable `schema` of psql, database.schema of a manifest. Everything below asks here,
-- as no search_path decides which table is meant.
CREATE OR REPLACE FUNCTION fivrec.app_schema() RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN :'schema'::text;

CREATE OR REPLACE FUNCTION fivrec.app_table(name text) RETURNS regclass
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp
RETURN to_regclass(format('%I.%I', fivrec.app_schema(), app_table.name));

DO $$
BEGIN
  IF to_regnamespace(quote_ident(fivrec.app_schema())) IS NULL THEN
    EXECUTE format('CREATE SCHEMA %I', fivrec.app_schema());
  END IF;
END
$$;

CREATE TABLE IF NOT EXISTS fivrec.migrations (
  version integer PRIMARY KEY,
  name text NOT NULL,
  checksum text NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT now()
);

-- Which schema the migration was made for, and whether what it leaves for later transactions is done.
ALTER TABLE fivrec.migrations
  ADD COLUMN IF NOT EXISTS app_schema text DEFAULT 'public',
  ADD COLUMN IF NOT EXISTS finished boolean NOT NULL DEFAULT true;

-- fivrec 0.1 does not look for newer migrations and would run its own eight over them. Its record of them, which has no
-- app_schema, fails, and with it all that it wrote. What a later fivrec records is its own affair.
ALTER TABLE fivrec.migrations
  ALTER COLUMN app_schema DROP DEFAULT,
  ALTER COLUMN app_schema DROP NOT NULL,
  DROP CONSTRAINT IF EXISTS migrations_not_by_0_1,
  ADD CONSTRAINT migrations_not_by_0_1 CHECK (version > 8 OR app_schema IS NOT NULL);

-- One row per change. seq goes on by one and hash covers prev_hash, so that an edited or lost row shows.
CREATE TABLE IF NOT EXISTS fivrec.audit_log (
  seq bigint PRIMARY KEY,
  id text NOT NULL UNIQUE,
  run_id text NOT NULL,
  at timestamptz NOT NULL,
  actor text NOT NULL,
  git_commit text,
  manifest_digest text NOT NULL,
  instance text NOT NULL,
  environment text NOT NULL,
  kind text NOT NULL,
  name text NOT NULL,
  action text NOT NULL,
  cause text NOT NULL,
  source text NOT NULL,
  fields json NOT NULL,
  prev_hash text NOT NULL,
  hash text NOT NULL UNIQUE
);

CREATE INDEX IF NOT EXISTS audit_log_run_id_idx ON fivrec.audit_log (run_id);

-- What was last applied to each resource: tells a new intent from drift. Sensitive fields hold a keyed fingerprint.
CREATE TABLE IF NOT EXISTS fivrec.applied (
  environment text NOT NULL,
  kind text NOT NULL,
  name text NOT NULL,
  fields jsonb NOT NULL,
  run_id text NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (environment, kind, name)
);

-- Usage reports on their way to Connect. id is the idempotency key: a report sent twice is counted once.
CREATE TABLE IF NOT EXISTS fivrec.usage_outbox (
  id text PRIMARY KEY,
  instance text NOT NULL,
  environment text NOT NULL,
  payload json NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  attempts integer NOT NULL DEFAULT 0,
  last_error text,
  next_attempt_at timestamptz NOT NULL DEFAULT now(),
  sent_at timestamptz
);

CREATE INDEX IF NOT EXISTS usage_outbox_pending_idx
  ON fivrec.usage_outbox (next_attempt_at) WHERE sent_at IS NULL;

-- Those that refer to others first, as an INSERT of the app locks them: in another order one of both would be a deadlock's
-- victim, after a second in which nobody reads.
DO $$
DECLARE
  tbl regclass;
BEGIN
  FOR tbl IN
    SELECT fivrec.app_table(name) FROM unnest(ARRAY[
      'messages', 'conversations', 'status_check_logs', 'clients', 'queues', 'users', 'instance_config', 'plans',
      'settings']) AS name
    WHERE fivrec.app_table(name) IS NOT NULL
  LOOP
    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', tbl);
  END LOOP;
END
$$;

-- 0002 app_tables

-- The app's own tables, column by column as its documentation has them (Esquema do Banco de Dados).
-- A table that the app already made keeps its rows and gains the columns that it lacks.

CREATE TABLE IF NOT EXISTS :"schema".users (
  id varchar PRIMARY KEY DEFAULT gen_random_uuid(),
  name text NOT NULL,
  email text NOT NULL UNIQUE,
  password text NOT NULL,
  role text NOT NULL DEFAULT 'agent',
  is_online boolean DEFAULT false,
  custom_theme json,
  environment text NOT NULL DEFAULT 'production',
  created_at timestamp DEFAULT now()
);

ALTER TABLE :"schema".users
  ADD COLUMN IF NOT EXISTS name text NOT NULL,
  ADD COLUMN IF NOT EXISTS email text NOT NULL,
  ADD COLUMN IF NOT EXISTS password text NOT NULL,
  ADD COLUMN IF NOT EXISTS role text NOT NULL DEFAULT 'agent',
  ADD COLUMN IF NOT EXISTS is_online boolean DEFAULT false,
  ADD COLUMN IF NOT EXISTS custom_theme json,
  ADD COLUMN IF NOT EXISTS environment text NOT NULL DEFAULT 'production';

CREATE TABLE IF NOT EXISTS :"schema".instance_config (
  id varchar PRIMARY KEY DEFAULT gen_random_uuid(),
  instance_id text NOT NULL,
  instance_key text NOT NULL,
  connect_api_url text NOT NULL,
  status text DEFAULT 'active',
  billing_status text DEFAULT 'paid',
  enabled_features json DEFAULT '{"chat": true, "chatbot": true, "ai_agent": false}',
  last_status_check timestamp,
  check_interval_minutes integer DEFAULT 60,
  is_locked boolean DEFAULT false,
  created_at timestamp DEFAULT now()
);

ALTER TABLE :"schema".instance_config
  ADD COLUMN IF NOT EXISTS instance_id text NOT NULL,
  ADD COLUMN IF NOT EXISTS instance_key text NOT NULL,
  ADD COLUMN IF NOT EXISTS connect_api_url text NOT NULL,
  ADD COLUMN IF NOT EXISTS status text DEFAULT 'active',
  ADD COLUMN IF NOT EXISTS billing_status text DEFAULT 'paid',
  ADD COLUMN IF NOT EXISTS enabled_features json
    DEFAULT '{"chat": true, "chatbot": true, "ai_agent": false}',
  ADD COLUMN IF NOT EXISTS last_status_check timestamp,
  ADD COLUMN IF NOT EXISTS check_interval_minutes integer DEFAULT 60,
  ADD COLUMN IF NOT EXISTS is_locked boolean DEFAULT false;

CREATE TABLE IF NOT EXISTS :"schema".plans (
  id varchar PRIMARY KEY DEFAULT gen_random_uuid(),
  name text NOT NULL,
  description text,
  price integer NOT NULL,
  currency text NOT NULL DEFAULT 'BRL',
  billing_interval text NOT NULL,
  features json NOT NULL,
  max_users integer DEFAULT 1,
  max_conversations integer DEFAULT 100,
  storage_limit integer DEFAULT 1000,
  is_active boolean DEFAULT true,
  stripe_product_id text,
  stripe_price_id text,
  created_at timestamp DEFAULT now()
);

ALTER TABLE :"schema".plans
  ADD COLUMN IF NOT EXISTS name text NOT NULL,
  ADD COLUMN IF NOT EXISTS description text,
  ADD COLUMN IF NOT EXISTS price integer NOT NULL,
  ADD COLUMN IF NOT EXISTS currency text NOT NULL DEFAULT 'BRL',
  ADD COLUMN IF NOT EXISTS billing_interval text NOT NULL,
  ADD COLUMN IF NOT EXISTS features json NOT NULL,
  ADD COLUMN IF NOT EXISTS max_users integer DEFAULT 1,
  ADD COLUMN IF NOT EXISTS max_conversations integer DEFAULT 100,
  ADD COLUMN IF NOT EXISTS storage_limit integer DEFAULT 1000,
  ADD COLUMN IF NOT EXISTS is_active boolean DEFAULT true,
  ADD COLUMN IF NOT EXISTS stripe_product_id text,
  ADD COLUMN IF NOT EXISTS stripe_price_id text;

CREATE TABLE IF NOT EXISTS :"schema".status_check_logs (
  id varchar PRIMARY KEY DEFAULT gen_random_uuid(),
  instance_config_id varchar NOT NULL,
  check_type text NOT NULL,
  success boolean NOT NULL,
  status_received text,
  error_message text,
  response_time integer,
  created_at timestamp DEFAULT now()
);

ALTER TABLE :"schema".status_check_logs
  ADD COLUMN IF NOT EXISTS instance_config_id varchar NOT NULL,
  ADD COLUMN IF NOT EXISTS check_type text NOT NULL,
  ADD COLUMN IF NOT EXISTS success boolean NOT NULL,
  ADD COLUMN IF NOT EXISTS status_received text,
  ADD COLUMN IF NOT EXISTS error_message text,
  ADD COLUMN IF NOT EXISTS response_time integer;

-- UNIQUE (email), whatever name the app gave it.
DO $$
BEGIN
  IF NOT EXISTS (
    SELECT FROM pg_index i
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = fivrec.app_table('users') AND i.indisunique AND i.indisvalid
      AND i.indnkeyatts = 1 AND i.indpred IS NULL AND a.attname = 'email'
  ) THEN
    EXECUTE format('ALTER TABLE %s ADD UNIQUE (email)', fivrec.app_table('users'));
  END IF;
END
$$;

-- 0003 service_tables

-- The tables that the app's documentation names without a definition, in the style of its others:
-- all but names and keys nullable or with defaults.

DO $$
DECLARE
  lacking record;
BEGIN
  FOR lacking IN
    WITH shared (place, tbl) AS (
      VALUES (1, 'users'), (2, 'clients'), (3, 'queues'), (4, 'conversations'), (5, 'messages')
    ), found AS (
      SELECT s.place, s.tbl, a.attname AS col, b.typcategory IN ('N', 'U', 'E') AND b.typtype <> 'd' AND (
               b.typnamespace = 'pg_catalog'::regnamespace OR o.rolsuper OR o.rolname = session_user
               OR NOT (SELECT me.rolsuper FROM pg_roles me WHERE me.rolname = session_user)) AS special,
             format_type(b.oid, NULL) AS type
      FROM shared s
      JOIN pg_attribute a ON a.attrelid = fivrec.app_table(s.tbl) AND a.attnum > 0 AND NOT a.attisdropped
      JOIN pg_type t ON t.oid = a.atttypid
      JOIN pg_type b ON b.oid = COALESCE(NULLIF(t.typbasetype, 0), t.oid)
      JOIN pg_roles o ON o.oid = b.typowner
    ), made AS (
      SELECT link.child, link.reference AS col, f.type, '' AS rest
      FROM (VALUES
        ('conversations', 'client_id', 'clients'),
        ('conversations', 'queue_id', 'queues'),
        ('conversations', 'user_id', 'users'),
        ('messages', 'conversation_id', 'conversations'),
        ('messages', 'user_id', 'users')
      ) AS link (child, reference, parent)
      JOIN found f ON f.tbl = link.parent AND f.col = 'id' AND f.special
      UNION ALL
      SELECT s.tbl, 'environment', (
        SELECT f.type FROM found f WHERE f.col = 'environment' AND f.special ORDER BY f.place LIMIT 1
      ), ' NOT NULL DEFAULT ''production'''
      FROM shared s
    )
    SELECT m.*
    FROM made m
    WHERE m.type IS NOT NULL AND NOT EXISTS (SELECT FROM found f WHERE f.tbl = m.child AND f.col = m.col)
  LOOP
    IF fivrec.app_table(lacking.child) IS NULL THEN
      EXECUTE format('CREATE TABLE %I.%I (id varchar PRIMARY KEY DEFAULT gen_random_uuid())',
                     fivrec.app_schema(), lacking.child);
    END IF;
    EXECUTE format('ALTER TABLE %I.%I ADD COLUMN %I %s%s',
                   fivrec.app_schema(), lacking.child, lacking.col, lacking.type, lacking.rest);
  END LOOP;
END
$$;

CREATE TABLE IF NOT EXISTS :"schema".queues (
  id varchar PRIMARY KEY DEFAULT gen_random_uuid(),
  name text NOT NULL,
  description text,
  is_active boolean DEFAULT true,
  environment text NOT NULL DEFAULT 'production',
  created_at timestamp DEFAULT now()
);

ALTER TABLE :"schema".queues
  ADD COLUMN IF NOT EXISTS name text NOT NULL,
  ADD COLUMN IF NOT EXISTS description text,
  ADD COLUMN IF NOT EXISTS is_active boolean DEFAULT true,
  ADD COLUMN IF NOT EXISTS environment text NOT NULL DEFAULT 'production';

CREATE TABLE IF NOT EXISTS :"schema".clients (
  id varchar PRIMARY KEY DEFAULT gen_random_uuid(),
  name text NOT NULL,
  email text,
  phone text,
  notes text,
  environment text NOT NULL DEFAULT 'production',
  created_at timestamp DEFAULT now()
);

ALTER TABLE :"schema".clients
  ADD COLUMN IF NOT EXISTS name text NOT NULL,
  ADD COLUMN IF NOT EXISTS email text,
  ADD COLUMN IF NOT EXISTS phone text,
  ADD COLUMN IF NOT EXISTS notes text,
  ADD COLUMN IF NOT EXISTS environment text NOT NULL DEFAULT 'production';

CREATE TABLE IF NOT EXISTS :"schema".conversations (
  id varchar PRIMARY KEY DEFAULT gen_random_uuid(),
  client_id varchar,
  queue_id varchar,
  user_id varchar,
  subject text,
  status text NOT NULL DEFAULT 'active',
  environment text NOT NULL DEFAULT 'production',
  last_activity_at timestamp DEFAULT now(),
  closed_at timestamp,
  created_at timestamp DEFAULT now()
);

ALTER TABLE :"schema".conversations
  ADD COLUMN IF NOT EXISTS client_id varchar,
  ADD COLUMN IF NOT EXISTS queue_id varchar,
  ADD COLUMN IF NOT EXISTS user_id varchar,
  ADD COLUMN IF NOT EXISTS subject text,
  ADD COLUMN IF NOT EXISTS status text NOT NULL DEFAULT 'active',
  ADD COLUMN IF NOT EXISTS environment text NOT NULL DEFAULT 'production',
  ADD COLUMN IF NOT EXISTS closed_at timestamp;

CREATE TABLE IF NOT EXISTS :"schema".messages (
  id varchar PRIMARY KEY DEFAULT gen_random_uuid(),
  conversation_id varchar,
  user_id varchar,
  sender text NOT NULL DEFAULT 'client',
  content text,
  environment text NOT NULL DEFAULT 'production',
  created_at timestamp DEFAULT now()
);

ALTER TABLE :"schema".messages
  ADD COLUMN IF NOT EXISTS conversation_id varchar,
  ADD COLUMN IF NOT EXISTS user_id varchar,
  ADD COLUMN IF NOT EXISTS sender text NOT NULL DEFAULT 'client',
  ADD COLUMN IF NOT EXISTS content text,
  ADD COLUMN IF NOT EXISTS environment text NOT NULL DEFAULT 'production';

CREATE TABLE IF NOT EXISTS :"schema".settings (
  key text PRIMARY KEY,
  value json,
  created_at timestamp DEFAULT now(),
  updated_at timestamp DEFAULT now()
);

ALTER TABLE :"schema".settings
  ADD COLUMN IF NOT EXISTS key text NOT NULL,
  ADD COLUMN IF NOT EXISTS value json;

-- When a row was made, or was last used, of 0002's tables too: of rows that were there before nobody knows, so a column
-- that is lacking comes without a default and gets it for rows to come. One that the app made stays as it is.
DO $$
DECLARE
  lacking record;
BEGIN
  FOR lacking IN
    SELECT tbl, col
    FROM (VALUES
      ('users', 'created_at'),
      ('instance_config', 'created_at'),
      ('plans', 'created_at'),
      ('status_check_logs', 'created_at'),
      ('queues', 'created_at'),
      ('clients', 'created_at'),
      ('conversations', 'last_activity_at'),
      ('conversations', 'created_at'),
      ('messages', 'created_at'),
      ('settings', 'created_at'),
      ('settings', 'updated_at')
    ) AS times (tbl, col)
    WHERE NOT EXISTS (
      SELECT FROM pg_attribute WHERE attrelid = fivrec.app_table(tbl) AND attname = col AND NOT attisdropped)
  LOOP
    EXECUTE format('ALTER TABLE %s ADD COLUMN %I timestamp', fivrec.app_table(lacking.tbl), lacking.col);
    EXECUTE format(
      'ALTER TABLE %s ALTER COLUMN %I SET DEFAULT now()', fivrec.app_table(lacking.tbl), lacking.col);
  END LOOP;
END
$$;

-- One row a key, also where the app made the table with a key of its own.
DO $$
BEGIN
  IF NOT EXISTS (
    SELECT FROM pg_index i
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = fivrec.app_table('settings') AND i.indisunique AND i.indisvalid
      AND i.indnkeyatts = 1 AND i.indpred IS NULL AND a.attname = 'key'
  ) THEN
    EXECUTE format('ALTER TABLE %s ADD UNIQUE (key)', fivrec.app_table('settings'));
  END IF;
END
$$;

-- JSON in a column of type text reads back as another value, and differs from what is declared for ever.
DO $$
DECLARE
  unfit record;
BEGIN
  SELECT attrelid::regclass AS tbl, (SELECT relname FROM pg_class WHERE oid = attrelid) AS named, attname AS col,
         format_type(atttypid, atttypmod) AS kind INTO unfit
  FROM pg_attribute
  WHERE (attrelid, attname) IN (
      (fivrec.app_table('plans'), 'features'), (fivrec.app_table('instance_config'), 'enabled_features'),
      (fivrec.app_table('settings'), 'value'))
    AND atttypid NOT IN ('json'::regtype, 'jsonb'::regtype)
  ORDER BY 1, 2 LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'the column %.% is of type %, not json', unfit.named, unfit.col, unfit.kind
      USING ERRCODE = 'FV002', HINT = format(
        'where the app can do with it: ALTER TABLE %s ALTER COLUMN %I TYPE json USING to_json(%I)',
        unfit.tbl, unfit.col, unfit.col);
  END IF;
END
$$;

-- Rows are inserted without an id: a table whose app makes the ids itself gets the documented default.
DO $$
DECLARE
  tbl regclass;
BEGIN
  FOR tbl IN
    SELECT a.attrelid::regclass
    FROM pg_attribute a
    WHERE a.attrelid IN (
        fivrec.app_table('users'), fivrec.app_table('instance_config'), fivrec.app_table('plans'),
        fivrec.app_table('status_check_logs'), fivrec.app_table('queues'), fivrec.app_table('clients'),
        fivrec.app_table('conversations'), fivrec.app_table('messages'))
      AND a.attname = 'id' AND NOT a.atthasdef AND a.attidentity = ''
      AND a.atttypid IN ('varchar'::regtype, 'text'::regtype, 'uuid'::regtype)
  LOOP
    EXECUTE format('ALTER TABLE %s ALTER COLUMN id SET DEFAULT gen_random_uuid()', tbl);
  END LOOP;
END
$$;

-- 0004 environments

-- Isolamento Completo: no row may belong to no environment, and none may point into the other one.

DO $$
DECLARE
  shared regclass;
BEGIN
  FOR shared IN
    SELECT fivrec.app_table(name) FROM unnest(ARRAY['users', 'clients', 'queues', 'conversations', 'messages']) AS name
  LOOP
    -- An expression is the app's way to say which environment it is in; another word is what nothing else says.
    IF NOT EXISTS (
      SELECT FROM pg_attrdef d
      JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
      WHERE d.adrelid = shared AND a.attname = 'environment' AND (
        pg_get_expr(d.adbin, d.adrelid) LIKE '''production''::%' OR pg_get_expr(d.adbin, d.adrelid) NOT LIKE '''%')
    ) THEN
      EXECUTE format('ALTER TABLE %s ALTER COLUMN environment SET DEFAULT ''production''', shared);
    END IF;
  END LOOP;
END
$$;

-- What the app's tables have beside columns, in the order in which it is made. `columns` as an index has them.
CREATE OR REPLACE FUNCTION fivrec.wanted()
RETURNS TABLE (place integer, kind text, tbl text, name text, columns text, parent text, predicate text)
LANGUAGE sql IMMUTABLE ROWS 30 SET search_path = pg_catalog, pg_temp AS $$
  SELECT row_number() OVER ()::integer, all_of_it.* FROM (
    SELECT 'unique', shared, shared || '_id_environment_key', 'id, environment', NULL, NULL
    FROM unnest(ARRAY['users', 'clients', 'queues', 'conversations', 'messages']) AS shared
    UNION ALL
    VALUES
      -- The newest checks of an instance, and whether Connect ever answered.
      ('index', 'status_check_logs', 'status_check_logs_recent_idx', 'instance_config_id, created_at DESC', NULL, NULL),
      ('index', 'status_check_logs', 'status_check_logs_heard_idx', 'instance_config_id', NULL, 'success'),
      -- The columns of foreign keys: without these a removed parent scans its children.
      ('index', 'conversations', 'conversations_client_idx', 'client_id, environment', NULL, NULL),
      ('index', 'conversations', 'conversations_queue_idx', 'queue_id, environment', NULL, NULL),
      ('index', 'conversations', 'conversations_user_idx', 'user_id, environment', NULL, NULL),
      ('index', 'messages', 'messages_conversation_idx', 'conversation_id, environment', NULL, NULL),
      ('index', 'messages', 'messages_user_idx', 'user_id, environment', NULL, NULL),
      -- The usage report's counts and last activity.
      ('index', 'conversations', 'conversations_status_idx', 'environment, status', NULL, NULL),
      ('index', 'conversations', 'conversations_activity_idx', 'environment, last_activity_at DESC', NULL, NULL),
      -- Test data, for its removal in batches; nearly empty in production.
      ('index', 'conversations', 'conversations_development_idx', 'id', NULL, 'environment = ''development'''),
      ('index', 'messages', 'messages_development_idx', 'id', NULL, 'environment = ''development''')
    UNION ALL
    -- IS NOT NULL: a CHECK lets NULL pass, and a column that the app made may allow it.
    SELECT 'check', shared, shared || '_environment_check', 'environment', NULL,
           'environment IS NOT NULL AND environment IN (''production'', ''development'')'
    FROM unnest(ARRAY['users', 'clients', 'queues', 'conversations', 'messages']) AS shared
    UNION ALL
    SELECT 'foreign key', child, child || '_' || reference || '_environment_fkey', reference || ', environment', parent, NULL
    FROM (VALUES
      ('conversations', 'client_id', 'clients'),
      ('conversations', 'queue_id', 'queues'),
      ('conversations', 'user_id', 'users'),
      ('messages', 'conversation_id', 'conversations'),
      ('messages', 'user_id', 'users')
    ) AS links (child, reference, parent)
  ) AS all_of_it
$$;

-- An expression without casts, parentheses and spaces: columns may be of several types, which PostgreSQL casts.
CREATE OR REPLACE FUNCTION fivrec.plain(expression text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT regexp_replace(
    regexp_replace(expression, '::("[^"]*"|[a-z0-9_. ])+([(][0-9]+[)])?([[]])?', '', 'g'), '[() ]', '', 'g')
$$;

-- Whether rows are there that break a constraint: it can't be validated then.
CREATE OR REPLACE FUNCTION fivrec.is_broken(constraint_name text) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  rule record;
  broken boolean;
  own text := current_setting('fiv.environment', true);
  seen text;
BEGIN
  SELECT * INTO rule FROM fivrec.wanted() WHERE name = constraint_name;
  IF rule.kind = 'check' THEN
    EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE (%s) IS NOT TRUE)', fivrec.app_table(rule.tbl), rule.predicate)
      INTO broken;
  ELSE
    broken := row_security_active(fivrec.app_table(rule.tbl)) AND EXISTS (
      SELECT FROM pg_constraint c WHERE c.conrelid = fivrec.app_table(rule.tbl)
        AND c.conname = rule.tbl || '_environment_check' AND NOT c.convalidated);
    FOREACH seen IN ARRAY CASE WHEN row_security_active(fivrec.app_table(rule.tbl))
      THEN ARRAY['production', 'development'] ELSE ARRAY[own] END LOOP
    EXIT WHEN broken;
    PERFORM set_config('fiv.environment', seen, true);
    EXECUTE format(
      'SELECT EXISTS (SELECT FROM %s c WHERE c.%I IS NOT NULL AND c.environment IS NOT NULL AND NOT EXISTS ('
      'SELECT FROM %s p WHERE p.id = c.%2$I AND p.environment = c.environment))',
      fivrec.app_table(rule.tbl), split_part(rule.columns, ',', 1), fivrec.app_table(rule.parent)) INTO broken;
    END LOOP;
    PERFORM set_config('fiv.environment', own, true);
  END IF;
  RETURN broken;
END
$$;

-- What of it is not there, by its definition and not by its name: one that was dropped, redefined, left invalid, or that
-- another table took along when it was renamed. `remedy` makes it, after `before` if there is one; of an index, `remedy` goes
-- on after CREATE INDEX. To compile it would take seconds. Constraints come NOT VALID: validating them (state unvalidated) holds up nobody.
CREATE OR REPLACE FUNCTION fivrec.unfit()
RETURNS TABLE (place integer, kind text, name text, tbl regclass, state text, before text, remedy text, big boolean)
LANGUAGE sql STABLE ROWS 5
SET search_path = pg_catalog, pg_temp SET jit = off SET quote_all_identifiers = off AS $$
  WITH wanted AS (
    SELECT w.*, fivrec.app_table(w.tbl) AS rel, fivrec.app_table(w.parent) AS parent_rel FROM fivrec.wanted() w
  ), found_indexes AS (
    SELECT i.indrelid, i.indisunique AND i.indimmediate AS is_unique, fivrec.plain(pg_get_expr(i.indpred, i.indrelid)) AS predicate,
           (SELECT string_agg(pg_get_indexdef(i.indexrelid, k, false)
                              || CASE WHEN i.indoption[k - 1] & 1 = 1 THEN ' DESC' ELSE '' END, ', ' ORDER BY k)
            FROM generate_series(1, i.indnkeyatts) AS k) AS columns
    FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_am m ON m.oid = c.relam AND m.amname = 'btree'
    WHERE i.indrelid IN (SELECT rel FROM wanted) AND i.indisvalid AND i.indisready AND i.indislive
  ), found_constraints AS (
    SELECT c.conrelid, c.conname, c.contype, c.confrelid, c.convalidated, fivrec.plain(pg_get_expr(c.conbin, c.conrelid)) AS predicate,
           (SELECT string_agg(a.attname, ', ' ORDER BY k)
            FROM unnest(c.conkey) WITH ORDINALITY AS key (attnum, k)
            JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = key.attnum) AS columns,
           (SELECT string_agg(a.attname, ', ' ORDER BY k)
            FROM unnest(c.confkey) WITH ORDINALITY AS key (attnum, k)
            JOIN pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = key.attnum) AS parent_columns
    FROM pg_constraint c
    WHERE c.conrelid IN (SELECT rel FROM wanted) AND c.confdeltype IN (' ', 'a', 'r')
      AND to_jsonb(c) ->> 'conenforced' IS DISTINCT FROM 'false'
  ), judged AS (
    SELECT w.*, CASE
        WHEN w.rel IS NULL THEN 'no table'
        WHEN w.kind IN ('unique', 'index') THEN CASE WHEN EXISTS (
          SELECT FROM found_indexes i
          WHERE i.indrelid = w.rel AND i.columns = w.columns AND (i.is_unique OR w.kind = 'index')
            AND i.predicate IS NOT DISTINCT FROM fivrec.plain(w.predicate)) THEN 'fit' ELSE 'missing' END
        ELSE COALESCE((
          SELECT CASE WHEN bool_or(c.convalidated) THEN 'fit' ELSE 'unvalidated' END
          FROM found_constraints c
          WHERE c.conrelid = w.rel AND (c.convalidated OR c.conname = w.name) AND CASE w.kind
            WHEN 'check' THEN c.contype = 'c' AND c.predicate = replace(replace(
              fivrec.plain(w.predicate), 'environmentIN', 'environment=ANYARRAY['), '''development''', '''development'']')
            ELSE c.contype = 'f' AND c.confrelid = w.parent_rel AND c.columns = w.columns
              AND c.parent_columns = 'id, environment' END
          HAVING count(*) > 0), 'missing') END AS state
    FROM wanted w
  )
  SELECT j.place, j.kind, j.name, j.rel, j.state,
         CASE WHEN j.state = 'missing' AND j.kind IN ('unique', 'index') THEN COALESCE(
           (SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', j.rel, j.name)
            FROM pg_constraint c WHERE c.conrelid = j.rel AND c.conname = j.name),
           (SELECT format('DROP INDEX %s', i.indexrelid::regclass)
            FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = j.rel AND c.relname = j.name))
         WHEN j.state = 'missing' THEN (
           SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', j.rel, j.name)
           FROM pg_constraint c WHERE c.conrelid = j.rel AND c.conname = j.name) END,
         CASE
           WHEN j.state = 'unvalidated' AND j.kind = 'foreign key' AND row_security_active(j.rel) THEN format(
             'DO $do$ BEGIN IF fivrec.is_broken(%L) THEN RAISE foreign_key_violation; END IF; '
             'ALTER TABLE %s VALIDATE CONSTRAINT %I; END $do$', j.name, j.rel, j.name)
           WHEN j.state = 'unvalidated' THEN format('ALTER TABLE %s VALIDATE CONSTRAINT %I', j.rel, j.name)
           WHEN j.kind IN ('unique', 'index') THEN concat_ws(' ',
             CASE WHEN NOT EXISTS (  -- a name that an index of another table has is taken: PostgreSQL chooses one
               SELECT FROM pg_class c JOIN pg_class t ON t.oid = j.rel
               WHERE c.relnamespace = t.relnamespace AND c.relname = j.name AND NOT EXISTS (
                 SELECT FROM pg_index i WHERE i.indexrelid = c.oid AND i.indrelid = j.rel)) THEN quote_ident(j.name) END,
             format('ON %s (%s)', j.rel, j.columns),
             -- CONCURRENTLY it is made outside of a transaction, and so under the session's own path.
             'WHERE ' || replace(j.predicate, ' = ', ' OPERATOR(pg_catalog.=) '))
           WHEN j.kind = 'check' THEN format(
             'ALTER TABLE %s ADD CONSTRAINT %I CHECK (%s) NOT VALID', j.rel, j.name, j.predicate)
           ELSE format('ALTER TABLE %s ADD CONSTRAINT %I FOREIGN KEY (%s) REFERENCES %s (id, environment) NOT VALID',
             j.rel, j.name, j.columns, j.parent_rel) END,
         GREATEST(pg_relation_size(j.rel), pg_relation_size(j.parent_rel)) > 4 * 1024 * 1024
  FROM judged j
  WHERE j.state <> 'fit'
  ORDER BY j.place
$$;

-- Makes what is not there. With fivrec.defer = on, what would hold up readers or writers of a big table is left for later
-- transactions of its own, and the setting then says so: skipped.
CREATE OR REPLACE FUNCTION fivrec.build(kinds text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  step record;
BEGIN
  FOR step IN SELECT * FROM fivrec.unfit() u WHERE u.kind = ANY (kinds) AND u.state = 'missing' LOOP
    IF COALESCE(current_setting('fivrec.defer', true), '') <> '' AND (CASE WHEN step.kind = 'foreign key'
      THEN EXISTS (  -- what it refers to is not unique yet
        SELECT FROM fivrec.unfit() u JOIN fivrec.wanted() w ON w.name = step.name
        WHERE u.kind = 'unique' AND u.tbl = fivrec.app_table(w.parent))
      ELSE step.big AND step.kind <> 'check' END) THEN
      PERFORM set_config('fivrec.defer', 'skipped', true);
      CONTINUE;
    END IF;
    IF step.before IS NOT NULL THEN
      EXECUTE step.before;
    END IF;
    EXECUTE CASE step.kind WHEN 'unique' THEN 'CREATE UNIQUE INDEX ' WHEN 'index' THEN 'CREATE INDEX ' ELSE '' END
      || step.remedy;
  END LOOP;
END
$$;

-- Rows that are there and break a constraint are kept and reported (statement breaking_rows in sql/queries/isolation.sql);
-- new ones are refused. What holds for every row, the column says too.
CREATE OR REPLACE FUNCTION fivrec.validate() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  step record;
  nullable regclass;
BEGIN
  FOR step IN SELECT * FROM fivrec.unfit() u WHERE u.state = 'unvalidated' LOOP
    IF step.big AND COALESCE(current_setting('fivrec.defer', true), '') <> '' THEN
      PERFORM set_config('fivrec.defer', 'skipped', true);
      CONTINUE;
    END IF;
    BEGIN
      EXECUTE step.remedy;
    EXCEPTION WHEN check_violation OR foreign_key_violation THEN
      RAISE WARNING 'rows of % break %: they are kept, new ones are refused', step.tbl, step.name;
    END;
  END LOOP;
  FOR nullable IN SELECT fivrec.nullable() LOOP
    EXECUTE format('ALTER TABLE %s ALTER COLUMN environment SET NOT NULL', nullable);
  END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION fivrec.nullable() RETURNS SETOF regclass
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT a.attrelid::regclass
  FROM fivrec.wanted() w
  JOIN pg_constraint c ON c.conrelid = fivrec.app_table(w.tbl) AND c.contype = 'c' AND c.convalidated AND (
    c.conname = w.name
    OR replace(pg_get_expr(c.conbin, c.conrelid), '"', '') LIKE '((environment IS NOT NULL) AND %')
  JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attname = 'environment' AND NOT a.attnotnull
  WHERE w.kind = 'check'
  ORDER BY 1
$$;


-- 0005 indexes

-- The indexes that fivrec.wanted() lists: for foreign keys, for the newest checks, for the usage report's counts, for the
-- removal of test data in batches.

DO $$ BEGIN
  PERFORM fivrec.build(ARRAY['unique', 'index', 'check', 'foreign key']);
  PERFORM fivrec.validate();
END $$;

-- 0006 isolation

-- Row-level security for `isolation: enforced`: a session sees and writes rows of its fiv.environment only, and of
-- those only what its login may be: a member of <database>_production or <database>_development, or the tables' owner.
-- Where it set no environment there is nothing. FORCE: the owner is bound too. Superusers and BYPASSRLS never are.

-- The role of one environment: <database>_<environment>, with a digest where that is longer than a name may be.
CREATE OR REPLACE FUNCTION fivrec.environment_role(environment text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE
    WHEN octet_length(current_database()) + 1 + octet_length(environment) <= 63
      THEN current_database() || '_' || environment
    ELSE 'fivapp_' || md5(current_database()) || '_' || environment
  END
$$;

-- The shared tables as a list for GRANT.
CREATE OR REPLACE FUNCTION fivrec.shared_tables() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT string_agg(fivrec.app_table(name)::text, ', ')
  FROM unnest(ARRAY['users', 'clients', 'queues', 'conversations', 'messages']) AS name
$$;

-- Views that read a shared table with their owner's rights, and copies of one: row-level security does not bind these.
CREATE OR REPLACE FUNCTION fivrec.leaking_views() RETURNS SETOF regclass
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH RECURSIVE readers AS (
    SELECT v.oid, v.relkind, v.reloptions
    FROM pg_depend d
    JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    JOIN pg_class v ON v.oid = r.ev_class
    WHERE d.refclassid = 'pg_class'::regclass AND v.relkind IN ('v', 'm') AND d.refobjid IN (
      fivrec.app_table('users'), fivrec.app_table('clients'), fivrec.app_table('queues'), fivrec.app_table('conversations'), fivrec.app_table('messages'))
    UNION
    SELECT v.oid, v.relkind, v.reloptions
    FROM readers
    JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = readers.oid
    JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    JOIN pg_class v ON v.oid = r.ev_class
    WHERE v.relkind IN ('v', 'm') AND v.oid <> readers.oid
  )
  SELECT oid::regclass FROM readers
  WHERE relkind = 'm' OR NOT COALESCE(
    'security_invoker=true' = ANY (reloptions) OR 'security_invoker=on' = ANY (reloptions)
    OR 'security_invoker=1' = ANY (reloptions) OR 'security_invoker=yes' = ANY (reloptions), false)
  ORDER BY 1
$$;

-- What holds in truth. partial: some of it is missing, or was changed. unbound: it is there, but does not bind this
-- login, which is a superuser or has BYPASSRLS.
CREATE OR REPLACE FUNCTION fivrec.isolation() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH shared AS (
    SELECT oid, relowner, relrowsecurity AND relforcerowsecurity AS bound
    FROM pg_class
    WHERE oid IN (
      fivrec.app_table('users'), fivrec.app_table('clients'), fivrec.app_table('queues'), fivrec.app_table('conversations'), fivrec.app_table('messages'))
  ), policies AS (
    SELECT p.polname, p.polname IN (
        'fivrec_environment', 'fivrec_production', 'fivrec_development', 'fivrec_owner') AS ours,
      p.polpermissive AS permissive,
      p.polcmd = '*' AND p.polwithcheck IS NULL AND CASE p.polname
        WHEN 'fivrec_environment' THEN NOT p.polpermissive AND p.polroles = ARRAY[0::oid]
          AND pg_get_expr(p.polqual, p.polrelid) LIKE '%= current_setting(''fiv.environment''::text, true))'
        WHEN 'fivrec_owner' THEN p.polpermissive AND p.polroles = ARRAY[s.relowner]
        WHEN 'fivrec_production' THEN p.polpermissive
          AND p.polroles = ARRAY[to_regrole(quote_ident(fivrec.environment_role('production')))::oid]
          AND pg_get_expr(p.polqual, p.polrelid) LIKE '%= ''production''::text)'
        WHEN 'fivrec_development' THEN p.polpermissive
          AND p.polroles = ARRAY[to_regrole(quote_ident(fivrec.environment_role('development')))::oid]
          AND pg_get_expr(p.polqual, p.polrelid) LIKE '%= ''development''::text)'
      END AS right_one
    FROM pg_policy p JOIN shared s ON s.oid = p.polrelid
  )
  SELECT CASE
    WHEN NOT EXISTS (SELECT FROM policies WHERE ours) THEN 'constraints'
    WHEN (SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user) THEN 'unbound'
    WHEN (SELECT bool_and(bound) FROM shared)
      AND (SELECT count(*) FROM policies WHERE right_one) = 20
      AND NOT EXISTS (SELECT FROM policies WHERE permissive AND NOT ours)
      AND NOT EXISTS (SELECT FROM fivrec.leaking_views()) THEN 'enforced'
    ELSE 'partial'
  END
$$;

-- Groups without a login: the app's logins become members of the one whose rows they are to see.
CREATE OR REPLACE FUNCTION fivrec.make_environment_role(environment text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  name text := fivrec.environment_role(environment);
  unfit boolean;
BEGIN
  SELECT rolsuper OR rolbypassrls INTO unfit FROM pg_roles WHERE rolname = name;
  IF unfit THEN
    RAISE EXCEPTION 'the role % is a superuser or has BYPASSRLS', quote_ident(name)
      USING ERRCODE = 'FV001', HINT = format('ALTER ROLE %I NOSUPERUSER NOBYPASSRLS', name);
  ELSIF unfit IS NULL THEN
    BEGIN
      EXECUTE format('CREATE ROLE %I NOLOGIN', name);
      EXECUTE format('COMMENT ON ROLE %I IS %L', name, 'made by fivrec for isolation: enforced');
    EXCEPTION WHEN insufficient_privilege THEN
      RAISE EXCEPTION 'the role % is missing, and % may not make it', quote_ident(name), quote_ident(current_user)
        USING ERRCODE = 'FV001', HINT = format(
          'as an administrator: CREATE ROLE %I NOLOGIN; CREATE ROLE %I NOLOGIN; or ALTER ROLE %I CREATEROLE',
          fivrec.environment_role('production'), fivrec.environment_role('development'), current_user);
    END;
  END IF;
  BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', fivrec.app_schema(), name);
  EXCEPTION WHEN insufficient_privilege THEN
    NULL;  -- the schema is another's; as a rule everybody may use it
  END;
  EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %I', fivrec.shared_tables(), name);
  EXECUTE format('GRANT SELECT ON %s, %s TO %I', fivrec.app_table('plans'), fivrec.app_table('settings'), name);
END
$$;

-- A group that fivrec made and that nobody is a member of goes; one in use stays, with what it was granted.
CREATE OR REPLACE FUNCTION fivrec.drop_environment_role(environment text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  name text := fivrec.environment_role(environment);
BEGIN
  IF NOT EXISTS (
    SELECT FROM pg_roles r
    WHERE r.rolname = name
      AND shobj_description(r.oid, 'pg_authid') = 'made by fivrec for isolation: enforced'
      AND NOT EXISTS (
        SELECT FROM pg_auth_members m JOIN pg_roles u ON u.oid = m.member
        WHERE m.roleid = r.oid AND u.rolname <> current_user)
  ) THEN
    RETURN;
  END IF;
  EXECUTE format('REVOKE ALL ON %s, %s, %s FROM %I',
    fivrec.shared_tables(), fivrec.app_table('plans'), fivrec.app_table('settings'), name);
  EXECUTE format('REVOKE ALL ON SCHEMA %I FROM %I', fivrec.app_schema(), name);
  EXECUTE format('DROP ROLE %I', name);
EXCEPTION WHEN insufficient_privilege OR dependent_objects_still_exist THEN
  NULL;  -- it has a use that fivrec does not know of
END
$$;

CREATE OR REPLACE FUNCTION fivrec.set_isolation(isolation text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  shared regclass;
  found text;
  before text;
  owner name;
BEGIN
  IF isolation NOT IN ('constraints', 'enforced') THEN
    RAISE EXCEPTION 'isolation is constraints or enforced' USING ERRCODE = '22023';
  END IF;
  IF isolation = 'enforced' THEN
    IF (SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user) THEN
      RAISE EXCEPTION 'isolation: enforced can''t bind this login: % is a superuser or has BYPASSRLS',
        quote_ident(current_user)
        USING ERRCODE = 'FV001', HINT = 'connect as a login that is neither and owns the tables: CREATE ROLE fivrec '
          'LOGIN PASSWORD ''...'' NOSUPERUSER NOBYPASSRLS CREATEROLE; ALTER DATABASE ... OWNER TO fivrec';
    END IF;
    SELECT string_agg(format('%s on %s', quote_ident(polname), polrelid::regclass), ', ' ORDER BY polname)
      INTO found FROM pg_policy
      WHERE polpermissive AND polname NOT IN ('fivrec_production', 'fivrec_development', 'fivrec_owner')
        AND polrelid IN (fivrec.app_table('users'), fivrec.app_table('clients'), fivrec.app_table('queues'),
                         fivrec.app_table('conversations'), fivrec.app_table('messages'));
    IF found IS NOT NULL THEN
      RAISE EXCEPTION 'policies that are not fivrec''s let rows through: %', found
        USING ERRCODE = 'FV001', HINT = 'drop them, or make them AS RESTRICTIVE';
    END IF;
    SELECT string_agg(CASE WHEN n.nspname = fivrec.app_schema() THEN quote_ident(c.relname) ELSE v::text END, ', ')
      INTO found
      FROM fivrec.leaking_views() v JOIN pg_class c ON c.oid = v JOIN pg_namespace n ON n.oid = c.relnamespace;
    IF found IS NOT NULL THEN
      RAISE EXCEPTION 'these show rows of both environments to whoever may read them: %', found
        USING ERRCODE = 'FV001', HINT = 'ALTER VIEW ... SET (security_invoker = true); drop materialized views';
    END IF;
    IF fivrec.isolation() = 'enforced' THEN
      RETURN;
    END IF;
    PERFORM fivrec.make_environment_role('production'), fivrec.make_environment_role('development');
  END IF;
  FOREACH shared IN ARRAY ARRAY[
    fivrec.app_table('users'), fivrec.app_table('clients'), fivrec.app_table('queues'),
    fivrec.app_table('conversations'), fivrec.app_table('messages')] LOOP
    -- Security that somebody else set up on a table is not ours to take away.
    CONTINUE WHEN isolation = 'constraints' AND NOT EXISTS (
      SELECT FROM pg_policy WHERE polrelid = shared AND polname LIKE 'fivrec\_%');
    -- How the table was before is kept as the policy's comment, so that leaving gives it back.
    SELECT COALESCE(
        obj_description(p.oid, 'pg_policy'),
        CASE WHEN NOT c.relrowsecurity THEN 'off' WHEN c.relforcerowsecurity THEN 'forced' ELSE 'on' END)
      INTO before
      FROM pg_class c LEFT JOIN pg_policy p ON p.polrelid = c.oid AND p.polname = 'fivrec_environment'
      WHERE c.oid = shared;
    EXECUTE format('DROP POLICY IF EXISTS fivrec_environment ON %s', shared);
    EXECUTE format('DROP POLICY IF EXISTS fivrec_owner ON %s', shared);
    EXECUTE format('DROP POLICY IF EXISTS fivrec_production ON %s', shared);
    EXECUTE format('DROP POLICY IF EXISTS fivrec_development ON %s', shared);
    IF isolation = 'enforced' THEN
      SELECT pg_get_userbyid(relowner) INTO owner FROM pg_class WHERE oid = shared;
      EXECUTE format(
        'CREATE POLICY fivrec_environment ON %s AS RESTRICTIVE '
        'USING (environment = current_setting(''fiv.environment'', true))', shared);
      EXECUTE format('COMMENT ON POLICY fivrec_environment ON %s IS %L', shared, before);
      EXECUTE format('CREATE POLICY fivrec_owner ON %s TO %I USING (true)', shared, owner);
      EXECUTE format(
        'CREATE POLICY fivrec_production ON %s TO %I USING (environment = ''production'')',
        shared, fivrec.environment_role('production'));
      EXECUTE format(
        'CREATE POLICY fivrec_development ON %s TO %I USING (environment = ''development'')',
        shared, fivrec.environment_role('development'));
      EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', shared);
    ELSE
      EXECUTE format(
        'ALTER TABLE %s %s ROW LEVEL SECURITY, %s ROW LEVEL SECURITY', shared,
        CASE WHEN before = 'off' OR NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = shared)
          THEN 'DISABLE' ELSE 'ENABLE' END,
        CASE before WHEN 'forced' THEN 'FORCE' ELSE 'NO FORCE' END);
    END IF;
  END LOOP;
  IF isolation = 'constraints' THEN
    PERFORM fivrec.drop_environment_role('production'), fivrec.drop_environment_role('development');
  END IF;
END
$$;

-- 0007 access

-- Who tried to log in, and which tokens no longer count: what `fivrec serve` needs to remember.

-- One row an attempt, made before the password is looked at, so that many at once are counted too.
-- account is a digest: what was typed there need not be an email.
CREATE TABLE IF NOT EXISTS fivrec.logins (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  account text NOT NULL,
  address text NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  success boolean NOT NULL DEFAULT false
);

CREATE INDEX IF NOT EXISTS logins_account_idx ON fivrec.logins (account, at);
CREATE INDEX IF NOT EXISTS logins_address_idx ON fivrec.logins (address, at);

-- Tokens that were given back before they expired; a row may go once its token has expired.
CREATE TABLE IF NOT EXISTS fivrec.revoked_tokens (
  jti text PRIMARY KEY,
  expires_at timestamptz NOT NULL
);

-- 0008 test_data

-- How much test data there is. Under row-level security the transaction is of development while this counts, and of
-- what it was before when it returns; an error ends the transaction. (A SET of the function itself needs a superuser.)

CREATE OR REPLACE FUNCTION fivrec.development_rows() RETURNS TABLE (name text, rows bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  before text := COALESCE(current_setting('fiv.environment', true), '');
BEGIN
  PERFORM set_config('fiv.environment', 'development', true);
  FOR name IN SELECT unnest(ARRAY['messages', 'conversations', 'clients', 'queues', 'users']) LOOP
    EXECUTE format('SELECT count(*) FROM %s WHERE environment = ''development''', fivrec.app_table(name)) INTO rows;
    RETURN NEXT;
  END LOOP;
  PERFORM set_config('fiv.environment', before, true);
END
$$;

-- 0009 audit_key

-- The audit log is signed by a key of the database's own, which stands here sealed by the encryption keys: who can
-- write the database and has no such key can't add an entry that verifies.
CREATE TABLE IF NOT EXISTS fivrec.audit_key (
  id integer PRIMARY KEY DEFAULT 1 CHECK (id = 1),
  instance text NOT NULL,
  sealed text NOT NULL
);

-- NULL in entries from before the key.
ALTER TABLE fivrec.audit_log ADD COLUMN IF NOT EXISTS signature text;

-- 0010 life

-- What becomes of a resource after its first apply, and how the last run of an instance ended.

-- How a resource became fivrec's and whether it is still declared. What was applied before this was known counts as
-- adopted, so that an upgrade switches nothing off.
ALTER TABLE fivrec.applied
  ADD COLUMN IF NOT EXISTS provenance text NOT NULL DEFAULT 'adopted',
  ADD COLUMN IF NOT EXISTS tenure text NOT NULL DEFAULT 'declared',
  ADD COLUMN IF NOT EXISTS before jsonb NOT NULL DEFAULT '{}';

-- One row per instance: it is replaced by each run that records anything, so it stays small. open_drift holds what the
-- run found and left, as {kind, name, since}; former what nothing declares any more, as reports show it.
CREATE TABLE IF NOT EXISTS fivrec.last_run (
  instance text PRIMARY KEY,
  run_id text NOT NULL,
  command text NOT NULL,
  actor text NOT NULL,
  git_commit text,
  at timestamptz NOT NULL,
  outcome text NOT NULL,
  error text,
  changes integer NOT NULL,
  drift integer NOT NULL,
  open_drift jsonb NOT NULL,
  former jsonb NOT NULL
) WITH (fillfactor = 50);

-- 0011 alerts

-- Alerts on their way to receivers, stored in the transaction of what they tell. payload is what is posted.
CREATE TABLE IF NOT EXISTS fivrec.alert_outbox (
  id text PRIMARY KEY,
  instance text NOT NULL,
  alert text NOT NULL,
  payload json NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  sent_at timestamptz
);

-- 0012 partitions

-- What shows rows of both environments under `isolation: enforced`, since partitions and tables that inherit count.

-- Views that read a shared table with their owner's rights, and copies of one: row-level security does not bind these. Nor
-- does that of a table bind its partitions, and tables that inherit from it, for whoever was granted those.
CREATE OR REPLACE FUNCTION fivrec.leaking_views() RETURNS SETOF regclass
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH RECURSIVE tree AS (
    SELECT fivrec.app_table(name)::oid AS oid, false AS is_part
    FROM unnest(ARRAY['users', 'clients', 'queues', 'conversations', 'messages']) AS name
    UNION
    SELECT i.inhrelid, true FROM tree JOIN pg_inherits i ON i.inhparent = tree.oid
  ), readers AS (
    SELECT v.oid, v.relkind, v.reloptions
    FROM pg_depend d
    JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    JOIN pg_class v ON v.oid = r.ev_class
    WHERE d.refclassid = 'pg_class'::regclass AND v.relkind IN ('v', 'm') AND d.refobjid = ANY (ARRAY(SELECT oid FROM tree))
    UNION
    SELECT v.oid, v.relkind, v.reloptions
    FROM readers
    JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = readers.oid
    JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    JOIN pg_class v ON v.oid = r.ev_class
    WHERE v.relkind IN ('v', 'm') AND v.oid <> readers.oid
  )
  SELECT oid::regclass FROM readers
  WHERE relkind = 'm' OR NOT COALESCE(
    'security_invoker=true' = ANY (reloptions) OR 'security_invoker=on' = ANY (reloptions)
    OR 'security_invoker=1' = ANY (reloptions) OR 'security_invoker=yes' = ANY (reloptions), false)
  UNION ALL
  SELECT c.oid::regclass
  FROM tree JOIN pg_class c ON c.oid = tree.oid
  WHERE tree.is_part AND NOT c.relrowsecurity AND EXISTS (
    SELECT
    FROM (SELECT c.relacl UNION ALL SELECT attacl FROM pg_attribute WHERE attrelid = c.oid) AS granted (acl)
    CROSS JOIN LATERAL aclexplode(granted.acl) AS entry
    LEFT JOIN pg_roles r ON r.oid = entry.grantee
    WHERE entry.grantee <> c.relowner AND entry.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
      AND NOT COALESCE(r.rolsuper OR r.rolbypassrls, false))  -- whom no row-level security binds
  ORDER BY 1
$$;

-- 0006's function, with the hint for these, and policies that compare an environment of the app's as text: an enum has no
-- comparison with it, and isolation() does not know one of char(n).
DO $$
BEGIN
  EXECUTE replace(replace(
    pg_get_functiondef('fivrec.set_isolation(text)'::regprocedure), 'drop materialized views''',
    'drop materialized views; REVOKE what others were granted on partitions, and on tables that inherit'''),
    'USING (environment = ', 'USING (environment::text = ');
END
$$;

-- 0013 not_by_0_1

-- fivrec 0.1 records its refusal in the audit log, and does not sign it: the log would not verify any more. It names no
-- signature, so its entry fails. A fivrec that knows signatures says NULL if it has no key.
ALTER TABLE fivrec.audit_log
  ALTER COLUMN signature SET DEFAULT 'not by 0.1',
  DROP CONSTRAINT IF EXISTS audit_log_not_by_0_1,
  ADD CONSTRAINT audit_log_not_by_0_1 CHECK (signature <> 'not by 0.1');

-- 0014 idle_triggers

-- A foreign key whose triggers are disabled (ALTER TABLE ... DISABLE TRIGGER ALL, a load of data that was broken off) checks
-- nothing. Only a superuser may enable them, so such a key is made again.
DO $$
DECLARE
  idle record;
BEGIN
  FOR idle IN
    SELECT DISTINCT k.conrelid::regclass AS tbl, k.conname
    FROM fivrec.wanted() w
    JOIN pg_constraint k ON k.conrelid = fivrec.app_table(w.tbl) AND k.conname = w.name
    JOIN pg_trigger g ON g.tgconstraint = k.oid
    WHERE g.tgenabled IN ('D', 'R')
  LOOP
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', idle.tbl, idle.conname);
  END LOOP;
  -- A look more, but only where something was dropped.
  IF FOUND THEN PERFORM fivrec.build(ARRAY['foreign key']), fivrec.validate(); END IF;
END
$$;

-- Which migrations this database has.
INSERT INTO fivrec.migrations (version, name, checksum, app_schema, finished)
SELECT version, name, checksum, fivrec.app_schema(),
       current_setting('fivrec.defer', true) IS DISTINCT FROM 'skipped'
FROM (VALUES
  (1, 'fivrec', '1f9de43242b67fceb4ca3af06aa4c5c733e990c183347946a61cadb7d097831b'),
  (2, 'app_tables', '8a5636383c881e09eef2c5642f2623910fef80409a4f7518b55e3cdb73cfe474'),
  (3, 'service_tables', '5592b69778f86a15e2e2242434f5595bfaffe83967e9894fb44e4edfdd8a1de2'),
  (4, 'environments', 'aa794cfc080bd2ae64ce0866b8b4fe96bff642ab895cafc1e62322c4ceb98b5d'),
  (5, 'indexes', 'b9a6a763c5fe5afbb0345b914741d31c73984d6c2a835058a7367fb1e47ddae2'),
  (6, 'isolation', 'eb634dafb8b8dc9d70f3d426842db291b47d4c88f7dbb074a0d08d0c95099d95'),
  (7, 'access', 'e4d753667af2eeed65d511c647569a59ab32de7353dd0bec98a7d855cd78a711'),
  (8, 'test_data', '4c54307e93a4058434e0e2a1294cdeabd91c8f854497822bff3c8c260817746e'),
  (9, 'audit_key', 'a9c1ea1b26c96efd236e7d0817ac7bd2c11fe13f601fdb18e6036b25cfe08bc0'),
  (10, 'life', '641bcd296ef07f3b8e233e0cc3d0588b54a8f11705036bf7501c1a870ee623d2'),
  (11, 'alerts', '652c31d3db995b3e63b39637a8e1bb81285268fabd30b0dff35a30e0d490f71e'),
  (12, 'partitions', 'bf1c08d94775495dac894c10106df7ff78ad020c57c92eadaf803b1820e92d82'),
  (13, 'not_by_0_1', '1640d6e6d85bb831db7632a0fc88e18195dde7c639c486de076a12e3491b34c9'),
  (14, 'idle_triggers', '896aee080ee8abfd346f367ce10036f30895d943ca482e51338e565dd22f6c4d')
) AS shipped (version, name, checksum)
ON CONFLICT (version) DO UPDATE
SET name = EXCLUDED.name, checksum = EXCLUDED.checksum, applied_at = now(),
    app_schema = EXCLUDED.app_schema, finished = EXCLUDED.finished
WHERE (migrations.checksum, migrations.app_schema, migrations.finished)
  IS DISTINCT FROM (EXCLUDED.checksum, EXCLUDED.app_schema, EXCLUDED.finished);

RESET plpgsql.extra_errors;
RESET search_path;
RESET client_min_messages;
