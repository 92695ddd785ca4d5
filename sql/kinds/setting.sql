-- Rows of settings, known by their key.

-- The app's table may hold rows without a key.
-- name: read
SELECT s.key::text AS key, s.key AS row_id, false AS referenced, s.value
FROM {app}.settings s
WHERE s.key IS NOT NULL;

-- name: create
INSERT INTO {app}.settings (key, value) VALUES (%(key)s, %(value)s)
ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value, updated_at = now();

-- name: update
UPDATE {app}.settings
SET key = %(key)s, value = %(value)s, updated_at = now()
WHERE key::text = %(row_id)s::text;

-- name: remove
DELETE FROM {app}.settings WHERE key::text = %(row_id)s::text;

-- Like `read`, from a table that may lack columns.
-- name: adopt
SELECT j ->> 'key' AS key, j ->> 'key' AS row_id, false AS referenced, j -> 'value' AS value
FROM (SELECT to_jsonb(t) AS j FROM {app}.settings t) rows
WHERE j ->> 'key' IS NOT NULL;
