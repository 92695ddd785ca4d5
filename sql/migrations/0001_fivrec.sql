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
