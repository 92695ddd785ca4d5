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
