-- Which environment the instance was last applied as, and how the catalogue isolates it.

-- What holds is read closely only where a table has row-level security at all.
-- name: read
SELECT a.name AS key, a.environment AS row_id, false AS referenced, a.environment AS name,
       CASE WHEN (
         SELECT bool_or(t.relrowsecurity)
         FROM pg_class t
         WHERE t.oid IN (
           '{app}.users'::regclass, '{app}.clients'::regclass, '{app}.queues'::regclass,
           '{app}.conversations'::regclass, '{app}.messages'::regclass)
       ) THEN fivrec.isolation() ELSE 'constraints' END AS isolation
FROM fivrec.applied a
WHERE a.kind = 'environment' AND a.name = %(instance)s
ORDER BY a.applied_at DESC
LIMIT 1;

-- The row of fivrec.applied that follows is then the only one of its kind.
-- name: create
WITH former AS (
  DELETE FROM fivrec.applied
  WHERE kind = 'environment'::text AND name = %(key)s::text AND environment <> %(environment)s::text
)
SELECT fivrec.set_isolation(%(isolation)s::text);

-- name: update
WITH former AS (
  DELETE FROM fivrec.applied
  WHERE kind = 'environment'::text AND name = %(key)s::text AND environment <> %(environment)s::text
)
SELECT fivrec.set_isolation(%(isolation)s::text);
