-- Old rows of the logs, a small batch at a time. The newest successful check stays: it shows that Connect has answered.

-- name: checks
DELETE FROM {app}.status_check_logs
WHERE id::text IN (
  SELECT l.id::text
  FROM {app}.status_check_logs l
  JOIN {app}.instance_config c ON c.id::text = l.instance_config_id::text
  WHERE c.instance_id::text = %(instance)s::text
    AND l.created_at::timestamp < now()::timestamp - %(keep_s)s::double precision * interval '1 second'
    AND l.created_at::timestamp IS DISTINCT FROM (
      SELECT max(s.created_at::timestamp)
      FROM {app}.status_check_logs s WHERE s.instance_config_id::text = c.id::text AND s.success)
  ORDER BY l.created_at
  LIMIT %(limit)s
);

-- name: reports
DELETE FROM fivrec.usage_outbox
WHERE id IN (
  SELECT id FROM fivrec.usage_outbox
  WHERE instance = %(instance)s::text AND sent_at < now() - %(keep_s)s::double precision * interval '1 second'
  LIMIT %(limit)s
);

-- The last of the oldest entries that may be deleted, always a whole prefix of the chain. If all of them are about
-- pruning, nothing is pruned: that would only add another such entry.
-- name: old_audit
SELECT seq, hash
FROM (
  SELECT seq, hash, action,
         bool_and(at < now() - make_interval(secs => %(keep_s)s::double precision)) OVER (ORDER BY seq) AS old,
         bool_or(action <> 'prune') OVER (ORDER BY seq) AS worth
  FROM (SELECT seq, hash, action, at FROM fivrec.audit_log WHERE seq > 0 ORDER BY seq LIMIT %(limit)s) AS oldest
) AS judged
WHERE old AND worth AND seq < (SELECT max(seq) FROM fivrec.audit_log)
ORDER BY seq DESC
LIMIT 1;

-- name: prune_audit
DELETE FROM fivrec.audit_log WHERE seq BETWEEN 1 AND %(seq)s::bigint;
