-- Rows of an adopted database that break the rules of environments. These look at both environments by intent.

-- Ids of the app's own may be of any type, and of several.
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
