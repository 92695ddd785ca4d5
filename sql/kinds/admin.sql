-- Administrators: rows of users, known by their email.

-- All administrators of the environment, and the users of either environment with a declared email in any case: UNIQUE
-- (email) spans both.
-- name: read
SELECT u.email::text AS key, u.id AS row_id, false AS referenced,
       u.name, u.password, u.role, u.environment IS DISTINCT FROM %(environment)s AS other_environment
FROM {app}.users u
WHERE (u.environment = %(environment)s AND u.role = 'admin' AND u.email IS NOT NULL)
   OR lower(u.email::text) IN (lower(%(admin_email)s::text), lower(%(admin_renamed_from)s::text));

-- Users whose stored password is neither a hash of any kind ($2b$…, $argon2id$…, {SSHA}…; Django's pbkdf2_sha256$…,
-- Werkzeug's scrypt:32768:8:1$…, Node's hex.salt of scrypt) nor the mark of an account without a password.
-- name: in_the_open
SELECT u.email::text AS email
FROM {app}.users u
WHERE u.environment::text = %(environment)s::text AND u.password::text NOT IN ('', '!', '*')
  AND u.password::text !~ '^([$][0-9a-zA-Z-]+[$]|[{][0-9A-Z-]+[}]).'
  AND u.password::text !~ '^(pbkdf2_sha(1|256)|argon2|bcrypt|bcrypt_sha256|scrypt)[$].{20}'
  AND u.password::text !~ '^(pbkdf2:sha[0-9]+:[0-9]+|scrypt:[0-9]+:[0-9]+:[0-9]+)[$].{20}'
  AND u.password::text !~ '^[0-9a-f]{64,128}[.:][0-9a-f]{16,64}$'
  AND u.password::text !~ '^![0-9a-zA-Z]{40}$'
ORDER BY u.email::text
LIMIT %(limit)s;

-- A repeat writes nothing; an email that the other environment holds is an error, not a silent skip.
-- name: create
INSERT INTO {app}.users (name, email, password, role, environment)
SELECT %(name)s::text, %(key)s::text, %(password)s::text, %(role)s, %(environment)s
WHERE NOT EXISTS (
  SELECT FROM {app}.users u
  WHERE lower(u.email::text) = lower(%(key)s::text) AND u.environment::text = current_setting('fiv.environment'));

-- The row moves here from the other environment if the plan says so.
-- name: update
UPDATE {app}.users
SET environment = %(environment)s,
    email = %(key)s,
    name = %(name)s,
    role = %(role)s,
    password = COALESCE(%(password)s, password)
WHERE id::text = %(row_id)s::text AND (environment::text = current_setting('fiv.environment') OR %(moves)s::boolean);

-- Like `read`, from a table that may lack columns.
-- name: adopt
SELECT j ->> 'email' AS key, j ->> 'id' AS row_id, false AS referenced,
       j ->> 'name' AS name, j ->> 'password' AS password, COALESCE(j ->> 'role', 'agent') AS role,
       environment IS DISTINCT FROM %(environment)s::text AS other_environment
FROM (SELECT to_jsonb(t) AS j FROM {app}.users t) rows,
     LATERAL (SELECT CASE WHEN j ? 'environment' THEN j ->> 'environment' ELSE 'production' END AS environment) e
WHERE j ->> 'email' IS NOT NULL
  AND ((environment = %(environment)s::text AND j ->> 'role' = 'admin')
       OR lower(j ->> 'email') IN (lower(%(admin_email)s::text), lower(%(admin_renamed_from)s::text)));
