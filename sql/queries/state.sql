-- What a reading of an instance holds beside its kinds.

-- name: migrations
SELECT version, checksum FROM fivrec.migrations;

-- name: audit_head
SELECT seq, hash FROM fivrec.audit_log ORDER BY seq DESC LIMIT 1;

-- The environment's resources, and which environment it was before.
-- name: applied
SELECT kind, name, fields, run_id, applied_at, provenance, tenure, before
FROM fivrec.applied
WHERE environment = %(environment)s OR kind = 'environment'
ORDER BY applied_at;

-- The drift that the last recording run found and left.
-- name: open_drift
SELECT open_drift FROM fivrec.last_run WHERE instance = %(instance)s;

-- What Connect said last, also where its word was not written (suspend, ignore).
-- name: last_heard
SELECT l.status_received
FROM status_check_logs l
JOIN instance_config c ON c.id = l.instance_config_id
WHERE c.instance_id = %(instance)s AND l.success AND l.created_at IS NOT NULL
ORDER BY l.created_at DESC
LIMIT 1;

-- The newest check that a watch recorded.
-- name: last_check
SELECT l.id::text AS id, l.check_type, l.success,
       extract(epoch FROM now()::timestamp - l.created_at)::double precision AS age_s
FROM status_check_logs l
JOIN instance_config c ON c.id = l.instance_config_id
WHERE c.instance_id = %(instance)s AND l.check_type <> 'manual' AND l.created_at IS NOT NULL
ORDER BY l.created_at DESC
LIMIT 1;
