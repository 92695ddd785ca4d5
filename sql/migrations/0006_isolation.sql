-- Row-level security for `isolation: enforced`: a session sees and writes rows of its fiv.environment only, and
-- none at all where it set none. FORCE: the tables' owner is bound too. Superusers and BYPASSRLS never are.

CREATE OR REPLACE FUNCTION fivrec.set_isolation(isolation text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
  shared text;
  ours boolean;
BEGIN
  IF isolation NOT IN ('constraints', 'enforced') THEN
    RAISE EXCEPTION 'isolation is constraints or enforced' USING ERRCODE = '22023';
  END IF;
  IF isolation = 'enforced' AND (
    SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user
  ) THEN
    RAISE EXCEPTION 'row-level security does not bind this login' USING ERRCODE = 'FV001';
  END IF;
  FOREACH shared IN ARRAY ARRAY['users', 'clients', 'queues', 'conversations', 'messages'] LOOP
    ours := EXISTS (
      SELECT FROM pg_policy WHERE polrelid = shared::regclass AND polname = 'fivrec_environment');
    -- Security that somebody else set up on a table is not ours to take away.
    CONTINUE WHEN isolation = 'constraints' AND NOT ours;
    EXECUTE format('DROP POLICY IF EXISTS fivrec_environment ON %I', shared);
    IF isolation = 'enforced' THEN
      EXECUTE format(
        'CREATE POLICY fivrec_environment ON %I '
        'USING (environment = current_setting(''fiv.environment'', true)) '
        'WITH CHECK (environment = current_setting(''fiv.environment'', true))', shared);
      EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', shared);
    ELSE
      EXECUTE format('ALTER TABLE %I DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY', shared);
    END IF;
  END LOOP;
END
$$;
