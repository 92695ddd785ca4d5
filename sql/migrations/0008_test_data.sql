-- How much test data there is. Under row-level security the transaction is of development while this counts, and of
-- what it was before when it returns; an error ends the transaction. (A SET of the function itself needs a superuser.)

CREATE OR REPLACE FUNCTION fivrec.development_rows() RETURNS TABLE (name text, rows bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  before text := COALESCE(current_setting('fiv.environment', true), '');
BEGIN
  PERFORM set_config('fiv.environment', 'development', true);
  FOR name IN SELECT unnest(ARRAY['messages', 'conversations', 'clients', 'queues', 'users']) LOOP
    EXECUTE format('SELECT count(*) FROM %s WHERE environment = ''development''', fivrec.app_table(name)) INTO rows;
    RETURN NEXT;
  END LOOP;
  PERFORM set_config('fiv.environment', before, true);
END
$$;
