-- Queues that others refer to: sql/kinds/queue.sql has the conditions that go in here.

-- A table that is not adopted yet may have no column environment: then it is the one of `lacking`.
-- name: which
SELECT q.id::text AS row_id
FROM {app}.queues q
WHERE q.id::text = ANY (%(found)s::text[])
  AND (SELECT COALESCE(known.environment, 'production')
       FROM (SELECT NULL AS environment) AS lacking
       CROSS JOIN LATERAL (SELECT environment::text FROM (SELECT q.*) AS own) AS known) = %(environment)s
  AND ({conditions});

-- A new row that refers to a queue must lock that queue, and this lock prevents it.
-- name: hold
SELECT q.id AS row_id, q.name
FROM {app}.queues q
WHERE q.id::text = ANY (%(found)s::text[]) AND q.environment = %(environment)s
FOR UPDATE;

-- Whether rows refer to a user who is to move here from the other environment; they would have to move too.
-- name: mover
SELECT EXISTS (SELECT FROM {app}.conversations WHERE user_id::text = %(row_id)s AND environment = %(environment)s)
    OR EXISTS (SELECT FROM {app}.messages WHERE user_id::text = %(row_id)s AND environment = %(environment)s) AS used;

-- Users of the other environment who are to move here; asked as that environment if row-level security hides it.
-- name: hidden
SELECT u.email::text AS email
FROM {app}.users u
WHERE u.environment::text = %(environment)s::text
  AND lower(u.email::text) IN (lower(%(admin_email)s::text), lower(%(admin_renamed_from)s::text))
ORDER BY u.email::text
LIMIT 1;
