-- Administrators: rows of users, known by their email.

-- All of the environment, and whoever holds the declared emails, also in the other environment: UNIQUE (email)
-- spans both.
-- name: read
SELECT u.email AS key, u.id AS row_id, false AS referenced,
       u.name, u.password, u.role, u.environment <> %(environment)s AS other_environment
FROM users u
WHERE (u.environment = %(environment)s AND u.role = 'admin')
   OR u.email IN (%(admin_email)s, %(admin_renamed_from)s);

-- A repeat writes nothing; an email that the other environment holds is an error, not a silent skip.
-- name: create
INSERT INTO users (name, email, password, role, environment)
SELECT %(name)s, %(key)s, %(password)s, %(role)s, %(environment)s
WHERE NOT EXISTS (SELECT FROM users WHERE email = %(key)s AND environment = %(environment)s);

-- name: update
UPDATE users
SET email = %(key)s,
    name = %(name)s,
    role = %(role)s,
    password = COALESCE(%(password)s, password)
WHERE id = %(row_id)s AND environment = %(environment)s;
