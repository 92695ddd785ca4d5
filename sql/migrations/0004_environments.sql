-- Isolamento Completo: no row may belong to no environment, and none may point into the other one.

DO $$
DECLARE
  shared regclass;
BEGIN
  FOR shared IN
    SELECT fivrec.app_table(name) FROM unnest(ARRAY['users', 'clients', 'queues', 'conversations', 'messages']) AS name
  LOOP
    -- An expression is the app's way to say which environment it is in; another word is what nothing else says.
    IF NOT EXISTS (
      SELECT FROM pg_attrdef d
      JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
      WHERE d.adrelid = shared AND a.attname = 'environment' AND (
        pg_get_expr(d.adbin, d.adrelid) LIKE '''production''::%' OR pg_get_expr(d.adbin, d.adrelid) NOT LIKE '''%')
    ) THEN
      EXECUTE format('ALTER TABLE %s ALTER COLUMN environment SET DEFAULT ''production''', shared);
    END IF;
  END LOOP;
END
$$;

-- What the app's tables have beside columns, in the order in which it is made. `columns` as an index has them.
CREATE OR REPLACE FUNCTION fivrec.wanted()
RETURNS TABLE (place integer, kind text, tbl text, name text, columns text, parent text, predicate text)
LANGUAGE sql IMMUTABLE ROWS 30 SET search_path = pg_catalog, pg_temp AS $$
  SELECT row_number() OVER ()::integer, all_of_it.* FROM (
    SELECT 'unique', shared, shared || '_id_environment_key', 'id, environment', NULL, NULL
    FROM unnest(ARRAY['users', 'clients', 'queues', 'conversations', 'messages']) AS shared
    UNION ALL
    VALUES
      -- The newest checks of an instance, and whether Connect ever answered.
      ('index', 'status_check_logs', 'status_check_logs_recent_idx', 'instance_config_id, created_at DESC', NULL, NULL),
      ('index', 'status_check_logs', 'status_check_logs_heard_idx', 'instance_config_id', NULL, 'success'),
      -- The columns of foreign keys: without these a removed parent scans its children.
      ('index', 'conversations', 'conversations_client_idx', 'client_id, environment', NULL, NULL),
      ('index', 'conversations', 'conversations_queue_idx', 'queue_id, environment', NULL, NULL),
      ('index', 'conversations', 'conversations_user_idx', 'user_id, environment', NULL, NULL),
      ('index', 'messages', 'messages_conversation_idx', 'conversation_id, environment', NULL, NULL),
      ('index', 'messages', 'messages_user_idx', 'user_id, environment', NULL, NULL),
      -- The usage report's counts and last activity.
      ('index', 'conversations', 'conversations_status_idx', 'environment, status', NULL, NULL),
      ('index', 'conversations', 'conversations_activity_idx', 'environment, last_activity_at DESC', NULL, NULL),
      -- Test data, for its removal in batches; nearly empty in production.
      ('index', 'conversations', 'conversations_development_idx', 'id', NULL, 'environment = ''development'''),
      ('index', 'messages', 'messages_development_idx', 'id', NULL, 'environment = ''development''')
    UNION ALL
    -- IS NOT NULL: a CHECK lets NULL pass, and a column that the app made may allow it.
    SELECT 'check', shared, shared || '_environment_check', 'environment', NULL,
           'environment IS NOT NULL AND environment IN (''production'', ''development'')'
    FROM unnest(ARRAY['users', 'clients', 'queues', 'conversations', 'messages']) AS shared
    UNION ALL
    SELECT 'foreign key', child, child || '_' || reference || '_environment_fkey', reference || ', environment', parent, NULL
    FROM (VALUES
      ('conversations', 'client_id', 'clients'),
      ('conversations', 'queue_id', 'queues'),
      ('conversations', 'user_id', 'users'),
      ('messages', 'conversation_id', 'conversations'),
      ('messages', 'user_id', 'users')
    ) AS links (child, reference, parent)
  ) AS all_of_it
$$;

-- An expression without casts, parentheses and spaces: columns may be of several types, which PostgreSQL casts.
CREATE OR REPLACE FUNCTION fivrec.plain(expression text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT regexp_replace(
    regexp_replace(expression, '::("[^"]*"|[a-z0-9_. ])+([(][0-9]+[)])?([[]])?', '', 'g'), '[() ]', '', 'g')
$$;

-- Whether rows are there that break a constraint: it can't be validated then.
CREATE OR REPLACE FUNCTION fivrec.is_broken(constraint_name text) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  rule record;
  broken boolean;
BEGIN
  SELECT * INTO rule FROM fivrec.wanted() WHERE name = constraint_name;
  IF rule.kind = 'check' THEN
    EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE (%s) IS NOT TRUE)', fivrec.app_table(rule.tbl), rule.predicate)
      INTO broken;
  ELSE
    EXECUTE format(
      'SELECT EXISTS (SELECT FROM %s c WHERE c.%I IS NOT NULL AND c.environment IS NOT NULL AND NOT EXISTS ('
      'SELECT FROM %s p WHERE p.id = c.%2$I AND p.environment = c.environment))',
      fivrec.app_table(rule.tbl), split_part(rule.columns, ',', 1), fivrec.app_table(rule.parent)) INTO broken;
  END IF;
  RETURN broken;
END
$$;

-- What of it is not there, by its definition and not by its name: one that was dropped, redefined, left invalid, or that
-- another table took along when it was renamed. `remedy` makes it, after `before` if there is one; of an index, `remedy` goes
-- on after CREATE INDEX. To compile it would take seconds. Constraints come NOT VALID: validating them (state unvalidated) holds up nobody.
CREATE OR REPLACE FUNCTION fivrec.unfit()
RETURNS TABLE (place integer, kind text, name text, tbl regclass, state text, before text, remedy text, big boolean)
LANGUAGE sql STABLE ROWS 5
SET search_path = pg_catalog, pg_temp SET jit = off SET quote_all_identifiers = off AS $$
  WITH wanted AS (
    SELECT w.*, fivrec.app_table(w.tbl) AS rel, fivrec.app_table(w.parent) AS parent_rel FROM fivrec.wanted() w
  ), found_indexes AS (
    SELECT i.indrelid, i.indisunique AND i.indimmediate AS is_unique, fivrec.plain(pg_get_expr(i.indpred, i.indrelid)) AS predicate,
           (SELECT string_agg(pg_get_indexdef(i.indexrelid, k, false)
                              || CASE WHEN i.indoption[k - 1] & 1 = 1 THEN ' DESC' ELSE '' END, ', ' ORDER BY k)
            FROM generate_series(1, i.indnkeyatts) AS k) AS columns
    FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_am m ON m.oid = c.relam AND m.amname = 'btree'
    WHERE i.indrelid IN (SELECT rel FROM wanted) AND i.indisvalid AND i.indisready AND i.indislive
  ), found_constraints AS (
    SELECT c.conrelid, c.contype, c.confrelid, c.convalidated, fivrec.plain(pg_get_expr(c.conbin, c.conrelid)) AS predicate,
           (SELECT string_agg(a.attname, ', ' ORDER BY k)
            FROM unnest(c.conkey) WITH ORDINALITY AS key (attnum, k)
            JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = key.attnum) AS columns,
           (SELECT string_agg(a.attname, ', ' ORDER BY k)
            FROM unnest(c.confkey) WITH ORDINALITY AS key (attnum, k)
            JOIN pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = key.attnum) AS parent_columns
    FROM pg_constraint c
    WHERE c.conrelid IN (SELECT rel FROM wanted) AND c.confdeltype IN (' ', 'a', 'r')
      AND to_jsonb(c) ->> 'conenforced' IS DISTINCT FROM 'false'
  ), judged AS (
    SELECT w.*, CASE
        WHEN w.rel IS NULL THEN 'no table'
        WHEN w.kind IN ('unique', 'index') THEN CASE WHEN EXISTS (
          SELECT FROM found_indexes i
          WHERE i.indrelid = w.rel AND i.columns = w.columns AND (i.is_unique OR w.kind = 'index')
            AND i.predicate IS NOT DISTINCT FROM fivrec.plain(w.predicate)) THEN 'fit' ELSE 'missing' END
        ELSE COALESCE((
          SELECT CASE WHEN bool_or(c.convalidated) THEN 'fit' ELSE 'unvalidated' END
          FROM found_constraints c
          WHERE c.conrelid = w.rel AND CASE w.kind
            WHEN 'check' THEN c.contype = 'c' AND c.predicate = replace(replace(
              fivrec.plain(w.predicate), 'environmentIN', 'environment=ANYARRAY['), '''development''', '''development'']')
            ELSE c.contype = 'f' AND c.confrelid = w.parent_rel AND c.columns = w.columns
              AND c.parent_columns = 'id, environment' END
          HAVING count(*) > 0), 'missing') END AS state
    FROM wanted w
  )
  SELECT j.place, j.kind, j.name, j.rel, j.state,
         CASE WHEN j.state = 'missing' AND j.kind IN ('unique', 'index') THEN COALESCE(
           (SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', j.rel, j.name)
            FROM pg_constraint c WHERE c.conrelid = j.rel AND c.conname = j.name),
           (SELECT format('DROP INDEX %s', i.indexrelid::regclass)
            FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = j.rel AND c.relname = j.name))
         WHEN j.state = 'missing' THEN (
           SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', j.rel, j.name)
           FROM pg_constraint c WHERE c.conrelid = j.rel AND c.conname = j.name) END,
         CASE
           WHEN j.state = 'unvalidated' THEN format('ALTER TABLE %s VALIDATE CONSTRAINT %I', j.rel, j.name)
           WHEN j.kind IN ('unique', 'index') THEN concat_ws(' ',
             CASE WHEN NOT EXISTS (  -- a name that an index of another table has is taken: PostgreSQL chooses one
               SELECT FROM pg_class c JOIN pg_class t ON t.oid = j.rel
               WHERE c.relnamespace = t.relnamespace AND c.relname = j.name AND NOT EXISTS (
                 SELECT FROM pg_index i WHERE i.indexrelid = c.oid AND i.indrelid = j.rel)) THEN quote_ident(j.name) END,
             format('ON %s (%s)', j.rel, j.columns),
             -- CONCURRENTLY it is made outside of a transaction, and so under the session's own path.
             'WHERE ' || replace(j.predicate, ' = ', ' OPERATOR(pg_catalog.=) '))
           WHEN j.kind = 'check' THEN format(
             'ALTER TABLE %s ADD CONSTRAINT %I CHECK (%s) NOT VALID', j.rel, j.name, j.predicate)
           ELSE format('ALTER TABLE %s ADD CONSTRAINT %I FOREIGN KEY (%s) REFERENCES %s (id, environment) NOT VALID',
             j.rel, j.name, j.columns, j.parent_rel) END,
         GREATEST(pg_relation_size(j.rel), pg_relation_size(j.parent_rel)) > 4 * 1024 * 1024
  FROM judged j
  WHERE j.state <> 'fit'
  ORDER BY j.place
$$;

-- Makes what is not there. With fivrec.defer = on, what would hold up readers or writers of a big table is left for later
-- transactions of its own, and the setting then says so: skipped.
CREATE OR REPLACE FUNCTION fivrec.build(kinds text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  step record;
BEGIN
  FOR step IN SELECT * FROM fivrec.unfit() u WHERE u.kind = ANY (kinds) AND u.state = 'missing' LOOP
    IF COALESCE(current_setting('fivrec.defer', true), '') <> '' AND (CASE WHEN step.kind = 'foreign key'
      THEN EXISTS (  -- what it refers to is not unique yet
        SELECT FROM fivrec.unfit() u JOIN fivrec.wanted() w ON w.name = step.name
        WHERE u.kind = 'unique' AND u.tbl = fivrec.app_table(w.parent))
      ELSE step.big AND step.kind <> 'check' END) THEN
      PERFORM set_config('fivrec.defer', 'skipped', true);
      CONTINUE;
    END IF;
    IF step.before IS NOT NULL THEN
      EXECUTE step.before;
    END IF;
    EXECUTE CASE step.kind WHEN 'unique' THEN 'CREATE UNIQUE INDEX ' WHEN 'index' THEN 'CREATE INDEX ' ELSE '' END
      || step.remedy;
  END LOOP;
END
$$;

-- Rows that are there and break a constraint are kept and reported (statement breaking_rows in sql/queries/isolation.sql);
-- new ones are refused. What holds for every row, the column says too.
CREATE OR REPLACE FUNCTION fivrec.validate() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  step record;
  nullable regclass;
BEGIN
  FOR step IN SELECT * FROM fivrec.unfit() u WHERE u.state = 'unvalidated' LOOP
    IF step.big AND COALESCE(current_setting('fivrec.defer', true), '') <> '' THEN
      PERFORM set_config('fivrec.defer', 'skipped', true);
      CONTINUE;
    END IF;
    BEGIN
      EXECUTE step.remedy;
    EXCEPTION WHEN check_violation OR foreign_key_violation THEN
      RAISE WARNING 'rows of % break %: they are kept, new ones are refused', step.tbl, step.name;
    END;
  END LOOP;
  FOR nullable IN SELECT fivrec.nullable() LOOP
    EXECUTE format('ALTER TABLE %s ALTER COLUMN environment SET NOT NULL', nullable);
  END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION fivrec.nullable() RETURNS SETOF regclass
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT a.attrelid::regclass
  FROM fivrec.wanted() w
  JOIN pg_constraint c ON c.conrelid = fivrec.app_table(w.tbl) AND c.conname = w.name AND c.convalidated
  JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attname = 'environment' AND NOT a.attnotnull
  WHERE w.kind = 'check'
  ORDER BY 1
$$;

DO $$ BEGIN PERFORM fivrec.build(ARRAY['unique']); END $$;
DO $$ BEGIN PERFORM fivrec.build(ARRAY['check', 'foreign key']); END $$;
DO $$ BEGIN PERFORM fivrec.validate(); END $$;
