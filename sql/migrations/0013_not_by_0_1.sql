-- fivrec 0.1 records its refusal in the audit log, and does not sign it: the log would not verify any more. It names no
-- signature, so its entry fails. A fivrec that knows signatures says NULL if it has no key.
ALTER TABLE fivrec.audit_log
  ALTER COLUMN signature SET DEFAULT 'not by 0.1',
  DROP CONSTRAINT IF EXISTS audit_log_not_by_0_1,
  ADD CONSTRAINT audit_log_not_by_0_1 CHECK (signature <> 'not by 0.1');
