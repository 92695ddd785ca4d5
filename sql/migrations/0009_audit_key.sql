-- The audit log is signed by a key of the database's own, which stands here sealed by the encryption keys: who can
-- write the database and has no such key can't add an entry that verifies.
CREATE TABLE IF NOT EXISTS fivrec.audit_key (
  id integer PRIMARY KEY DEFAULT 1 CHECK (id = 1),
  instance text NOT NULL,
  sealed text NOT NULL
);

-- NULL in entries from before the key.
ALTER TABLE fivrec.audit_log ADD COLUMN IF NOT EXISTS signature text;
