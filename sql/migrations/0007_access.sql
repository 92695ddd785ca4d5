-- Who tried to log in, and which tokens no longer count: what `fivrec serve` needs to remember.

-- One row an attempt, made before the password is looked at, so that many at once are counted too.
-- account is a digest: what was typed there need not be an email.
CREATE TABLE IF NOT EXISTS fivrec.logins (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  account text NOT NULL,
  address text NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  success boolean NOT NULL DEFAULT false
);

CREATE INDEX IF NOT EXISTS logins_account_idx ON fivrec.logins (account, at);
CREATE INDEX IF NOT EXISTS logins_address_idx ON fivrec.logins (address, at);

-- Tokens that were given back before they expired; a row may go once its token has expired.
CREATE TABLE IF NOT EXISTS fivrec.revoked_tokens (
  jti text PRIMARY KEY,
  expires_at timestamptz NOT NULL
);
