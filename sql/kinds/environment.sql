-- Which environment the instance was last applied as, and how the catalogue isolates it.

-- How the catalogue isolates it; as what it was applied is among the records (state.sql). What holds is read closely only
-- if there is a policy of fivrec's: row_security says so (transaction.sql).
-- name: read
SELECT CASE WHEN current_setting('row_security') = 'on' THEN fivrec.isolation() ELSE 'constraints' END AS isolation;

-- The row of fivrec.applied that follows is then the only one of its kind.
-- name: create
WITH former AS (
  DELETE FROM fivrec.applied
  WHERE kind = 'environment'::text AND NOT (name = %(key)s::text AND environment = %(environment)s::text)
)
SELECT fivrec.set_isolation(%(isolation)s::text);

-- name: update
WITH former AS (
  DELETE FROM fivrec.applied
  WHERE kind = 'environment'::text AND NOT (name = %(key)s::text AND environment = %(environment)s::text)
)
SELECT fivrec.set_isolation(%(isolation)s::text);

-- The same of a table that may lack columns.
-- name: adopt
SELECT %(instance)s::text AS key, j ->> 'environment' AS row_id, false AS referenced,
       j ->> 'environment' AS name,
       CASE WHEN (
         SELECT bool_and(t.relrowsecurity AND t.relforcerowsecurity)
         FROM pg_class t
         WHERE t.oid IN (
           to_regclass('{app}.users'), to_regclass('{app}.clients'), to_regclass('{app}.queues'),
           to_regclass('{app}.conversations'), to_regclass('{app}.messages'))
       ) THEN 'enforced' ELSE 'constraints' END AS isolation
FROM (SELECT to_jsonb(t) AS j FROM fivrec.applied t) rows
WHERE j ->> 'kind' = 'environment'
ORDER BY j ->> 'name' = %(instance)s DESC, j ->> 'applied_at' DESC
LIMIT 1;
