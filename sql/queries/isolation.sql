-- Rows of an adopted database that break the rules of environments. These queries look at both environments on purpose.

-- The app's ids may be of any type, which may differ between tables.
-- name: breaking_rows
SELECT * FROM (
  SELECT 'users' AS table_name, id::text, 'environment' AS reason FROM {app}.users
    WHERE environment IS NULL OR environment NOT IN ('production', 'development')
  UNION ALL
  SELECT 'clients', id::text, 'environment' FROM {app}.clients
    WHERE environment IS NULL OR environment NOT IN ('production', 'development')
  UNION ALL
  SELECT 'queues', id::text, 'environment' FROM {app}.queues
    WHERE environment IS NULL OR environment NOT IN ('production', 'development')
  UNION ALL
  SELECT 'conversations', id::text, 'environment' FROM {app}.conversations
    WHERE environment IS NULL OR environment NOT IN ('production', 'development')
  UNION ALL
  SELECT 'messages', id::text, 'environment' FROM {app}.messages
    WHERE environment IS NULL OR environment NOT IN ('production', 'development')
  UNION ALL
  SELECT 'conversations', c.id::text, 'client_id' FROM {app}.conversations c
    WHERE c.client_id IS NOT NULL AND NOT EXISTS (
      SELECT FROM {app}.clients p WHERE p.id = c.client_id AND p.environment = c.environment)
  UNION ALL
  SELECT 'conversations', c.id::text, 'queue_id' FROM {app}.conversations c
    WHERE c.queue_id IS NOT NULL AND NOT EXISTS (
      SELECT FROM {app}.queues p WHERE p.id = c.queue_id AND p.environment = c.environment)
  UNION ALL
  SELECT 'conversations', c.id::text, 'user_id' FROM {app}.conversations c
    WHERE c.user_id IS NOT NULL AND NOT EXISTS (
      SELECT FROM {app}.users p WHERE p.id = c.user_id AND p.environment = c.environment)
  UNION ALL
  SELECT 'messages', m.id::text, 'conversation_id' FROM {app}.messages m
    WHERE m.conversation_id IS NOT NULL AND NOT EXISTS (
      SELECT FROM {app}.conversations p WHERE p.id = m.conversation_id AND p.environment = m.environment)
  UNION ALL
  SELECT 'messages', m.id::text, 'user_id' FROM {app}.messages m
    WHERE m.user_id IS NOT NULL AND NOT EXISTS (
      SELECT FROM {app}.users p WHERE p.id = m.user_id AND p.environment = m.environment)
) AS breaking
ORDER BY table_name, id, reason
LIMIT %(limit)s;

-- name: unvalidated
SELECT t.relname::text AS table_name, conname AS name
FROM pg_constraint JOIN pg_class t ON t.oid = conrelid
WHERE NOT convalidated AND (conname LIKE '%%\_environment\_check' OR conname LIKE '%%\_environment\_fkey')
ORDER BY 1, 2;

-- Why fivrec.set_isolation would refuse an apply, in that function's words, for a dry run to report. The function
-- itself may not exist yet, and it writes.
-- name: refusals
SELECT format('isolation: enforced can''t bind this login: %%s is a superuser or has BYPASSRLS', quote_ident(r.rolname)) AS said
FROM pg_roles r WHERE r.rolname = current_user AND (r.rolsuper OR r.rolbypassrls)
UNION ALL
SELECT format('policies that are not fivrec''s let rows through: %%s',
              string_agg(format('%%s on %%s', quote_ident(p.polname), c.relname), ', ' ORDER BY p.polname))
FROM pg_policy p
JOIN pg_class c ON c.oid = p.polrelid
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = {schema}
WHERE p.polpermissive AND p.polname NOT IN ('fivrec_production', 'fivrec_development', 'fivrec_owner')
  AND c.relname IN ('users', 'clients', 'queues', 'conversations', 'messages')
HAVING count(*) > 0
UNION ALL
SELECT format('the roles %%s are missing, and %%s may not make them', string_agg(quote_ident(wanted.name), ' and '), quote_ident(r.rolname))
FROM pg_roles r
CROSS JOIN (VALUES ('production'), ('development')) AS e (environment)
CROSS JOIN LATERAL (
  SELECT CASE WHEN octet_length(current_database()) + 1 + octet_length(e.environment) <= 63
              THEN current_database() ELSE 'fivapp_' || md5(current_database()) END || '_' || e.environment) AS wanted (name)
WHERE r.rolname = current_user AND NOT (r.rolsuper OR r.rolcreaterole OR r.rolbypassrls)
  AND pg_has_role(r.oid, (SELECT d.datdba FROM pg_database d WHERE d.datname = current_database()), 'MEMBER')  -- who applies
  AND NOT EXISTS (SELECT FROM pg_roles o WHERE o.rolname = wanted.name)
GROUP BY r.rolname;

-- The same for views, once the schema exists.
-- name: refused_views
SELECT format('these show rows of both environments to whoever may read them: %%s', string_agg(
         CASE WHEN n.nspname = {schema} THEN quote_ident(c.relname) ELSE v::text END, ', ')) AS said
FROM fivrec.leaking_views() v JOIN pg_class c ON c.oid = v JOIN pg_namespace n ON n.oid = c.relnamespace
HAVING count(*) > 0;
