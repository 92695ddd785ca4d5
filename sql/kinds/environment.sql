-- Which environment the instance was last applied as, and how the catalogue isolates it.

-- How the catalogue isolates it; what it was applied as is in the records (state.sql). The exact isolation is read only
-- if there is a policy of fivrec's: row_security says so (transaction.sql).
-- name: read
SELECT CASE WHEN current_setting('row_security') = 'on' THEN fivrec.isolation() ELSE 'constraints' END AS isolation;

-- The row of fivrec.applied that is written next is then the only one of its kind. Without a policy of fivrec's and a role
-- that may be one of its own, there is nothing to set for `constraints`.
-- name: create
WITH former AS (
  DELETE FROM fivrec.applied
  WHERE kind = 'environment'::text AND NOT (name = %(key)s::text AND environment = %(environment)s::text)
)
SELECT CASE WHEN %(isolation)s::text <> 'constraints'
              OR EXISTS (SELECT FROM pg_policy WHERE starts_with(polname::text, 'fivrec_'))
              OR EXISTS (SELECT FROM pg_roles WHERE rolname::text ~ '_(production|development)$')
            THEN fivrec.set_isolation(%(isolation)s::text) END;

-- name: update
WITH former AS (
  DELETE FROM fivrec.applied
  WHERE kind = 'environment'::text AND NOT (name = %(key)s::text AND environment = %(environment)s::text)
)
SELECT fivrec.set_isolation(%(isolation)s::text);

-- Like `read`, from tables that may lack columns.
-- name: adopt
SELECT CASE WHEN (
         SELECT bool_and(t.relrowsecurity AND t.relforcerowsecurity)
         FROM pg_class t
         WHERE t.oid IN (
           to_regclass('{app}.users'), to_regclass('{app}.clients'), to_regclass('{app}.queues'),
           to_regclass('{app}.conversations'), to_regclass('{app}.messages'))
       ) THEN 'enforced' ELSE 'constraints' END AS isolation;
