-- The tables that the app's documentation names without a definition, in the style of its others:
-- all but names and keys nullable or with defaults.

CREATE TABLE IF NOT EXISTS :"schema".queues (
  id varchar PRIMARY KEY DEFAULT gen_random_uuid(),
  name text NOT NULL,
  description text,
  is_active boolean DEFAULT true,
  environment text NOT NULL DEFAULT 'production',
  created_at timestamp DEFAULT now()
);

ALTER TABLE :"schema".queues
  ADD COLUMN IF NOT EXISTS name text NOT NULL,
  ADD COLUMN IF NOT EXISTS description text,
  ADD COLUMN IF NOT EXISTS is_active boolean DEFAULT true,
  ADD COLUMN IF NOT EXISTS environment text NOT NULL DEFAULT 'production';

CREATE TABLE IF NOT EXISTS :"schema".clients (
  id varchar PRIMARY KEY DEFAULT gen_random_uuid(),
  name text NOT NULL,
  email text,
  phone text,
  notes text,
  environment text NOT NULL DEFAULT 'production',
  created_at timestamp DEFAULT now()
);

ALTER TABLE :"schema".clients
  ADD COLUMN IF NOT EXISTS name text NOT NULL,
  ADD COLUMN IF NOT EXISTS email text,
  ADD COLUMN IF NOT EXISTS phone text,
  ADD COLUMN IF NOT EXISTS notes text,
  ADD COLUMN IF NOT EXISTS environment text NOT NULL DEFAULT 'production';

CREATE TABLE IF NOT EXISTS :"schema".conversations (
  id varchar PRIMARY KEY DEFAULT gen_random_uuid(),
  client_id varchar,
  queue_id varchar,
  user_id varchar,
  subject text,
  status text NOT NULL DEFAULT 'active',
  environment text NOT NULL DEFAULT 'production',
  last_activity_at timestamp DEFAULT now(),
  closed_at timestamp,
  created_at timestamp DEFAULT now()
);

ALTER TABLE :"schema".conversations
  ADD COLUMN IF NOT EXISTS client_id varchar,
  ADD COLUMN IF NOT EXISTS queue_id varchar,
  ADD COLUMN IF NOT EXISTS user_id varchar,
  ADD COLUMN IF NOT EXISTS subject text,
  ADD COLUMN IF NOT EXISTS status text NOT NULL DEFAULT 'active',
  ADD COLUMN IF NOT EXISTS environment text NOT NULL DEFAULT 'production',
  ADD COLUMN IF NOT EXISTS closed_at timestamp;

CREATE TABLE IF NOT EXISTS :"schema".messages (
  id varchar PRIMARY KEY DEFAULT gen_random_uuid(),
  conversation_id varchar,
  user_id varchar,
  sender text NOT NULL DEFAULT 'client',
  content text,
  environment text NOT NULL DEFAULT 'production',
  created_at timestamp DEFAULT now()
);

ALTER TABLE :"schema".messages
  ADD COLUMN IF NOT EXISTS conversation_id varchar,
  ADD COLUMN IF NOT EXISTS user_id varchar,
  ADD COLUMN IF NOT EXISTS sender text NOT NULL DEFAULT 'client',
  ADD COLUMN IF NOT EXISTS content text,
  ADD COLUMN IF NOT EXISTS environment text NOT NULL DEFAULT 'production';

CREATE TABLE IF NOT EXISTS :"schema".settings (
  key text PRIMARY KEY,
  value json,
  created_at timestamp DEFAULT now(),
  updated_at timestamp DEFAULT now()
);

ALTER TABLE :"schema".settings
  ADD COLUMN IF NOT EXISTS key text NOT NULL,
  ADD COLUMN IF NOT EXISTS value json;

-- When a row was made, or was last used, of 0002's tables too: of rows that were there before nobody knows, so a column
-- that is lacking comes without a default and gets it for rows to come. One that the app made stays as it is.
DO $$
DECLARE
  lacking record;
BEGIN
  FOR lacking IN
    SELECT tbl, col
    FROM (VALUES
      ('users', 'created_at'),
      ('instance_config', 'created_at'),
      ('plans', 'created_at'),
      ('status_check_logs', 'created_at'),
      ('queues', 'created_at'),
      ('clients', 'created_at'),
      ('conversations', 'last_activity_at'),
      ('conversations', 'created_at'),
      ('messages', 'created_at'),
      ('settings', 'created_at'),
      ('settings', 'updated_at')
    ) AS times (tbl, col)
    WHERE NOT EXISTS (
      SELECT FROM pg_attribute WHERE attrelid = fivrec.app_table(tbl) AND attname = col AND NOT attisdropped)
  LOOP
    EXECUTE format('ALTER TABLE %s ADD COLUMN %I timestamp', fivrec.app_table(lacking.tbl), lacking.col);
    EXECUTE format(
      'ALTER TABLE %s ALTER COLUMN %I SET DEFAULT now()', fivrec.app_table(lacking.tbl), lacking.col);
  END LOOP;
END
$$;

-- One row a key, also where the app made the table with a key of its own.
DO $$
BEGIN
  IF NOT EXISTS (
    SELECT FROM pg_index i
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = fivrec.app_table('settings') AND i.indisunique AND i.indisvalid
      AND i.indnkeyatts = 1 AND i.indpred IS NULL AND a.attname = 'key'
  ) THEN
    EXECUTE format('ALTER TABLE %s ADD UNIQUE (key)', fivrec.app_table('settings'));
  END IF;
END
$$;

-- JSON in a column of type text reads back as another value, and differs from what is declared for ever.
DO $$
DECLARE
  unfit record;
BEGIN
  SELECT attrelid::regclass AS tbl, (SELECT relname FROM pg_class WHERE oid = attrelid) AS named, attname AS col,
         format_type(atttypid, atttypmod) AS kind INTO unfit
  FROM pg_attribute
  WHERE (attrelid, attname) IN (
      (fivrec.app_table('plans'), 'features'), (fivrec.app_table('instance_config'), 'enabled_features'),
      (fivrec.app_table('settings'), 'value'))
    AND atttypid NOT IN ('json'::regtype, 'jsonb'::regtype)
  ORDER BY 1, 2 LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'the column %.% is of type %, not json', unfit.named, unfit.col, unfit.kind
      USING ERRCODE = 'FV002', HINT = format(
        'where the app can do with it: ALTER TABLE %s ALTER COLUMN %I TYPE json USING to_json(%I)',
        unfit.tbl, unfit.col, unfit.col);
  END IF;
END
$$;

-- Rows are inserted without an id: a table whose app makes the ids itself gets the documented default.
DO $$
DECLARE
  tbl regclass;
BEGIN
  FOR tbl IN
    SELECT a.attrelid::regclass
    FROM pg_attribute a
    WHERE a.attrelid IN (
        fivrec.app_table('users'), fivrec.app_table('instance_config'), fivrec.app_table('plans'),
        fivrec.app_table('status_check_logs'), fivrec.app_table('queues'), fivrec.app_table('clients'),
        fivrec.app_table('conversations'), fivrec.app_table('messages'))
      AND a.attname = 'id' AND NOT a.atthasdef AND a.attidentity = ''
      AND a.atttypid IN ('varchar'::regtype, 'text'::regtype, 'uuid'::regtype)
  LOOP
    EXECUTE format('ALTER TABLE %s ALTER COLUMN id SET DEFAULT gen_random_uuid()', tbl);
  END LOOP;
END
$$;
