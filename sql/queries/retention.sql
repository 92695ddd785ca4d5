-- Old rows of the logs, a small batch at a time. The newest successful check stays: it tells that Connect was heard.

-- name: checks
DELETE FROM status_check_logs
WHERE id IN (
  SELECT l.id
  FROM status_check_logs l
  JOIN instance_config c ON c.id = l.instance_config_id
  WHERE c.instance_id = %(instance)s
    AND l.created_at < now()::timestamp - make_interval(secs => %(keep_s)s::double precision)
    AND l.created_at IS DISTINCT FROM (
      SELECT max(s.created_at) FROM status_check_logs s WHERE s.instance_config_id = c.id AND s.success)
  ORDER BY l.created_at
  LIMIT %(limit)s
);

-- name: reports
DELETE FROM fivrec.usage_outbox
WHERE id IN (
  SELECT id FROM fivrec.usage_outbox
  WHERE instance = %(instance)s AND sent_at < now() - make_interval(secs => %(keep_s)s::double precision)
  LIMIT %(limit)s
);

-- The last of the oldest entries that may go: a whole prefix of the chain. Entries that tell of pruning alone are no
-- reason to prune: each would leave another one.
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
