-- Rows of queues, known by their name within the environment.

-- Of several rows with one name the oldest active one stands for it. A table of the app's may hold rows without one.
-- name: read
SELECT DISTINCT ON (q.name)
       q.name AS key, q.id AS row_id, false AS referenced, q.description, q.is_active
FROM queues q
WHERE q.environment = %(environment)s AND q.name IS NOT NULL
ORDER BY q.name, q.is_active DESC NULLS LAST, q.created_at, q.id;

-- Read only where rows may be removed: conversations is a table that a cold backend takes long to learn.
-- name: references
SELECT q.id AS row_id
FROM queues q
WHERE q.environment = %(environment)s AND EXISTS (
  SELECT FROM conversations c WHERE c.queue_id = q.id AND c.environment = %(environment)s);

-- name: create
INSERT INTO queues (name, description, is_active, environment)
SELECT %(key)s::text, %(description)s::text, %(is_active)s::boolean, %(environment)s::text
WHERE NOT EXISTS (SELECT FROM queues WHERE name = %(key)s::text AND environment = %(environment)s::text);

-- name: update
UPDATE queues
SET name = %(key)s, description = %(description)s, is_active = %(is_active)s::boolean
WHERE id = %(row_id)s AND environment = %(environment)s;

-- name: deactivate
UPDATE queues SET is_active = false WHERE id = %(row_id)s AND environment = %(environment)s;

-- The foreign key holds a queue that got a conversation since it was read.
-- name: remove
DELETE FROM queues WHERE id = %(row_id)s AND environment = %(environment)s;
