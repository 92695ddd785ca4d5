-- Isolamento Completo: no row may belong to no environment, and none may point into the other one.
-- Constraints are added NOT VALID and then validated, so that a table with rows that break one is adopted as it
-- is: new rows must obey, old ones are reported (statement breaking_rows in sql/queries/isolation.sql), none is lost.

DO $$
DECLARE
  shared text;
BEGIN
  FOREACH shared IN ARRAY ARRAY['users', 'clients', 'queues', 'conversations', 'messages'] LOOP
    -- An expression is the app's way to say which environment it is in; another word is what nothing else says.
    IF NOT EXISTS (
      SELECT FROM pg_attrdef d
      JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
      WHERE d.adrelid = shared::regclass AND a.attname = 'environment' AND (
        pg_get_expr(d.adbin, d.adrelid) LIKE '''production''::%' OR pg_get_expr(d.adbin, d.adrelid) NOT LIKE '''%')
    ) THEN
      EXECUTE format('ALTER TABLE %I ALTER COLUMN environment SET DEFAULT ''production''', shared);
    END IF;
    IF NOT EXISTS (
      SELECT FROM pg_constraint
      WHERE conrelid = shared::regclass AND conname = shared || '_environment_check'
    ) THEN
      -- IS NOT NULL: a CHECK lets NULL pass, and a column that the app made may allow it.
      EXECUTE format(
        'ALTER TABLE %I ADD CONSTRAINT %I CHECK '
        '(environment IS NOT NULL AND environment IN (''production'', ''development'')) NOT VALID',
        shared, shared || '_environment_check');
    END IF;
    IF NOT EXISTS (
      SELECT FROM pg_constraint
      WHERE conrelid = shared::regclass AND conname = shared || '_id_environment_key'
    ) THEN
      EXECUTE format(
        'ALTER TABLE %I ADD CONSTRAINT %I UNIQUE (id, environment)',
        shared, shared || '_id_environment_key');
    END IF;
  END LOOP;
END
$$;

DO $$
DECLARE
  link record;
BEGIN
  FOR link IN
    SELECT child, reference, parent, child || '_' || reference || '_environment_fkey' AS name
    FROM (VALUES
      ('conversations', 'client_id', 'clients'),
      ('conversations', 'queue_id', 'queues'),
      ('conversations', 'user_id', 'users'),
      ('messages', 'conversation_id', 'conversations'),
      ('messages', 'user_id', 'users')
    ) AS links (child, reference, parent)
  LOOP
    IF NOT EXISTS (
      SELECT FROM pg_constraint WHERE conrelid = link.child::regclass AND conname = link.name
    ) THEN
      EXECUTE format(
        'ALTER TABLE %I ADD CONSTRAINT %I FOREIGN KEY (%I, environment) '
        'REFERENCES %I (id, environment) NOT VALID',
        link.child, link.name, link.reference, link.parent);
    END IF;
  END LOOP;
END
$$;

DO $$
DECLARE
  open record;
BEGIN
  FOR open IN
    SELECT conrelid::regclass AS tbl, conname AS name
    FROM pg_constraint
    WHERE NOT convalidated
      AND (conname LIKE '%\_environment\_check' OR conname LIKE '%\_environment\_fkey')
      AND conrelid IN (
        'users'::regclass, 'clients'::regclass, 'queues'::regclass,
        'conversations'::regclass, 'messages'::regclass)
    ORDER BY conname
  LOOP
    BEGIN
      EXECUTE format('ALTER TABLE %s VALIDATE CONSTRAINT %I', open.tbl, open.name);
    EXCEPTION WHEN check_violation OR foreign_key_violation THEN
      RAISE WARNING 'rows of % break %: they are kept, new ones are refused', open.tbl, open.name;
    END;
  END LOOP;
END
$$;

-- What the constraint holds for every row, the column says too. Where a row is of no environment it can't be.
DO $$
DECLARE
  nullable regclass;
BEGIN
  FOR nullable IN
    SELECT a.attrelid
    FROM pg_attribute a
    JOIN pg_class t ON t.oid = a.attrelid
    JOIN pg_constraint c ON c.conrelid = t.oid AND c.conname = t.relname || '_environment_check' AND c.convalidated
    WHERE a.attname = 'environment' AND NOT a.attnotnull AND a.attrelid IN (
      'users'::regclass, 'clients'::regclass, 'queues'::regclass,
      'conversations'::regclass, 'messages'::regclass)
    ORDER BY a.attrelid
  LOOP
    EXECUTE format('ALTER TABLE %s ALTER COLUMN environment SET NOT NULL', nullable);
  END LOOP;
END
$$;
