-- Administrators: rows of users, known by their email.

-- All of the environment, and whoever holds the declared emails, also in the other environment: UNIQUE (email)
-- spans both.
-- name: read
SELECT u.email AS key, u.id AS row_id, false AS referenced,
       u.name, u.password, u.role, u.environment <> %(environment)s AS other_environment
FROM users u
WHERE (u.environment = %(environment)s AND u.role = 'admin' AND u.email IS NOT NULL)
   OR u.email IN (%(admin_email)s, %(admin_renamed_from)s);

-- A repeat writes nothing; an email that the other environment holds is an error, not a silent skip.
-- name: create
INSERT INTO users (name, email, password, role, environment)
SELECT %(name)s::text, %(key)s::text, %(password)s::text, %(role)s::text, %(environment)s::text
WHERE NOT EXISTS (SELECT FROM users WHERE email = %(key)s::text AND environment = %(environment)s::text);

-- The row moves here from the other environment where the plan says so.
-- name: update
UPDATE users
SET environment = %(environment)s,
    email = %(key)s,
    name = %(name)s,
    role = %(role)s,
    password = COALESCE(%(password)s, password)
WHERE id = %(row_id)s AND (environment = %(environment)s OR %(moves)s::boolean);
