-- Usage of one environment, and the reports on their way to Connect (seed: Relatorio de Uso).

-- A time that no calendar has (infinity, before Christ) doesn't count as activity.
-- A conversation without a last activity was active when it was made; if that is unknown too, it doesn't count.
-- name: counts
SELECT (SELECT count(*) FROM {app}.users WHERE environment = %(environment)s) AS users,
       (SELECT count(*) FROM {app}.conversations WHERE environment = %(environment)s) AS conversations,
       (SELECT count(*) FROM {app}.clients WHERE environment = %(environment)s) AS clients,
       (SELECT count(*) FROM {app}.queues WHERE environment = %(environment)s) AS queues,
       (SELECT count(*) FROM {app}.conversations
         WHERE environment = %(environment)s AND status IN ('active', 'open')) AS active_conversations,
       GREATEST(
         (SELECT max(last_activity_at) FROM {app}.conversations
           WHERE environment = %(environment)s AND last_activity_at BETWEEN '0001-01-01' AND '9999-12-31'),
         (SELECT max(created_at) FROM {app}.conversations
           WHERE environment = %(environment)s AND last_activity_at IS NULL
             AND created_at BETWEEN '0001-01-01' AND '9999-12-31'),
         (SELECT max(created_at) FROM {app}.messages
           WHERE environment = %(environment)s AND created_at BETWEEN '0001-01-01' AND '9999-12-31')) AS last_activity,
       (SELECT enabled_features FROM {app}.instance_config WHERE instance_id = %(instance)s
         ORDER BY created_at NULLS FIRST, id LIMIT 1) AS features,
       (SELECT instance_id::text FROM {app}.instance_config WHERE instance_id IS NOT NULL
         ORDER BY (instance_id = %(instance)s) DESC, created_at NULLS FIRST, id LIMIT 1) AS owner;

-- The newest, if there are more than the limit: old ones that Connect always refuses must not hold back newer ones.
-- name: pending
SELECT id, instance, environment, payload, attempts
FROM (SELECT *
      FROM fivrec.usage_outbox
      WHERE sent_at IS NULL AND instance = %(instance)s
        AND (%(all)s::boolean OR next_attempt_at <= now())
      ORDER BY created_at DESC, id DESC
      LIMIT %(limit)s) newest
ORDER BY created_at, id;

-- name: sent
UPDATE fivrec.usage_outbox SET sent_at = now(), attempts = attempts + 1, last_error = NULL
WHERE id = %(id)s::text AND sent_at IS NULL;

-- name: failed
UPDATE fivrec.usage_outbox
SET attempts = attempts + 1, last_error = %(error)s,
    next_attempt_at = now() + %(retry_s)s::double precision * interval '1 second'
WHERE id = %(id)s::text AND sent_at IS NULL;
