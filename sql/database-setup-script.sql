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
  ADD COLUMN IF NOT EXISTS environment text NOT NULL DEFAULT 'production',
  ADD COLUMN IF NOT EXISTS created_at timestamp DEFAULT now();

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
  ADD COLUMN IF NOT EXISTS is_locked boolean DEFAULT false,
  ADD COLUMN IF NOT EXISTS created_at timestamp DEFAULT now();

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
  ADD COLUMN IF NOT EXISTS stripe_price_id text,
  ADD COLUMN IF NOT EXISTS created_at timestamp DEFAULT now();

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
  ADD COLUMN IF NOT EXISTS response_time integer,
  ADD COLUMN IF NOT EXISTS created_at timestamp DEFAULT now();

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
  ADD COLUMN IF NOT EXISTS environment text NOT NULL DEFAULT 'production',
  ADD COLUMN IF NOT EXISTS created_at timestamp DEFAULT now();

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
  ADD COLUMN IF NOT EXISTS environment text NOT NULL DEFAULT 'production',
  ADD COLUMN IF NOT EXISTS created_at timestamp DEFAULT now();

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
  ADD COLUMN IF NOT EXISTS last_activity_at timestamp DEFAULT now(),
  ADD COLUMN IF NOT EXISTS closed_at timestamp,
  ADD COLUMN IF NOT EXISTS created_at timestamp DEFAULT now();

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
  ADD COLUMN IF NOT EXISTS environment text NOT NULL DEFAULT 'production',
  ADD COLUMN IF NOT EXISTS created_at timestamp DEFAULT now();

CREATE TABLE IF NOT EXISTS settings (
  key text PRIMARY KEY,
  value json,
  created_at timestamp DEFAULT now(),
  updated_at timestamp DEFAULT now()
);

ALTER TABLE settings
  ADD COLUMN IF NOT EXISTS key text NOT NULL,
  ADD COLUMN IF NOT EXISTS value json,
  ADD COLUMN IF NOT EXISTS created_at timestamp DEFAULT now(),
  ADD COLUMN IF NOT EXISTS updated_at timestamp DEFAULT now();

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

-- 0004 environments

-- Isolamento Completo: no row may belong to no environment, and none may point into the other one.
-- Constraints are added NOT VALID and then validated, so that a table with rows that break one is adopted as it
-- is: new rows must obey, old ones are reported (statement breaking_rows in sql/queries/isolation.sql), none is lost.

DO $$
DECLARE
  shared text;
BEGIN
  FOREACH shared IN ARRAY ARRAY['users', 'clients', 'queues', 'conversations', 'messages'] LOOP
    IF NOT EXISTS (
      SELECT FROM pg_attribute
      WHERE attrelid = shared::regclass AND attname = 'environment' AND atthasdef
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

-- Row-level security for `isolation: enforced`: a session sees and writes rows of its fiv.environment only, and
-- none at all where it set none. FORCE: the tables' owner is bound too. Superusers and BYPASSRLS never are.

CREATE OR REPLACE FUNCTION fivrec.set_isolation(isolation text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
  shared text;
  ours boolean;
BEGIN
  IF isolation NOT IN ('constraints', 'enforced') THEN
    RAISE EXCEPTION 'isolation is constraints or enforced' USING ERRCODE = '22023';
  END IF;
  IF isolation = 'enforced' AND (
    SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user
  ) THEN
    RAISE EXCEPTION 'row-level security does not bind this login' USING ERRCODE = 'FV001';
  END IF;
  FOREACH shared IN ARRAY ARRAY['users', 'clients', 'queues', 'conversations', 'messages'] LOOP
    ours := EXISTS (
      SELECT FROM pg_policy WHERE polrelid = shared::regclass AND polname = 'fivrec_environment');
    -- Security that somebody else set up on a table is not ours to take away.
    CONTINUE WHEN isolation = 'constraints' AND NOT ours;
    EXECUTE format('DROP POLICY IF EXISTS fivrec_environment ON %I', shared);
    IF isolation = 'enforced' THEN
      EXECUTE format(
        'CREATE POLICY fivrec_environment ON %I '
        'USING (environment = current_setting(''fiv.environment'', true)) '
        'WITH CHECK (environment = current_setting(''fiv.environment'', true))', shared);
      EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', shared);
    ELSE
      EXECUTE format('ALTER TABLE %I DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY', shared);
    END IF;
  END LOOP;
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

-- Which migrations this database has.
INSERT INTO fivrec.migrations (version, name, checksum) VALUES
  (1, 'fivrec', '71ea45ba32ec24c032e8766cd94a377f0e39a567ed8b8fe39260132e970e3f37'),
  (2, 'app_tables', 'ec2f272fd71fb5097bc6831e399046dfac8a592ec863ab19e3c571fac8d88f40'),
  (3, 'service_tables', '50df47eb0fee3f908dc446ad962561849e478c4518ab7ef0c4b6f5824de7ce9d'),
  (4, 'environments', '9d463c24bc56550e7238a1375825ae70d7eef517633769481a15acf6d6d5c137'),
  (5, 'indexes', '6f3cce5b5e6de417f0e3bfa13b45cfc70440b70fa3b8a554d19c4ef720294ecc'),
  (6, 'isolation', 'c9c4457d97b2fcf3c90f896e2ad741c2a0c805861f86df120d1635301905e884'),
  (7, 'access', 'e4d753667af2eeed65d511c647569a59ab32de7353dd0bec98a7d855cd78a711')
ON CONFLICT (version) DO UPDATE
SET name = EXCLUDED.name, checksum = EXCLUDED.checksum, applied_at = now()
WHERE migrations.checksum <> EXCLUDED.checksum;

RESET client_min_messages;
