-- What the commands show of an instance.

-- name: status
SELECT c.instance_id, c.status, c.billing_status, c.enabled_features, c.is_locked,
       c.check_interval_minutes, c.last_status_check, c.connect_api_url,
       EXISTS (SELECT FROM {app}.status_check_logs l WHERE l.instance_config_id::text = c.id::text AND l.success) AS answered
FROM {app}.instance_config c
WHERE c.instance_id = %(instance)s
ORDER BY c.created_at NULLS FIRST, c.id
LIMIT 1;

-- The instance that the database belongs to. If several rows name one, each is its own.
-- name: owner
SELECT c.instance_id::text AS owner
FROM {app}.instance_config c
WHERE c.instance_id IS NOT NULL
ORDER BY (c.instance_id = %(instance)s) DESC, c.created_at NULLS FIRST, c.id
LIMIT 1;

-- The instance that the records name, for a database whose row of instance_config is gone.
-- name: recorded
SELECT name AS owner FROM fivrec.applied WHERE kind = 'config' ORDER BY (name = %(instance)s) DESC, name LIMIT 1;

-- The environment that the rows are in, whatever the manifest says.
-- name: environment
SELECT a.environment
FROM fivrec.applied a
WHERE a.kind = 'environment'
ORDER BY a.name = %(instance)s DESC, a.applied_at DESC
LIMIT 1;

-- Skips checks without a time, which the app's table allows, and those of tomorrow or later: they are of a wrong clock, and would
-- be the last for as long; within a day it may be the app's, in the time of its zone. As text: the column may be of any type.
-- name: last_check
SELECT l.id, l.created_at, l.check_type, l.success, l.status_received, l.error_message, l.response_time
FROM {app}.status_check_logs l
JOIN {app}.instance_config c ON c.id::text = l.instance_config_id::text
WHERE c.instance_id = %(instance)s AND l.created_at IS NOT NULL
  AND l.created_at::text COLLATE "C" < (now()::timestamp + interval '1 day')::text
ORDER BY l.created_at DESC, l.id DESC
LIMIT 1;

-- name: last_run
SELECT run_id, at, command, actor, git_commit, outcome, error, changes, drift, open_drift, former
FROM fivrec.last_run
WHERE instance = %(instance)s;

-- For a database without an instance: what `setup` made may bear the database's name.
-- name: run_before
SELECT run_id, at, command, actor, git_commit, outcome, error, changes, drift, open_drift, former
FROM fivrec.last_run
WHERE instance = %(instance)s OR command = 'setup'
ORDER BY instance = %(instance)s DESC, at DESC
LIMIT 1;

-- A time that no calendar has is bounded when it is read, so no page goes on from it: such rows are on first pages.
-- name: checks
SELECT l.id, l.created_at, l.check_type, l.success, l.status_received, l.error_message, l.response_time
FROM {app}.status_check_logs l
JOIN {app}.instance_config c ON c.id::text = l.instance_config_id::text
WHERE c.instance_id = %(instance)s AND l.created_at IS NOT NULL
  AND (%(since)s::timestamp IS NULL OR l.created_at >= %(since)s::timestamp)
  AND (%(check_type)s::text IS NULL OR l.check_type::text = %(check_type)s::text)
  AND (NOT %(failed)s::boolean OR NOT l.success)
  AND (%(before_at)s::timestamp IS NULL
       OR (l.created_at, l.id) < (%(before_at)s::timestamp, %(before_id)s) AND l.created_at > '0001-01-02')
ORDER BY l.created_at DESC, l.id DESC
LIMIT %(limit)s;

-- The same, oldest first, for following.
-- name: checks_oldest_first
SELECT l.id, l.created_at, l.check_type, l.success, l.status_received, l.error_message, l.response_time
FROM {app}.status_check_logs l
JOIN {app}.instance_config c ON c.id::text = l.instance_config_id::text
WHERE c.instance_id = %(instance)s AND l.created_at IS NOT NULL
  AND (%(since)s::timestamp IS NULL OR l.created_at >= %(since)s::timestamp)
  AND (%(check_type)s::text IS NULL OR l.check_type::text = %(check_type)s::text)
  AND (NOT %(failed)s::boolean OR NOT l.success)
ORDER BY l.created_at, l.id
LIMIT %(limit)s;

-- Before its migration a database has no column `signature`: the name then means the one of `before`. fivrec's numbers
-- begin at 1. A time that Python can't hold (infinity, BC) is bounded when it is read: then the entry shows, but
-- doesn't fit its hash.
-- name: history
SELECT found.*
FROM (SELECT NULL::text AS signature) AS before, LATERAL (
  SELECT seq, id, run_id, at, actor, git_commit,
         manifest_digest, instance, environment, kind, name, action, cause, source, fields, prev_hash, hash, signature
  FROM fivrec.audit_log
  WHERE seq > 0
    AND (%(instance)s::text IS NULL OR instance = %(instance)s::text)
    AND (%(since)s::timestamptz IS NULL OR at >= %(since)s::timestamptz)
    AND (%(kind)s::text IS NULL OR kind = %(kind)s::text)
    AND (%(cause)s::text IS NULL OR cause = %(cause)s::text)
    AND (%(run)s::text IS NULL OR starts_with(run_id, %(run)s::text))
  ORDER BY seq DESC
  LIMIT %(limit)s
) AS found;

-- The entries after a number, oldest first, for following.
-- name: history_after
SELECT found.*
FROM (SELECT NULL::text AS signature) AS before, LATERAL (
  SELECT seq, id, run_id, at, actor, git_commit,
         manifest_digest, instance, environment, kind, name, action, cause, source, fields, prev_hash, hash, signature
  FROM fivrec.audit_log
  WHERE seq > %(after)s::bigint
    AND (%(instance)s::text IS NULL OR instance = %(instance)s::text)
    AND (%(kind)s::text IS NULL OR kind = %(kind)s::text)
    AND (%(cause)s::text IS NULL OR cause = %(cause)s::text)
    AND (%(run)s::text IS NULL OR starts_with(run_id, %(run)s::text))
  ORDER BY seq
  LIMIT %(limit)s
) AS found;

-- Since when the audit log has a column for signatures.
-- name: signing
SELECT applied_at AS since, now() AS until FROM fivrec.migrations WHERE name = 'audit_key';

-- The chain, oldest first, page by page.
-- name: chain
SELECT found.*
FROM (SELECT NULL::text AS signature) AS before, LATERAL (
  SELECT seq, id, run_id, at, actor, git_commit,
         manifest_digest, instance, environment, kind, name, action, cause, source, fields, prev_hash, hash, signature
  FROM fivrec.audit_log
  WHERE (%(after)s::bigint IS NULL OR seq > %(after)s::bigint)
  ORDER BY seq
  LIMIT %(limit)s
) AS found;

-- Usage reports that Connect did not take, of those that were sent at least once.
-- name: unsent
SELECT count(*) AS count, min(created_at) AS since, (array_agg(last_error ORDER BY created_at))[1] AS error
FROM fivrec.usage_outbox
WHERE instance = %(instance)s AND sent_at IS NULL AND attempts > 0
HAVING count(*) > 0;
