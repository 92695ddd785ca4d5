-- The newest checks of an instance, and whether Connect was ever heard.
CREATE INDEX IF NOT EXISTS status_check_logs_recent_idx
  ON status_check_logs (instance_config_id, created_at DESC);
CREATE INDEX IF NOT EXISTS status_check_logs_heard_idx
  ON status_check_logs (instance_config_id) WHERE success;

-- The columns of foreign keys: without these a removed parent scans its children.
CREATE INDEX IF NOT EXISTS conversations_client_idx ON conversations (client_id, environment);
CREATE INDEX IF NOT EXISTS conversations_queue_idx ON conversations (queue_id, environment);
CREATE INDEX IF NOT EXISTS conversations_user_idx ON conversations (user_id, environment);
CREATE INDEX IF NOT EXISTS messages_conversation_idx ON messages (conversation_id, environment);
CREATE INDEX IF NOT EXISTS messages_user_idx ON messages (user_id, environment);

-- The usage report's counts and last activity.
CREATE INDEX IF NOT EXISTS conversations_status_idx ON conversations (environment, status);
CREATE INDEX IF NOT EXISTS conversations_activity_idx ON conversations (environment, last_activity_at DESC);

-- Test data, for its removal in batches; nearly empty in production.
CREATE INDEX IF NOT EXISTS conversations_development_idx
  ON conversations (id) WHERE environment = 'development';
CREATE INDEX IF NOT EXISTS messages_development_idx
  ON messages (id) WHERE environment = 'development';
