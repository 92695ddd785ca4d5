-- What an apply records beside the rows of its kinds, in the transaction of those rows.

-- What both environments share keeps its provenance when the instance changes its environment.
-- name: applied
INSERT INTO fivrec.applied (environment, kind, name, fields, run_id, provenance, before)
SELECT %(environment)s, a.kind, a.name, a.fields, %(run_id)s,
       COALESCE(a.provenance, l.provenance, 'adopted'), COALESCE(a.before, l.before, '{}')
FROM json_to_recordset(%(applied)s::json) AS a (kind text, name text, fields jsonb, provenance text, before jsonb)
LEFT JOIN LATERAL (
  SELECT p.provenance, p.before
  FROM fivrec.applied p
  WHERE (p.environment = %(environment)s::text OR p.kind <> ALL (%(per_environment)s::text[]))
    AND p.kind = a.kind AND p.name = a.name
  ORDER BY p.applied_at DESC LIMIT 1
) l ON true
ON CONFLICT (environment, kind, name) DO UPDATE
SET fields = EXCLUDED.fields, run_id = EXCLUDED.run_id, applied_at = now(),
    provenance = EXCLUDED.provenance, before = EXCLUDED.before, tenure = 'declared';

-- What is no longer declared keeps the run and the time of its last apply.
-- name: released
UPDATE fivrec.applied
SET fields = CASE WHEN r.merge THEN applied.fields ELSE '{}' END || r.fields,
    provenance = r.provenance, tenure = r.tenure, before = r.before
FROM json_to_recordset(%(released)s::json) AS r (
  kind text, name text, fields jsonb, merge boolean, provenance text, tenure text, before jsonb)
WHERE (applied.environment = %(environment)s::text OR applied.kind <> ALL (%(per_environment)s::text[]))
  AND applied.kind = r.kind AND applied.name = r.name;

-- How the run ended, if it looked at everything declared, or failed. If it could not look (drift is NULL), the drift
-- that the last run found stays.
-- name: last_run
INSERT INTO fivrec.last_run AS l (
  instance, run_id, command, actor, git_commit, at, outcome, error, changes, drift, open_drift, former)
VALUES (
  %(instance)s, %(run_id)s, %(command)s, %(actor)s, %(git_commit)s::text, now(), %(outcome)s, %(error)s::text,
  %(changes)s::integer, COALESCE(%(drift)s::integer, 0), COALESCE(%(open_drift)s::jsonb, '[]'),
  COALESCE(%(former)s::jsonb, '[]'))
ON CONFLICT (instance) DO UPDATE
SET run_id = EXCLUDED.run_id, command = EXCLUDED.command, actor = EXCLUDED.actor, git_commit = EXCLUDED.git_commit,
    at = EXCLUDED.at, outcome = EXCLUDED.outcome, error = EXCLUDED.error, changes = EXCLUDED.changes,
    drift = COALESCE(%(drift)s::integer, l.drift),
    open_drift = COALESCE(%(open_drift)s::jsonb, l.open_drift),
    former = COALESCE(%(former)s::jsonb, l.former);

-- The same for a run that did not look at everything, such as a check that locked.
-- name: last_run_beside
INSERT INTO fivrec.last_run AS l (
  instance, run_id, command, actor, git_commit, at, outcome, error, changes, drift, open_drift, former)
VALUES (
  %(instance)s, %(run_id)s, %(command)s, %(actor)s, %(git_commit)s::text, now(), %(outcome)s, %(error)s::text,
  %(changes)s::integer, COALESCE(%(drift)s::integer, 0), COALESCE(%(open_drift)s::jsonb, '[]'),
  COALESCE(%(former)s::jsonb, '[]'))
ON CONFLICT (instance) DO UPDATE
SET (run_id, command, actor, git_commit, at, outcome, error, changes) = (
      -- It does not end a failure: then it writes the row as it was, as a count of 0 means that a trigger dropped it.
      SELECT one.run_id, one.command, one.actor, one.git_commit, one.at, one.outcome, one.error, one.changes
      FROM (VALUES
        (true, l.run_id, l.command, l.actor, l.git_commit, l.at, l.outcome, l.error, l.changes),
        (false, EXCLUDED.run_id, EXCLUDED.command, EXCLUDED.actor, EXCLUDED.git_commit, EXCLUDED.at, EXCLUDED.outcome,
         EXCLUDED.error, EXCLUDED.changes)
      ) AS one (kept, run_id, command, actor, git_commit, at, outcome, error, changes)
      WHERE one.kept = (%(drift)s::integer IS NULL AND EXCLUDED.outcome NOT IN ('failed', 'refused')
                        AND l.outcome IN ('failed', 'refused'))),
    drift = COALESCE(%(drift)s::integer, l.drift),
    open_drift = COALESCE(%(open_drift)s::jsonb, l.open_drift),
    former = COALESCE(%(former)s::jsonb, l.former);

-- name: has_last_run
SELECT to_regclass('fivrec.last_run') IS NOT NULL AS has_last_run;

-- name: audit
INSERT INTO fivrec.audit_log (
  seq, id, run_id, at, actor, git_commit, manifest_digest, instance, environment,
  kind, name, action, cause, source, fields, prev_hash, hash, signature)
SELECT seq, id, run_id, at, actor, git_commit, manifest_digest, instance, environment,
       kind, name, action, cause, source, fields, prev_hash, hash, signature
FROM json_populate_recordset(NULL::fivrec.audit_log, %(entries)s::json);

-- name: audit_key
INSERT INTO fivrec.audit_key (instance, sealed) VALUES (%(instance)s, %(sealed)s)
ON CONFLICT (id) DO UPDATE SET instance = EXCLUDED.instance, sealed = EXCLUDED.sealed;

-- In the app's table an instance may have several rows: the check belongs to the one that kind config reads.
-- name: check
WITH config AS (
  UPDATE {app}.instance_config SET last_status_check = now() WHERE instance_id::text = %(instance)s::text
  RETURNING id
)
INSERT INTO {app}.status_check_logs (
  id, instance_config_id, check_type, success, status_received, error_message, response_time, created_at)
SELECT %(id)s, id, %(check_type)s, %(success)s::boolean, %(status_received)s, %(error_message)s,
       %(response_time_ms)s::integer, now()
FROM config
WHERE id::text = %(config_id)s::text;

-- The same if that row was not read, or did not exist yet.
-- name: check_unread
WITH config AS (
  UPDATE {app}.instance_config SET last_status_check = now() WHERE instance_id::text = %(instance)s::text
  RETURNING id, created_at
)
INSERT INTO {app}.status_check_logs (
  id, instance_config_id, check_type, success, status_received, error_message, response_time, created_at)
SELECT %(id)s, id, %(check_type)s, %(success)s::boolean, %(status_received)s, %(error_message)s,
       %(response_time_ms)s::integer, now()
FROM config
ORDER BY created_at NULLS FIRST, id LIMIT 1;

-- Replaces an error message in the two statements above: cuts it to the length of the app's column, or a failed check
-- would keep the manifest from being applied. Only used there, because it reads the catalogue.
-- name: short_error
left(%(error_message)s::text, COALESCE((
    SELECT a.atttypmod - 4 FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = pg_catalog.to_regclass('{app}.status_check_logs')::oid AND a.attname = 'error_message'::name
      AND a.atttypmod > 4), 10000))

-- The same for a status that fivrec does not know: cut, or left out if the column is an enum without it.
-- name: odd_status
(pg_catalog.json_populate_record(NULL::{app}.status_check_logs, pg_catalog.json_build_object('status_received', (
    SELECT CASE WHEN t.typtype = 'e'::"char" THEN (
             SELECT e.enumlabel::text FROM pg_catalog.pg_enum e
             WHERE e.enumtypid = t.oid AND e.enumlabel = %(status_received)s::text::name)
           ELSE left(%(status_received)s::text, CASE WHEN a.atttypmod > 4 THEN a.atttypmod - 4 ELSE 1000 END) END
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = pg_catalog.to_regclass('{app}.status_check_logs')::oid AND a.attname = 'status_received'::name)))
).status_received

-- Whether the check is there, or the instance has no row that it could belong to.
-- name: has_check
SELECT EXISTS (SELECT FROM {app}.status_check_logs WHERE id::text = %(check)s::text)
    OR NOT EXISTS (SELECT FROM {app}.instance_config WHERE instance_id::text = %(instance)s::text) AS has_check;

-- The next two end the transaction if a trigger or a rule changed what must be in the row: the column's name then fails
-- to convert to an integer.
-- name: lock_kept
SELECT CASE WHEN EXISTS (
    SELECT FROM {app}.instance_config c
    WHERE c.id::text = %(config_id)s::text AND pg_catalog.concat(c.is_locked) = %(lock)s::text
  ) THEN '1' ELSE 'is_locked' END::integer;

-- name: keys_kept
SELECT CASE WHEN (
    SELECT count(*) FROM {app}.instance_config c
    JOIN pg_catalog.json_each_text(%(keys)s::json) AS k (row_id, envelope) ON c.id::text = k.row_id::text
    WHERE pg_catalog.rtrim(pg_catalog.concat(c.instance_key)) = k.envelope::text
  ) = %(count)s::bigint THEN '1' ELSE 'instance_key' END::integer;

-- What Connect said, and its lock, if the rest can't be written. Does not depend on a reading of the row.
-- name: answered
UPDATE {app}.instance_config AS c
SET status = %(status)s,
    billing_status = %(billing_status)s,
    is_locked = {is_locked}
WHERE instance_id::text = ANY (%(instances)s::text[]);

-- Only the lock, for a login that may not read the rest of the row.
-- name: lock
UPDATE {app}.instance_config SET is_locked = %(is_locked)s::boolean WHERE instance_id::text = ANY (%(instances)s::text[]);

-- The lock as a word that the column may accept: JSON converts it to the column's type.
-- name: lock_word
UPDATE {app}.instance_config AS c
SET is_locked = (pg_catalog.json_populate_record(c, pg_catalog.json_build_object('is_locked', %(word)s::text))).is_locked
WHERE instance_id::text = ANY (%(instances)s::text[]);

-- One part has waited in vain for a table or a row: the others, of which there are many, wait little for it.
-- name: hurry
SET LOCAL lock_timeout = '100ms';

-- The lock in each row of the instance.
-- name: locked
SELECT c.is_locked FROM {app}.instance_config c WHERE c.instance_id::text = ANY (%(instances)s::text[]);

-- name: stamp
UPDATE {app}.instance_config SET last_status_check = now() WHERE instance_id::text = ANY (%(instances)s::text[]);

-- Only the row of the check, for the same instance_config as above.
-- name: log
INSERT INTO {app}.status_check_logs (
  id, instance_config_id, check_type, success, status_received, error_message, response_time, created_at)
SELECT %(id)s, c.id, %(check_type)s, %(success)s::boolean, %(status_received)s, %(error_message)s,
       %(response_time_ms)s::integer, now()
FROM {app}.instance_config c
WHERE c.instance_id::text = ANY (%(instances)s::text[])
ORDER BY c.created_at NULLS FIRST, c.id LIMIT 1;

-- name: usage
INSERT INTO fivrec.usage_outbox (id, instance, environment, payload)
VALUES (%(id)s, %(instance)s, %(environment)s, %(payload)s)
ON CONFLICT (id) DO NOTHING;

-- name: alerts
INSERT INTO fivrec.alert_outbox (id, instance, alert, payload)
SELECT a.id, %(instance)s, a.alert, a.payload
FROM json_to_recordset(%(alerts)s::json) AS a (id text, alert text, payload json)
ON CONFLICT (id) DO NOTHING;

-- name: old_alerts
DELETE FROM fivrec.alert_outbox
WHERE instance = %(instance)s::text AND created_at < now() - interval '30 days';

-- name: committed
SELECT CASE
  WHEN %(audit)s::text IS NOT NULL THEN EXISTS (SELECT FROM fivrec.audit_log WHERE hash = %(audit)s)
  WHEN %(check)s::text IS NOT NULL THEN EXISTS (SELECT FROM {app}.status_check_logs WHERE id = %(check)s)
  WHEN %(run_id)s::text IS NOT NULL THEN EXISTS (SELECT FROM fivrec.applied WHERE run_id = %(run_id)s)
  ELSE true
END AS committed;
