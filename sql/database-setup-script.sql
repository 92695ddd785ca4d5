-- The database of one Fi.V App instance: everything that fivrec needs, in plain SQL.
--
--   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -1
--   \i sql/database-setup-script.sql
--
-- For an empty database and for one that the app already made: tables keep their rows and gain what they lack.
-- Running it again changes nothing. `fivrec apply` runs the same statements.
-- Made from sql/migrations by `fivrec sql`; edit those.

SET client_min_messages = warning;

-- 0001 fivrec

-- What only fivrec uses, in a schema of its own: the app's tables hold the app's data and nothing else.

CREATE SCHEMA IF NOT EXISTS fivrec;

CREATE TABLE IF NOT EXISTS fivrec.migrations (
  version integer PRIMARY KEY,
  name text NOT NULL,
  checksum text NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT now()
);

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

-- 0002 app_tables

-- The app's own tables, column by column as its documentation has them (Esquema do Banco de Dados).
-- A table that the app already made keeps its rows and gains the columns that it lacks.

CREATE TABLE IF NOT EXISTS users (
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

ALTER TABLE users
  ADD COLUMN IF NOT EXISTS name text NOT NULL,
  ADD COLUMN IF NOT EXISTS email text NOT NULL,
  ADD COLUMN IF NOT EXISTS password text NOT NULL,
  ADD COLUMN IF NOT EXISTS role text NOT NULL DEFAULT 'agent',
  ADD COLUMN IF NOT EXISTS is_online boolean DEFAULT false,
  ADD COLUMN IF NOT EXISTS custom_theme json,
  ADD COLUMN IF NOT EXISTS environment text NOT NULL DEFAULT 'production';

CREATE TABLE IF NOT EXISTS instance_config (
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

ALTER TABLE instance_config
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

CREATE TABLE IF NOT EXISTS plans (
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

ALTER TABLE plans
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

CREATE TABLE IF NOT EXISTS status_check_logs (
  id varchar PRIMARY KEY DEFAULT gen_random_uuid(),
  instance_config_id varchar NOT NULL,
  check_type text NOT NULL,
  success boolean NOT NULL,
  status_received text,
  error_message text,
  response_time integer,
  created_at timestamp DEFAULT now()
);

ALTER TABLE status_check_logs
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
    WHERE i.indrelid = 'users'::regclass AND i.indisunique AND i.indisvalid
      AND i.indnkeyatts = 1 AND i.indpred IS NULL AND a.attname = 'email'
  ) THEN
    ALTER TABLE users ADD CONSTRAINT users_email_key UNIQUE (email);
  END IF;
END
$$;

-- 0003 service_tables

-- The tables that the app's documentation names without a definition, in the style of its others:
-- all but names and keys nullable or with defaults.

CREATE TABLE IF NOT EXISTS queues (
  id varchar PRIMARY KEY DEFAULT gen_random_uuid(),
  name text NOT NULL,
  description text,
  is_active boolean DEFAULT true,
  environment text NOT NULL DEFAULT 'production',
  created_at timestamp DEFAULT now()
);

ALTER TABLE queues
  ADD COLUMN IF NOT EXISTS name text NOT NULL,
  ADD COLUMN IF NOT EXISTS description text,
  ADD COLUMN IF NOT EXISTS is_active boolean DEFAULT true,
  ADD COLUMN IF NOT EXISTS environment text NOT NULL DEFAULT 'production';

CREATE TABLE IF NOT EXISTS clients (
  id varchar PRIMARY KEY DEFAULT gen_random_uuid(),
  name text NOT NULL,
  email text,
  phone text,
  notes text,
  environment text NOT NULL DEFAULT 'production',
  created_at timestamp DEFAULT now()
);

ALTER TABLE clients
  ADD COLUMN IF NOT EXISTS name text NOT NULL,
  ADD COLUMN IF NOT EXISTS email text,
  ADD COLUMN IF NOT EXISTS phone text,
  ADD COLUMN IF NOT EXISTS notes text,
  ADD COLUMN IF NOT EXISTS environment text NOT NULL DEFAULT 'production';

CREATE TABLE IF NOT EXISTS conversations (
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

ALTER TABLE conversations
  ADD COLUMN IF NOT EXISTS client_id varchar,
  ADD COLUMN IF NOT EXISTS queue_id varchar,
  ADD COLUMN IF NOT EXISTS user_id varchar,
  ADD COLUMN IF NOT EXISTS subject text,
  ADD COLUMN IF NOT EXISTS status text NOT NULL DEFAULT 'active',
  ADD COLUMN IF NOT EXISTS environment text NOT NULL DEFAULT 'production',
  ADD COLUMN IF NOT EXISTS closed_at timestamp;

CREATE TABLE IF NOT EXISTS messages (
  id varchar PRIMARY KEY DEFAULT gen_random_uuid(),
  conversation_id varchar,
  user_id varchar,
  sender text NOT NULL DEFAULT 'client',
  content text,
  environment text NOT NULL DEFAULT 'production',
  created_at timestamp DEFAULT now()
);

ALTER TABLE messages
  ADD COLUMN IF NOT EXISTS conversation_id varchar,
  ADD COLUMN IF NOT EXISTS user_id varchar,
  ADD COLUMN IF NOT EXISTS sender text NOT NULL DEFAULT 'client',
  ADD COLUMN IF NOT EXISTS content text,
  ADD COLUMN IF NOT EXISTS environment text NOT NULL DEFAULT 'production';

CREATE TABLE IF NOT EXISTS settings (
  key text PRIMARY KEY,
  value json,
  created_at timestamp DEFAULT now(),
  updated_at timestamp DEFAULT now()
);

ALTER TABLE settings
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
      SELECT FROM pg_attribute WHERE attrelid = tbl::regclass AND attname = col AND NOT attisdropped)
  LOOP
    EXECUTE format('ALTER TABLE %I ADD COLUMN %I timestamp', lacking.tbl, lacking.col);
    EXECUTE format('ALTER TABLE %I ALTER COLUMN %I SET DEFAULT now()', lacking.tbl, lacking.col);
  END LOOP;
END
$$;

-- One row a key, also where the app made the table with a key of its own.
DO $$
BEGIN
  IF NOT EXISTS (
    SELECT FROM pg_index i
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = 'settings'::regclass AND i.indisunique AND i.indisvalid
      AND i.indnkeyatts = 1 AND i.indpred IS NULL AND a.attname = 'key'
  ) THEN
    ALTER TABLE settings ADD CONSTRAINT settings_key_key UNIQUE (key);
  END IF;
END
$$;

-- JSON in a column of type text reads back as another value, and differs from what is declared for ever.
DO $$
DECLARE
  unfit record;
BEGIN
  SELECT attrelid::regclass AS tbl, attname AS col, format_type(atttypid, atttypmod) AS kind INTO unfit
  FROM pg_attribute
  WHERE (attrelid, attname) IN (
      ('plans'::regclass, 'features'), ('instance_config'::regclass, 'enabled_features'),
      ('settings'::regclass, 'value'))
    AND atttypid NOT IN ('json'::regtype, 'jsonb'::regtype)
  ORDER BY 1, 2 LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'the column %.% is of type %, not json', unfit.tbl, unfit.col, unfit.kind
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
        'users'::regclass, 'instance_config'::regclass, 'plans'::regclass, 'status_check_logs'::regclass,
        'queues'::regclass, 'clients'::regclass, 'conversations'::regclass, 'messages'::regclass)
      AND a.attname = 'id' AND NOT a.atthasdef AND a.attidentity = ''
      AND a.atttypid IN ('varchar'::regtype, 'text'::regtype, 'uuid'::regtype)
  LOOP
    EXECUTE format('ALTER TABLE %s ALTER COLUMN id SET DEFAULT gen_random_uuid()', tbl);
  END LOOP;
END
$$;

-- 0004 environments

-- Isolamento Completo: no row may belong to no environment, and none may point into the other one.
-- Constraints are added NOT VALID and then validated, so that a table with rows that break one is adopted as it
-- is: new rows must obey, old ones are reported (statement breaking_rows in sql/queries/isolation.sql), none is lost.

DO $$
DECLARE
  shared text;
BEGIN
  FOREACH shared IN ARRAY ARRAY['users', 'clients', 'queues', 'conversations', 'messages'] LOOP
    -- An expression is the app's way to say which environment it is in; another word is what nothing else says.
    IF NOT EXISTS (
      SELECT FROM pg_attrdef d
      JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
      WHERE d.adrelid = shared::regclass AND a.attname = 'environment' AND (
        pg_get_expr(d.adbin, d.adrelid) LIKE '''production''::%' OR pg_get_expr(d.adbin, d.adrelid) NOT LIKE '''%')
    ) THEN
      EXECUTE format('ALTER TABLE %I ALTER COLUMN environment SET DEFAULT ''production''', shared);
    END IF;
    IF NOT EXISTS (
      SELECT FROM pg_constraint
      WHERE conrelid = shared::regclass AND conname = shared || '_environment_check'
    ) THEN
      -- IS NOT NULL: a CHECK lets NULL pass, and a column that the app made may allow it.
      EXECUTE format(
        'ALTER TABLE %I ADD CONSTRAINT %I CHECK '
        '(environment IS NOT NULL AND environment IN (''production'', ''development'')) NOT VALID',
        shared, shared || '_environment_check');
    END IF;
    IF NOT EXISTS (
      SELECT FROM pg_constraint
      WHERE conrelid = shared::regclass AND conname = shared || '_id_environment_key'
    ) THEN
      EXECUTE format(
        'ALTER TABLE %I ADD CONSTRAINT %I UNIQUE (id, environment)',
        shared, shared || '_id_environment_key');
    END IF;
  END LOOP;
END
$$;

DO $$
DECLARE
  link record;
BEGIN
  FOR link IN
    SELECT child, reference, parent, child || '_' || reference || '_environment_fkey' AS name
    FROM (VALUES
      ('conversations', 'client_id', 'clients'),
      ('conversations', 'queue_id', 'queues'),
      ('conversations', 'user_id', 'users'),
      ('messages', 'conversation_id', 'conversations'),
      ('messages', 'user_id', 'users')
    ) AS links (child, reference, parent)
  LOOP
    IF NOT EXISTS (
      SELECT FROM pg_constraint WHERE conrelid = link.child::regclass AND conname = link.name
    ) THEN
      EXECUTE format(
        'ALTER TABLE %I ADD CONSTRAINT %I FOREIGN KEY (%I, environment) '
        'REFERENCES %I (id, environment) NOT VALID',
        link.child, link.name, link.reference, link.parent);
    END IF;
  END LOOP;
END
$$;

DO $$
DECLARE
  open record;
BEGIN
  FOR open IN
    SELECT conrelid::regclass AS tbl, conname AS name
    FROM pg_constraint
    WHERE NOT convalidated
      AND (conname LIKE '%\_environment\_check' OR conname LIKE '%\_environment\_fkey')
      AND conrelid IN (
        'users'::regclass, 'clients'::regclass, 'queues'::regclass,
        'conversations'::regclass, 'messages'::regclass)
    ORDER BY conname
  LOOP
    BEGIN
      EXECUTE format('ALTER TABLE %s VALIDATE CONSTRAINT %I', open.tbl, open.name);
    EXCEPTION WHEN check_violation OR foreign_key_violation THEN
      RAISE WARNING 'rows of % break %: they are kept, new ones are refused', open.tbl, open.name;
    END;
  END LOOP;
END
$$;

-- What the constraint holds for every row, the column says too. Where a row is of no environment it can't be.
DO $$
DECLARE
  nullable regclass;
BEGIN
  FOR nullable IN
    SELECT a.attrelid
    FROM pg_attribute a
    JOIN pg_class t ON t.oid = a.attrelid
    JOIN pg_constraint c ON c.conrelid = t.oid AND c.conname = t.relname || '_environment_check' AND c.convalidated
    WHERE a.attname = 'environment' AND NOT a.attnotnull AND a.attrelid IN (
      'users'::regclass, 'clients'::regclass, 'queues'::regclass,
      'conversations'::regclass, 'messages'::regclass)
    ORDER BY a.attrelid
  LOOP
    EXECUTE format('ALTER TABLE %s ALTER COLUMN environment SET NOT NULL', nullable);
  END LOOP;
END
$$;

-- 0005 indexes

-- The newest checks of an instance, and whether Connect was ever heard.
CREATE INDEX IF NOT EXISTS status_check_logs_recent_idx
  ON status_check_logs (instance_config_id, created_at DESC);
CREATE INDEX IF NOT EXISTS status_check_logs_heard_idx
  ON status_check_logs (instance_config_id) WHERE success;

-- The columns of foreign keys: without these a removed parent scans its children.
CREATE INDEX IF NOT EXISTS conversations_client_idx ON conversations (client_id, environment);
CREATE INDEX IF NOT EXISTS conversations_queue_idx ON conversations (queue_id, environment);
CREATE INDEX IF NOT EXISTS conversations_user_idx ON conversations (user_id, environment);
CREATE INDEX IF NOT EXISTS messages_conversation_idx ON messages (conversation_id, environment);
CREATE INDEX IF NOT EXISTS messages_user_idx ON messages (user_id, environment);

-- The usage report's counts and last activity.
CREATE INDEX IF NOT EXISTS conversations_status_idx ON conversations (environment, status);
CREATE INDEX IF NOT EXISTS conversations_activity_idx ON conversations (environment, last_activity_at DESC);

-- Test data, for its removal in batches; nearly empty in production.
CREATE INDEX IF NOT EXISTS conversations_development_idx
  ON conversations (id) WHERE environment = 'development';
CREATE INDEX IF NOT EXISTS messages_development_idx
  ON messages (id) WHERE environment = 'development';

-- 0006 isolation

-- Row-level security for `isolation: enforced`: a session sees and writes rows of its fiv.environment only, and of
-- those only what its login may be: a member of <database>_production or <database>_development, or the tables' owner.
-- Where it set no environment there is nothing. FORCE: the owner is bound too. Superusers and BYPASSRLS never are.

-- The role of one environment: <database>_<environment>, with a digest where that is longer than a name may be.
CREATE OR REPLACE FUNCTION fivrec.environment_role(environment text) RETURNS text
LANGUAGE sql STABLE AS $$
  SELECT CASE
    WHEN octet_length(current_database()) + 1 + octet_length(environment) <= 63
      THEN current_database() || '_' || environment
    ELSE 'fivapp_' || md5(current_database()) || '_' || environment
  END
$$;

-- Views that read a shared table with their owner's rights, and copies of one: row-level security does not bind these.
CREATE OR REPLACE FUNCTION fivrec.leaking_views() RETURNS SETOF regclass
LANGUAGE sql STABLE AS $$
  WITH RECURSIVE readers AS (
    SELECT v.oid, v.relkind, v.reloptions
    FROM pg_depend d
    JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    JOIN pg_class v ON v.oid = r.ev_class
    WHERE d.refclassid = 'pg_class'::regclass AND v.relkind IN ('v', 'm') AND d.refobjid IN (
      'users'::regclass, 'clients'::regclass, 'queues'::regclass, 'conversations'::regclass, 'messages'::regclass)
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
LANGUAGE sql STABLE AS $$
  WITH shared AS (
    SELECT oid, relowner, relrowsecurity AND relforcerowsecurity AS bound
    FROM pg_class
    WHERE oid IN (
      'users'::regclass, 'clients'::regclass, 'queues'::regclass, 'conversations'::regclass, 'messages'::regclass)
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
LANGUAGE plpgsql AS $$
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
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), name);
  EXCEPTION WHEN insufficient_privilege THEN
    NULL;  -- the schema is another's; as a rule everybody may use it
  END;
  EXECUTE format(
    'GRANT SELECT, INSERT, UPDATE, DELETE ON users, clients, queues, conversations, messages TO %I', name);
  EXECUTE format('GRANT SELECT ON plans, settings TO %I', name);
END
$$;

-- A group that fivrec made and that nobody is a member of goes; one in use stays, with what it was granted.
CREATE OR REPLACE FUNCTION fivrec.drop_environment_role(environment text) RETURNS void
LANGUAGE plpgsql AS $$
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
  EXECUTE format('REVOKE ALL ON users, clients, queues, conversations, messages, plans, settings FROM %I', name);
  EXECUTE format('REVOKE ALL ON SCHEMA %I FROM %I', current_schema(), name);
  EXECUTE format('DROP ROLE %I', name);
EXCEPTION WHEN insufficient_privilege OR dependent_objects_still_exist THEN
  NULL;  -- it has a use that fivrec does not know of
END
$$;

CREATE OR REPLACE FUNCTION fivrec.set_isolation(isolation text) RETURNS void
LANGUAGE plpgsql AS $$
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
        AND polrelid IN ('users'::regclass, 'clients'::regclass, 'queues'::regclass,
                         'conversations'::regclass, 'messages'::regclass);
    IF found IS NOT NULL THEN
      RAISE EXCEPTION 'policies that are not fivrec''s let rows through: %', found
        USING ERRCODE = 'FV001', HINT = 'drop them, or make them AS RESTRICTIVE';
    END IF;
    SELECT string_agg(v::text, ', ') INTO found FROM fivrec.leaking_views() v;
    IF found IS NOT NULL THEN
      RAISE EXCEPTION 'these show rows of both environments to whoever may read them: %', found
        USING ERRCODE = 'FV001', HINT = 'ALTER VIEW ... SET (security_invoker = true); drop materialized views';
    END IF;
    IF fivrec.isolation() = 'enforced' THEN
      RETURN;
    END IF;
    PERFORM fivrec.make_environment_role('production'), fivrec.make_environment_role('development');
  END IF;
  FOREACH shared IN ARRAY ARRAY['users', 'clients', 'queues', 'conversations', 'messages']::regclass[] LOOP
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
LANGUAGE plpgsql AS $$
DECLARE
  before text := COALESCE(current_setting('fiv.environment', true), '');
BEGIN
  PERFORM set_config('fiv.environment', 'development', true);
  RETURN QUERY
    SELECT 'messages', count(*) FROM messages WHERE environment = 'development'
    UNION ALL SELECT 'conversations', count(*) FROM conversations WHERE environment = 'development'
    UNION ALL SELECT 'clients', count(*) FROM clients WHERE environment = 'development'
    UNION ALL SELECT 'queues', count(*) FROM queues WHERE environment = 'development'
    UNION ALL SELECT 'users', count(*) FROM users WHERE environment = 'development';
  PERFORM set_config('fiv.environment', before, true);
END
$$;

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

-- Which migrations this database has.
INSERT INTO fivrec.migrations (version, name, checksum) VALUES
  (1, 'fivrec', '71ea45ba32ec24c032e8766cd94a377f0e39a567ed8b8fe39260132e970e3f37'),
  (2, 'app_tables', '63ea5062933a78d0559725b26b357667a3d5476e4bd1d7dd570f27258f51cb10'),
  (3, 'service_tables', 'f6696ee7b03f513b425d71402a560cc38f0ccf19e08c39360711c789719c834d'),
  (4, 'environments', 'd4c273a9c548098972a1267f1b9d63b39b93a187682e6512e07de758a439e943'),
  (5, 'indexes', '6f3cce5b5e6de417f0e3bfa13b45cfc70440b70fa3b8a554d19c4ef720294ecc'),
  (6, 'isolation', '5ef8b5fd8efc3741af78f01efd332bf85b34b97f2242aa01703c0a50ea20590c'),
  (7, 'access', 'e4d753667af2eeed65d511c647569a59ab32de7353dd0bec98a7d855cd78a711'),
  (8, 'test_data', 'ae866334d527f8ac06a1defb546708ebeb68542581df80c7016b6db1095dca57'),
  (10, 'life', '641bcd296ef07f3b8e233e0cc3d0588b54a8f11705036bf7501c1a870ee623d2')
ON CONFLICT (version) DO UPDATE
SET name = EXCLUDED.name, checksum = EXCLUDED.checksum, applied_at = now()
WHERE migrations.checksum <> EXCLUDED.checksum;

RESET client_min_messages;
