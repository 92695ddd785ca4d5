-- The app's own tables, column by column as its documentation has them (Esquema do Banco de Dados).
-- A table that the app already made keeps its rows and gains the columns that it lacks.

CREATE TABLE IF NOT EXISTS :"schema".users (
  id varchar PRIMARY KEY DEFAULT gen_random_uuid(),
  name text NOT NULL,
  email text NOT NULL UNIQUE,
  password text NOT NULL,
  role text NOT NULL DEFAULT 'agent',
  is_online boolean DEFAULT false,
  custom_theme json,
  environment text NOT NULL DEFAULT 'production',
  created_at timestamp DEFAULT now()
);

ALTER TABLE :"schema".users
  ADD COLUMN IF NOT EXISTS name text NOT NULL,
  ADD COLUMN IF NOT EXISTS email text NOT NULL,
  ADD COLUMN IF NOT EXISTS password text NOT NULL,
  ADD COLUMN IF NOT EXISTS role text NOT NULL DEFAULT 'agent',
  ADD COLUMN IF NOT EXISTS is_online boolean DEFAULT false,
  ADD COLUMN IF NOT EXISTS custom_theme json,
  ADD COLUMN IF NOT EXISTS environment text NOT NULL DEFAULT 'production';

CREATE TABLE IF NOT EXISTS :"schema".instance_config (
  id varchar PRIMARY KEY DEFAULT gen_random_uuid(),
  instance_id text NOT NULL,
  instance_key text NOT NULL,
  connect_api_url text NOT NULL,
  status text DEFAULT 'active',
  billing_status text DEFAULT 'paid',
  enabled_features json DEFAULT '{"chat": true, "chatbot": true, "ai_agent": false}',
  last_status_check timestamp,
  check_interval_minutes integer DEFAULT 60,
  is_locked boolean DEFAULT false,
  created_at timestamp DEFAULT now()
);

ALTER TABLE :"schema".instance_config
  ADD COLUMN IF NOT EXISTS instance_id text NOT NULL,
  ADD COLUMN IF NOT EXISTS instance_key text NOT NULL,
  ADD COLUMN IF NOT EXISTS connect_api_url text NOT NULL,
  ADD COLUMN IF NOT EXISTS status text DEFAULT 'active',
  ADD COLUMN IF NOT EXISTS billing_status text DEFAULT 'paid',
  ADD COLUMN IF NOT EXISTS enabled_features json
    DEFAULT '{"chat": true, "chatbot": true, "ai_agent": false}',
  ADD COLUMN IF NOT EXISTS last_status_check timestamp,
  ADD COLUMN IF NOT EXISTS check_interval_minutes integer DEFAULT 60,
  ADD COLUMN IF NOT EXISTS is_locked boolean DEFAULT false;

CREATE TABLE IF NOT EXISTS :"schema".plans (
  id varchar PRIMARY KEY DEFAULT gen_random_uuid(),
  name text NOT NULL,
  description text,
  price integer NOT NULL,
  currency text NOT NULL DEFAULT 'BRL',
  billing_interval text NOT NULL,
  features json NOT NULL,
  max_users integer DEFAULT 1,
  max_conversations integer DEFAULT 100,
  storage_limit integer DEFAULT 1000,
  is_active boolean DEFAULT true,
  stripe_product_id text,
  stripe_price_id text,
  created_at timestamp DEFAULT now()
);

ALTER TABLE :"schema".plans
  ADD COLUMN IF NOT EXISTS name text NOT NULL,
  ADD COLUMN IF NOT EXISTS description text,
  ADD COLUMN IF NOT EXISTS price integer NOT NULL,
  ADD COLUMN IF NOT EXISTS currency text NOT NULL DEFAULT 'BRL',
  ADD COLUMN IF NOT EXISTS billing_interval text NOT NULL,
  ADD COLUMN IF NOT EXISTS features json NOT NULL,
  ADD COLUMN IF NOT EXISTS max_users integer DEFAULT 1,
  ADD COLUMN IF NOT EXISTS max_conversations integer DEFAULT 100,
  ADD COLUMN IF NOT EXISTS storage_limit integer DEFAULT 1000,
  ADD COLUMN IF NOT EXISTS is_active boolean DEFAULT true,
  ADD COLUMN IF NOT EXISTS stripe_product_id text,
  ADD COLUMN IF NOT EXISTS stripe_price_id text;

CREATE TABLE IF NOT EXISTS :"schema".status_check_logs (
  id varchar PRIMARY KEY DEFAULT gen_random_uuid(),
  instance_config_id varchar NOT NULL,
  check_type text NOT NULL,
  success boolean NOT NULL,
  status_received text,
  error_message text,
  response_time integer,
  created_at timestamp DEFAULT now()
);

ALTER TABLE :"schema".status_check_logs
  ADD COLUMN IF NOT EXISTS instance_config_id varchar NOT NULL,
  ADD COLUMN IF NOT EXISTS check_type text NOT NULL,
  ADD COLUMN IF NOT EXISTS success boolean NOT NULL,
  ADD COLUMN IF NOT EXISTS status_received text,
  ADD COLUMN IF NOT EXISTS error_message text,
  ADD COLUMN IF NOT EXISTS response_time integer;

-- UNIQUE (email), whatever name the app gave it.
DO $$
BEGIN
  IF NOT EXISTS (
    SELECT FROM pg_index i
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = fivrec.app_table('users') AND i.indisunique AND i.indisvalid
      AND i.indnkeyatts = 1 AND i.indpred IS NULL AND a.attname = 'email'
  ) THEN
    EXECUTE format('ALTER TABLE %s ADD UNIQUE (email)', fivrec.app_table('users'));
  END IF;
END
$$;
