-- Who may use `fivrec serve`: accounts of the users table, login attempts, revoked tokens. The app's columns are read
-- as text: its ids may be uuid or bigint, its roles an enum.

-- name: account
SELECT id::text, name::text, email::text, password, role::text
FROM {app}.users
WHERE email::text = %(email)s::text AND environment::text = %(environment)s::text;

-- Also accounts whose address differs only in case, the exact one first: one of them is the declared administrator.
-- name: accounts_alike
SELECT id::text, name::text, email::text, password, role::text
FROM {app}.users
WHERE lower(email::text) = lower(%(email)s::text) AND environment::text = %(environment)s::text
ORDER BY email::text <> %(email)s::text, email::text, id::text;

-- What decides whether a token may be used now: the account as it is, the lock, and whether the token was revoked.
-- name: standing
SELECT u.id::text, u.name::text, u.email::text, u.password, u.role::text,
       c.is_locked, c.status,
       EXISTS (SELECT FROM fivrec.revoked_tokens WHERE jti = %(jti)s::text) AS revoked
FROM (SELECT 1) AS one
LEFT JOIN {app}.users u ON u.id::text = %(user_id)s::text AND u.environment::text = %(environment)s::text
LEFT JOIN LATERAL (
  SELECT is_locked, status::text FROM {app}.instance_config
  WHERE instance_id::text = %(instance)s::text ORDER BY created_at NULLS FIRST, id LIMIT 1
) c ON true;

-- The same if fivrec's schema does not exist yet: no token was revoked.
-- name: standing_before_schema
SELECT u.id::text, u.name::text, u.email::text, u.password, u.role::text, c.is_locked, c.status,
       false AS revoked
FROM (SELECT 1) AS one
LEFT JOIN {app}.users u ON u.id::text = %(user_id)s::text AND u.environment::text = %(environment)s::text
LEFT JOIN LATERAL (
  SELECT is_locked, status::text FROM {app}.instance_config
  WHERE instance_id::text = %(instance)s::text ORDER BY created_at NULLS FIRST, id LIMIT 1
) c ON true;

-- Attempts for one account are counted one at a time, and so are those from one address.
-- name: attempt_lock
SELECT pg_advisory_xact_lock(hashtextextended(%(account)s, 1)), pg_advisory_xact_lock(hashtextextended(%(address)s, 2));

-- Failures within the window. If an account has logged in from this address before, only its failures from here count,
-- so that nobody can lock its owner out from elsewhere.
-- name: attempts
SELECT
  (SELECT count(*) FROM fivrec.logins l
    WHERE l.account = %(account)s AND NOT l.success AND l.at > now() - %(window_s)s::double precision * interval '1 second'
      AND (l.address = %(address)s OR NOT k.known)
      AND l.at > COALESCE(k.last_success, '-infinity')) AS of_account,
  (SELECT count(*) FROM fivrec.logins l
    WHERE l.address = %(address)s AND NOT l.success AND l.at > now() - %(window_s)s::double precision * interval '1 second') AS of_address
FROM (
  SELECT count(*) > 0 AS known, max(at) AS last_success
  FROM fivrec.logins WHERE account = %(account)s AND address = %(address)s AND success
) k;

-- Logical replication copies the rows but not the sequence, which is then behind.
-- name: attempted
WITH own AS MATERIALIZED (
  SELECT pg_get_serial_sequence('fivrec.logins', 'id')::regclass AS sequence, (SELECT max(id) FROM fivrec.logins) AS top
), ahead AS MATERIALIZED (
  SELECT sequence, CASE WHEN top > COALESCE(pg_sequence_last_value(sequence), 0) THEN setval(sequence, top) END FROM own
)
INSERT INTO fivrec.logins (id, account, address) OVERRIDING SYSTEM VALUE
SELECT nextval(sequence), %(account)s, %(address)s FROM ahead
RETURNING id;

-- name: admitted
UPDATE fivrec.logins SET success = true WHERE id = %(id)s;

-- name: forget_attempts
DELETE FROM fivrec.logins WHERE at < now() - interval '30 days';

-- name: revoke
INSERT INTO fivrec.revoked_tokens (jti, expires_at) VALUES (%(jti)s, %(expires_at)s) ON CONFLICT (jti) DO NOTHING;

-- name: forget_revoked
DELETE FROM fivrec.revoked_tokens WHERE expires_at < now() - interval '1 hour';

-- Changes when anything that the page shows does: then the page reloads.
-- name: mark
SELECT COALESCE(c.status::text, '') || '|' || COALESCE(c.billing_status::text, '') || '|' || COALESCE(c.is_locked::text, '')
       || '|' || COALESCE(c.last_status_check::text, '') || '|' || COALESCE(c.enabled_features::text, '')
       || '|' || COALESCE((SELECT max(seq) FROM fivrec.audit_log)::text, '') AS mark
FROM {app}.instance_config c
WHERE c.instance_id::text = %(instance)s::text
ORDER BY c.created_at NULLS FIRST, c.id
LIMIT 1;
