-- What the fleet keeps beside Procrastinate's tables, in the queue's database. It holds no secret. Run by
-- `fivrec fleet init`, as often as one likes.

CREATE SCHEMA IF NOT EXISTS fivrec_fleet;

-- Who is due when, and how the last turn ended.
CREATE TABLE IF NOT EXISTS fivrec_fleet.instances (
  instance text PRIMARY KEY,
  position bigint GENERATED ALWAYS AS IDENTITY,
  digest text NOT NULL,
  stored boolean NOT NULL DEFAULT false,
  interval_s double precision NOT NULL CHECK (interval_s > 0),
  due_at timestamptz NOT NULL DEFAULT now(),
  heard boolean NOT NULL DEFAULT false,
  failures integer NOT NULL DEFAULT 0,
  trouble text,
  own_check text,
  usage_due boolean NOT NULL DEFAULT false,
  fights text,
  outcome text,
  error text,
  message text,
  ended_at timestamptz,
  last_success timestamptz
);
CREATE INDEX IF NOT EXISTS instances_due_at ON fivrec_fleet.instances (due_at);

-- Rendered manifests that `fivrec fleet schedule --store` keeps, references in place of secrets. `signature` is keyed:
-- who can write here can't make a worker send its secrets elsewhere.
CREATE TABLE IF NOT EXISTS fivrec_fleet.manifests (
  digest text PRIMARY KEY,
  instance text NOT NULL,
  document text NOT NULL,
  path text NOT NULL,
  line integer NOT NULL,
  signature text NOT NULL,
  stored_at timestamptz NOT NULL DEFAULT now()
);

-- Reports of the instances of `fivrec fleet apply`, until it has taken them.
CREATE TABLE IF NOT EXISTS fivrec_fleet.results (
  run_id text NOT NULL,
  instance text NOT NULL,
  report text NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (run_id, instance)
);

-- Version 2. `slot_at`: the next slot, whose turn makes the check and the usage report; `due_at`: the next turn, which may
-- be a retry; infinity if nobody declares the instance any more. `place`: where in its interval its slots lie, 0 to
-- n-1 of those with the same interval. `view`: what the scheduler that declared it was given to read. `standing`: what
-- was last said of it, as JSON.
ALTER TABLE fivrec_fleet.instances
  ADD COLUMN IF NOT EXISTS slot_at timestamptz NOT NULL DEFAULT now(),
  ADD COLUMN IF NOT EXISTS place bigint,
  ADD COLUMN IF NOT EXISTS view text NOT NULL DEFAULT '',
  ADD COLUMN IF NOT EXISTS declared_at timestamptz NOT NULL DEFAULT now(),
  ADD COLUMN IF NOT EXISTS standing text;

-- Version 3. `drift`: what others changed and the last turn left so, counted by kind, and what was told of it, as JSON;
-- beside it, what Connect says of the instance's database, and when it is asked again.
ALTER TABLE fivrec_fleet.instances ADD COLUMN IF NOT EXISTS drift text;

-- When each scheduler last declared its instances: one that finds another time here than its own works on a database that
-- was restored from a backup.
CREATE TABLE IF NOT EXISTS fivrec_fleet.schedulers (id text PRIMARY KEY, at timestamptz NOT NULL);

-- What `fivrec fleet init` made these tables for. A newer one adds columns with defaults, and takes none away: workers and
-- schedulers of the version before go on.
CREATE TABLE IF NOT EXISTS fivrec_fleet.versions (version integer PRIMARY KEY, at timestamptz NOT NULL DEFAULT now());
INSERT INTO fivrec_fleet.versions (version) VALUES (2), (3) ON CONFLICT DO NOTHING;

-- The first slot after `now_at`; the phases are those of `fivrec watch` (planning/schedule.py), counted from 1970.
CREATE OR REPLACE FUNCTION fivrec_fleet.next_slot(
  position_ bigint, interval_s double precision, now_at timestamptz
) RETURNS timestamptz LANGUAGE sql STABLE AS $$
  SELECT to_timestamp(interval_s * (phase + floor(extract(epoch FROM now_at)::double precision / interval_s - phase) + 1))
  FROM (SELECT 1 - ((position_ * ((sqrt(5) - 1) / 2)) - floor(position_ * ((sqrt(5) - 1) / 2))) AS phase) AS p
$$;
