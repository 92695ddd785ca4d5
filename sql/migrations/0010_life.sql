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
