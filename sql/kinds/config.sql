-- The instance's row of instance_config: its identity at Connect. The same row holds kind status.

-- Not sorted, and at most two: a new server process takes longer to load sorting than for all the rest. If there are
-- several rows, `chosen` says which is meant. Selects created_at so that a table without it is noticed.
-- name: read
SELECT c.instance_id::text AS key, c.id AS row_id, c.id::text AS config_id, false AS referenced,
       c.instance_key, c.connect_api_url, c.check_interval_minutes,
       c.status, c.billing_status, c.enabled_features, c.is_locked, concat(c.is_locked) AS lock_text,
       EXISTS (SELECT FROM {app}.status_check_logs l WHERE l.instance_config_id::text = c.id::text AND l.success) AS answered,
       c.created_at IS NULL AS undated
FROM {app}.instance_config c
WHERE c.instance_id IS NOT NULL
LIMIT 2;

-- The row that counts, then the others.
-- name: chosen
SELECT c.instance_id::text AS key, c.id AS row_id, c.id::text AS config_id, false AS referenced,
       c.instance_key, c.connect_api_url, c.check_interval_minutes,
       c.status, c.billing_status, c.enabled_features, c.is_locked, concat(c.is_locked) AS lock_text,
       EXISTS (SELECT FROM {app}.status_check_logs l WHERE l.instance_config_id::text = c.id::text AND l.success) AS answered
FROM {app}.instance_config c
WHERE c.instance_id IS NOT NULL
ORDER BY (c.instance_id = %(instance)s) DESC, c.created_at NULLS FIRST, c.id;

-- name: create
INSERT INTO {app}.instance_config (instance_id, instance_key, connect_api_url, check_interval_minutes)
SELECT %(key)s::text, %(instance_key)s::text, %(connect_api_url)s::text, %(check_interval_minutes)s::integer
WHERE NOT EXISTS (SELECT FROM {app}.instance_config WHERE instance_id::text = %(key)s::text);

-- Only the envelope, in any row of the instance.
-- name: rekey
UPDATE {app}.instance_config SET instance_key = %(instance_key)s WHERE id::text = %(row_id)s::text;

-- A row taken over from another instance gets this one's id.
-- name: update
UPDATE {app}.instance_config
SET instance_id = %(key)s,
    instance_key = COALESCE(%(instance_key)s, instance_key),
    connect_api_url = %(connect_api_url)s,
    check_interval_minutes = %(check_interval_minutes)s::integer
WHERE id::text = %(row_id)s::text;

-- Like `read`, from a table that may lack columns.
-- name: adopt
SELECT j ->> 'instance_id' AS key, j ->> 'id' AS row_id, false AS referenced,
       j ->> 'instance_key' AS instance_key, j ->> 'connect_api_url' AS connect_api_url,
       COALESCE(j -> 'check_interval_minutes', '60') AS check_interval_minutes,
       CASE WHEN j ? 'status' THEN j ->> 'status' ELSE 'active' END AS status,
       CASE WHEN j ? 'billing_status' THEN j ->> 'billing_status' ELSE 'paid' END AS billing_status,
       CASE WHEN j ? 'enabled_features' THEN j -> 'enabled_features'
            ELSE '{"chat": true, "chatbot": true, "ai_agent": false}' END AS enabled_features,
       COALESCE(j -> 'is_locked', 'false') AS is_locked,
       false AS answered
FROM (SELECT to_jsonb(t) AS j FROM {app}.instance_config t) rows
WHERE j ->> 'instance_id' IS NOT NULL
ORDER BY (j ->> 'instance_id' = %(instance)s) DESC, j ->> 'created_at' NULLS FIRST, j ->> 'id';
