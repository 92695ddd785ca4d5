-- How much test data there is. Under row-level security the transaction is of development while this counts, and of
-- what it was before when it returns; an error ends the transaction. (A SET of the function itself needs a superuser.)

CREATE OR REPLACE FUNCTION fivrec.development_rows() RETURNS TABLE (name text, rows bigint)
LANGUAGE plpgsql AS $$
DECLARE
  before text := COALESCE(current_setting('fiv.environment', true), '');
BEGIN
  PERFORM set_config('fiv.environment', 'development', true);
  RETURN QUERY
    SELECT 'messages', count(*) FROM messages WHERE environment = 'development'
    UNION ALL SELECT 'conversations', count(*) FROM conversations WHERE environment = 'development'
    UNION ALL SELECT 'clients', count(*) FROM clients WHERE environment = 'development'
    UNION ALL SELECT 'queues', count(*) FROM queues WHERE environment = 'development'
    UNION ALL SELECT 'users', count(*) FROM users WHERE environment = 'development';
  PERFORM set_config('fiv.environment', before, true);
END
$$;
