-- What a reading of an instance holds beside its kinds.

-- name: migrations
SELECT version, checksum FROM fivrec.migrations;

-- name: audit_head
SELECT seq, hash FROM fivrec.audit_log ORDER BY seq DESC LIMIT 1;

-- The environment's resources, and which environment it was before.
-- name: applied
SELECT kind, name, fields, run_id, applied_at
FROM fivrec.applied
WHERE environment = %(environment)s OR kind = 'environment'
ORDER BY applied_at;
