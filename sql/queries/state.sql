-- What a reading of an instance has beside its kinds.

-- name: migrations
SELECT version, checksum, app_schema, finished FROM fivrec.migrations;

-- The records of this environment, and of what both share: the environment itself, settings, config, plans. The
-- administrator's record moves with its row. Not sorted: see sql/kinds/config.sql.
-- name: applied
SELECT kind, name, fields, before, run_id, applied_at, provenance, tenure,
       environment <> %(environment)s AS other_environment
FROM fivrec.applied
WHERE environment = %(environment)s OR kind <> ALL (%(per_environment)s::text[])
   OR (kind = 'admin' AND lower(name) IN (lower(%(admin_email)s::text), lower(%(admin_renamed_from)s::text)));

-- name: audit_head
SELECT seq, hash FROM fivrec.audit_log WHERE seq > 0 ORDER BY seq DESC LIMIT 1;

-- name: audit_key
SELECT instance, sealed FROM fivrec.audit_key;

-- Whether a run has ever applied anything here: then the log can't be empty.
-- name: traces
(SELECT FROM fivrec.applied LIMIT 1) UNION ALL (SELECT FROM fivrec.last_run LIMIT 1);

-- The drift that the last recorded run found and left, and whether that run may have had no answer from Connect.
-- name: open_drift
SELECT open_drift, outcome IN ('degraded', 'failed', 'refused') AS unanswered FROM fivrec.last_run WHERE instance = %(instance)s;

-- The last status that Connect sent, even if it was not written (suspend, ignore).
-- name: last_received
SELECT l.status_received
FROM {app}.status_check_logs l
JOIN {app}.instance_config c ON c.id::text = l.instance_config_id::text
WHERE c.instance_id = %(instance)s AND l.success AND l.created_at IS NOT NULL
ORDER BY l.created_at DESC
LIMIT 1;

-- The newest check of all types. A run by hand has no other memory of whether Connect could be reached. A check from
-- the future comes from a clock that was set back since, and would be the newest for hours.
-- name: newest_check
SELECT l.success::text IN ('t', 'true') AS reachable
FROM {app}.status_check_logs l
WHERE l.instance_config_id::text = %(config_id)s::text AND l.created_at::timestamp <= now()::timestamp
ORDER BY l.created_at DESC
LIMIT 1;

-- What the newest alert since the newest check of a watch says of Connect: a run by hand stored it. No row if there is none.
-- name: told_by_hand
SELECT a.alert <> 'connect_unreachable' AS reachable
FROM fivrec.alert_outbox a
WHERE a.instance = %(instance)s AND a.alert IN ('connect_unreachable', 'recovered')
  AND a.created_at::timestamp > ALL (
    SELECT l.created_at::timestamp
    FROM {app}.status_check_logs l
    JOIN {app}.instance_config c ON c.id::text = l.instance_config_id::text
    WHERE c.instance_id::text = %(instance)s::text AND l.check_type::text <> 'manual'
      AND l.created_at::timestamp <= now()::timestamp
    ORDER BY l.created_at::timestamp DESC
    LIMIT 1
  )
ORDER BY a.created_at DESC
LIMIT 1;

-- The billing status in the newest alert: the log of checks does not have it.
-- name: alerted_billing
SELECT payload -> 'received' ->> 'billing_status' AS billing_status
FROM fivrec.alert_outbox
WHERE instance = %(instance)s AND payload -> 'received' ->> 'billing_status' IS NOT NULL
ORDER BY created_at DESC
LIMIT 1;

-- The billing status in the newest alert since Connect last sent another status than this one. No row if there is none.
-- name: told_standing
SELECT a.payload -> 'received' ->> 'billing_status' AS billing_status
FROM fivrec.alert_outbox a
WHERE a.instance = %(instance)s AND a.payload -> 'received' ->> 'status' = %(status)s::text
  AND NOT EXISTS (
    SELECT FROM {app}.status_check_logs l
    WHERE l.instance_config_id::text = %(config_id)s::text AND l.success::text IN ('t', 'true')
      AND l.status_received::text <> %(status)s::text AND l.created_at > a.created_at AT TIME ZONE 'UTC')
ORDER BY a.created_at DESC
LIMIT 1;

-- In the app's table an instance may have several rows: those beside the one that kind config reads.
-- name: other_keys
SELECT c.id AS row_id, c.instance_key::text AS instance_key
FROM {app}.instance_config c
WHERE c.instance_id::text = %(instance)s::text AND c.id::text IS DISTINCT FROM %(config_id)s::text AND c.instance_key IS NOT NULL
ORDER BY c.id;

-- The newest check that a watch recorded.
-- name: last_check
SELECT l.id::text AS id, l.check_type, l.success,
       extract(epoch FROM now()::timestamp - l.created_at)::double precision AS age_s
FROM {app}.status_check_logs l
JOIN {app}.instance_config c ON c.id::text = l.instance_config_id::text
WHERE c.instance_id = %(instance)s AND l.check_type::text <> 'manual' AND l.created_at IS NOT NULL
ORDER BY l.created_at DESC
LIMIT 1;

-- What the statement `settings` found out about this login, for a deep reading.
-- name: strong_login
SELECT current_setting('fivrec.write_path') = 'pg_catalog' AS strong;
