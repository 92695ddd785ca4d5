-- Alerts on their way to receivers.

-- Alerts that nobody has delivered. `older_s`: the process that stored a younger one may still be delivering it. If the
-- oldest is older, all go together: what a run by hand found may be over, and the end is not to come an interval later.
-- name: waiting
SELECT id, payload
FROM fivrec.alert_outbox
WHERE instance = %(instance)s AND sent_at IS NULL
  AND created_at >= now() - interval '7 days'
  AND EXISTS (
    SELECT FROM fivrec.alert_outbox o
    WHERE o.instance = %(instance)s AND o.sent_at IS NULL
      AND o.created_at BETWEEN now() - interval '7 days' AND now() - %(older_s)s::double precision * interval '1 second'
  )
ORDER BY created_at, id
LIMIT 500;

-- The last alert on whether the instance can be reconciled: `was` names the trouble that is over.
-- name: trouble
SELECT CASE WHEN payload ->> 'was' IS NULL THEN payload ->> 'error' END AS code
FROM fivrec.alert_outbox
WHERE instance = %(instance)s AND (alert IN ('failing', 'not_converged') OR payload ->> 'was' IS NOT NULL)
ORDER BY created_at DESC
LIMIT 1;

-- name: delivered
UPDATE fivrec.alert_outbox SET sent_at = now() WHERE id = ANY (%(ids)s::text[]) AND sent_at IS NULL;
