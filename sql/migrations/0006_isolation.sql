-- Row-level security for `isolation: enforced`: a session sees and writes rows of its fiv.environment only, and of
-- those only what its login may be: a member of <database>_production or <database>_development, or the tables' owner.
-- Where it set no environment there is nothing. FORCE: the owner is bound too. Superusers and BYPASSRLS never are.

-- The role of one environment: <database>_<environment>, with a digest where that is longer than a name may be.
CREATE OR REPLACE FUNCTION fivrec.environment_role(environment text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE
    WHEN octet_length(current_database()) + 1 + octet_length(environment) <= 63
      THEN current_database() || '_' || environment
    ELSE 'fivapp_' || md5(current_database()) || '_' || environment
  END
$$;

-- The shared tables as a list for GRANT.
CREATE OR REPLACE FUNCTION fivrec.shared_tables() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT string_agg(fivrec.app_table(name)::text, ', ')
  FROM unnest(ARRAY['users', 'clients', 'queues', 'conversations', 'messages']) AS name
$$;

-- Views that read a shared table with their owner's rights, and copies of one: row-level security does not bind these.
CREATE OR REPLACE FUNCTION fivrec.leaking_views() RETURNS SETOF regclass
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH RECURSIVE readers AS (
    SELECT v.oid, v.relkind, v.reloptions
    FROM pg_depend d
    JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    JOIN pg_class v ON v.oid = r.ev_class
    WHERE d.refclassid = 'pg_class'::regclass AND v.relkind IN ('v', 'm') AND d.refobjid IN (
      fivrec.app_table('users'), fivrec.app_table('clients'), fivrec.app_table('queues'), fivrec.app_table('conversations'), fivrec.app_table('messages'))
    UNION
    SELECT v.oid, v.relkind, v.reloptions
    FROM readers
    JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = readers.oid
    JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    JOIN pg_class v ON v.oid = r.ev_class
    WHERE v.relkind IN ('v', 'm') AND v.oid <> readers.oid
  )
  SELECT oid::regclass FROM readers
  WHERE relkind = 'm' OR NOT COALESCE(
    'security_invoker=true' = ANY (reloptions) OR 'security_invoker=on' = ANY (reloptions)
    OR 'security_invoker=1' = ANY (reloptions) OR 'security_invoker=yes' = ANY (reloptions), false)
  ORDER BY 1
$$;

-- What holds in truth. partial: some of it is missing, or was changed. unbound: it is there, but does not bind this
-- login, which is a superuser or has BYPASSRLS.
CREATE OR REPLACE FUNCTION fivrec.isolation() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH shared AS (
    SELECT oid, relowner, relrowsecurity AND relforcerowsecurity AS bound
    FROM pg_class
    WHERE oid IN (
      fivrec.app_table('users'), fivrec.app_table('clients'), fivrec.app_table('queues'), fivrec.app_table('conversations'), fivrec.app_table('messages'))
  ), policies AS (
    SELECT p.polname, p.polname IN (
        'fivrec_environment', 'fivrec_production', 'fivrec_development', 'fivrec_owner') AS ours,
      p.polpermissive AS permissive,
      p.polcmd = '*' AND p.polwithcheck IS NULL AND CASE p.polname
        WHEN 'fivrec_environment' THEN NOT p.polpermissive AND p.polroles = ARRAY[0::oid]
          AND pg_get_expr(p.polqual, p.polrelid) LIKE '%= current_setting(''fiv.environment''::text, true))'
        WHEN 'fivrec_owner' THEN p.polpermissive AND p.polroles = ARRAY[s.relowner]
        WHEN 'fivrec_production' THEN p.polpermissive
          AND p.polroles = ARRAY[to_regrole(quote_ident(fivrec.environment_role('production')))::oid]
          AND pg_get_expr(p.polqual, p.polrelid) LIKE '%= ''production''::text)'
        WHEN 'fivrec_development' THEN p.polpermissive
          AND p.polroles = ARRAY[to_regrole(quote_ident(fivrec.environment_role('development')))::oid]
          AND pg_get_expr(p.polqual, p.polrelid) LIKE '%= ''development''::text)'
      END AS right_one
    FROM pg_policy p JOIN shared s ON s.oid = p.polrelid
  )
  SELECT CASE
    WHEN NOT EXISTS (SELECT FROM policies WHERE ours) THEN 'constraints'
    WHEN (SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user) THEN 'unbound'
    WHEN (SELECT bool_and(bound) FROM shared)
      AND (SELECT count(*) FROM policies WHERE right_one) = 20
      AND NOT EXISTS (SELECT FROM policies WHERE permissive AND NOT ours)
      AND NOT EXISTS (SELECT FROM fivrec.leaking_views()) THEN 'enforced'
    ELSE 'partial'
  END
$$;

-- Groups without a login: the app's logins become members of the one whose rows they are to see.
CREATE OR REPLACE FUNCTION fivrec.make_environment_role(environment text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  name text := fivrec.environment_role(environment);
  unfit boolean;
BEGIN
  SELECT rolsuper OR rolbypassrls INTO unfit FROM pg_roles WHERE rolname = name;
  IF unfit THEN
    RAISE EXCEPTION 'the role % is a superuser or has BYPASSRLS', quote_ident(name)
      USING ERRCODE = 'FV001', HINT = format('ALTER ROLE %I NOSUPERUSER NOBYPASSRLS', name);
  ELSIF unfit IS NULL THEN
    BEGIN
      EXECUTE format('CREATE ROLE %I NOLOGIN', name);
      EXECUTE format('COMMENT ON ROLE %I IS %L', name, 'made by fivrec for isolation: enforced');
    EXCEPTION WHEN insufficient_privilege THEN
      RAISE EXCEPTION 'the role % is missing, and % may not make it', quote_ident(name), quote_ident(current_user)
        USING ERRCODE = 'FV001', HINT = format(
          'as an administrator: CREATE ROLE %I NOLOGIN; CREATE ROLE %I NOLOGIN; or ALTER ROLE %I CREATEROLE',
          fivrec.environment_role('production'), fivrec.environment_role('development'), current_user);
    END;
  END IF;
  BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', fivrec.app_schema(), name);
  EXCEPTION WHEN insufficient_privilege THEN
    NULL;  -- the schema is another's; as a rule everybody may use it
  END;
  EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %I', fivrec.shared_tables(), name);
  EXECUTE format('GRANT SELECT ON %s, %s TO %I', fivrec.app_table('plans'), fivrec.app_table('settings'), name);
END
$$;

-- A group that fivrec made and that nobody is a member of goes; one in use stays, with what it was granted.
CREATE OR REPLACE FUNCTION fivrec.drop_environment_role(environment text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  name text := fivrec.environment_role(environment);
BEGIN
  IF NOT EXISTS (
    SELECT FROM pg_roles r
    WHERE r.rolname = name
      AND shobj_description(r.oid, 'pg_authid') = 'made by fivrec for isolation: enforced'
      AND NOT EXISTS (
        SELECT FROM pg_auth_members m JOIN pg_roles u ON u.oid = m.member
        WHERE m.roleid = r.oid AND u.rolname <> current_user)
  ) THEN
    RETURN;
  END IF;
  EXECUTE format('REVOKE ALL ON %s, %s, %s FROM %I',
    fivrec.shared_tables(), fivrec.app_table('plans'), fivrec.app_table('settings'), name);
  EXECUTE format('REVOKE ALL ON SCHEMA %I FROM %I', fivrec.app_schema(), name);
  EXECUTE format('DROP ROLE %I', name);
EXCEPTION WHEN insufficient_privilege OR dependent_objects_still_exist THEN
  NULL;  -- it has a use that fivrec does not know of
END
$$;

CREATE OR REPLACE FUNCTION fivrec.set_isolation(isolation text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  shared regclass;
  found text;
  before text;
  owner name;
BEGIN
  IF isolation NOT IN ('constraints', 'enforced') THEN
    RAISE EXCEPTION 'isolation is constraints or enforced' USING ERRCODE = '22023';
  END IF;
  IF isolation = 'enforced' THEN
    IF (SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user) THEN
      RAISE EXCEPTION 'isolation: enforced can''t bind this login: % is a superuser or has BYPASSRLS',
        quote_ident(current_user)
        USING ERRCODE = 'FV001', HINT = 'connect as a login that is neither and owns the tables: CREATE ROLE fivrec '
          'LOGIN PASSWORD ''...'' NOSUPERUSER NOBYPASSRLS CREATEROLE; ALTER DATABASE ... OWNER TO fivrec';
    END IF;
    SELECT string_agg(format('%s on %s', quote_ident(polname), polrelid::regclass), ', ' ORDER BY polname)
      INTO found FROM pg_policy
      WHERE polpermissive AND polname NOT IN ('fivrec_production', 'fivrec_development', 'fivrec_owner')
        AND polrelid IN (fivrec.app_table('users'), fivrec.app_table('clients'), fivrec.app_table('queues'),
                         fivrec.app_table('conversations'), fivrec.app_table('messages'));
    IF found IS NOT NULL THEN
      RAISE EXCEPTION 'policies that are not fivrec''s let rows through: %', found
        USING ERRCODE = 'FV001', HINT = 'drop them, or make them AS RESTRICTIVE';
    END IF;
    SELECT string_agg(CASE WHEN n.nspname = fivrec.app_schema() THEN quote_ident(c.relname) ELSE v::text END, ', ')
      INTO found
      FROM fivrec.leaking_views() v JOIN pg_class c ON c.oid = v JOIN pg_namespace n ON n.oid = c.relnamespace;
    IF found IS NOT NULL THEN
      RAISE EXCEPTION 'these show rows of both environments to whoever may read them: %', found
        USING ERRCODE = 'FV001', HINT = 'ALTER VIEW ... SET (security_invoker = true); drop materialized views';
    END IF;
    IF fivrec.isolation() = 'enforced' THEN
      RETURN;
    END IF;
    PERFORM fivrec.make_environment_role('production'), fivrec.make_environment_role('development');
  END IF;
  FOREACH shared IN ARRAY ARRAY[
    fivrec.app_table('users'), fivrec.app_table('clients'), fivrec.app_table('queues'),
    fivrec.app_table('conversations'), fivrec.app_table('messages')] LOOP
    -- Security that somebody else set up on a table is not ours to take away.
    CONTINUE WHEN isolation = 'constraints' AND NOT EXISTS (
      SELECT FROM pg_policy WHERE polrelid = shared AND polname LIKE 'fivrec\_%');
    -- How the table was before is kept as the policy's comment, so that leaving gives it back.
    SELECT COALESCE(
        obj_description(p.oid, 'pg_policy'),
        CASE WHEN NOT c.relrowsecurity THEN 'off' WHEN c.relforcerowsecurity THEN 'forced' ELSE 'on' END)
      INTO before
      FROM pg_class c LEFT JOIN pg_policy p ON p.polrelid = c.oid AND p.polname = 'fivrec_environment'
      WHERE c.oid = shared;
    EXECUTE format('DROP POLICY IF EXISTS fivrec_environment ON %s', shared);
    EXECUTE format('DROP POLICY IF EXISTS fivrec_owner ON %s', shared);
    EXECUTE format('DROP POLICY IF EXISTS fivrec_production ON %s', shared);
    EXECUTE format('DROP POLICY IF EXISTS fivrec_development ON %s', shared);
    IF isolation = 'enforced' THEN
      SELECT pg_get_userbyid(relowner) INTO owner FROM pg_class WHERE oid = shared;
      EXECUTE format(
        'CREATE POLICY fivrec_environment ON %s AS RESTRICTIVE '
        'USING (environment = current_setting(''fiv.environment'', true))', shared);
      EXECUTE format('COMMENT ON POLICY fivrec_environment ON %s IS %L', shared, before);
      EXECUTE format('CREATE POLICY fivrec_owner ON %s TO %I USING (true)', shared, owner);
      EXECUTE format(
        'CREATE POLICY fivrec_production ON %s TO %I USING (environment = ''production'')',
        shared, fivrec.environment_role('production'));
      EXECUTE format(
        'CREATE POLICY fivrec_development ON %s TO %I USING (environment = ''development'')',
        shared, fivrec.environment_role('development'));
      EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', shared);
    ELSE
      EXECUTE format(
        'ALTER TABLE %s %s ROW LEVEL SECURITY, %s ROW LEVEL SECURITY', shared,
        CASE WHEN before = 'off' OR NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = shared)
          THEN 'DISABLE' ELSE 'ENABLE' END,
        CASE before WHEN 'forced' THEN 'FORCE' ELSE 'NO FORCE' END);
    END IF;
  END LOOP;
  IF isolation = 'constraints' THEN
    PERFORM fivrec.drop_environment_role('production'), fivrec.drop_environment_role('development');
  END IF;
END
$$;
