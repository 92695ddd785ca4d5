-- A login per purpose, with no more rights than it needs: docs/logins.md says what each is for.
-- The names are examples: fivapp_abc is the database, fivrec_abc fivrec's login, app_abc the app's. Passwords: \password.

-- provision: as an administrator, in any database, before the first apply
CREATE ROLE fivrec_abc LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;
CREATE ROLE fivrec_provision LOGIN CREATEDB NOSUPERUSER NOCREATEROLE NOBYPASSRLS;
GRANT fivrec_abc TO fivrec_provision;
CREATE ROLE app_abc LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;
CREATE ROLE fivrec_read LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;

-- adopt: as an administrator, in a database that the app made; nothing of it if fivrec made the database
ALTER DATABASE fivapp_abc OWNER TO fivrec_abc;
ALTER TABLE IF EXISTS users OWNER TO fivrec_abc;
ALTER TABLE IF EXISTS instance_config OWNER TO fivrec_abc;
ALTER TABLE IF EXISTS plans OWNER TO fivrec_abc;
ALTER TABLE IF EXISTS status_check_logs OWNER TO fivrec_abc;
ALTER TABLE IF EXISTS queues OWNER TO fivrec_abc;
ALTER TABLE IF EXISTS clients OWNER TO fivrec_abc;
ALTER TABLE IF EXISTS conversations OWNER TO fivrec_abc;
ALTER TABLE IF EXISTS messages OWNER TO fivrec_abc;
ALTER TABLE IF EXISTS settings OWNER TO fivrec_abc;

-- fivrec: as fivrec_abc, which owns it, in the database, after the first apply
REVOKE CONNECT, TEMPORARY ON DATABASE fivapp_abc FROM PUBLIC;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;

-- app: as fivrec_abc, in the database, after the first apply
GRANT CONNECT ON DATABASE fivapp_abc TO app_abc;
GRANT USAGE ON SCHEMA public TO app_abc;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app_abc;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO app_abc;

-- read: as fivrec_abc, in the database, after the first apply
GRANT CONNECT ON DATABASE fivapp_abc TO fivrec_read;
GRANT USAGE ON SCHEMA public, fivrec TO fivrec_read;
GRANT SELECT ON ALL TABLES IN SCHEMA public, fivrec TO fivrec_read;
ALTER DEFAULT PRIVILEGES IN SCHEMA public, fivrec GRANT SELECT ON TABLES TO fivrec_read;
