-- The catalogue of the tables that fivrec knows, as sql/catalogue.txt lists it.

-- name: columns
SELECT c.table_schema, c.table_name, c.column_name
FROM information_schema.columns c
WHERE c.table_schema IN (%(schema)s, 'fivrec');

-- Constraints and indexes of the app's tables that are as they must be. One that rows break can't be validated, nor can a
-- check if row-level security hides the rows that may break it; a foreign key whose triggers are disabled checks nothing.
-- name: fit
SELECT fivrec.app_schema() AS table_schema, w.tbl AS table_name, w.name
FROM fivrec.wanted() w
WHERE NOT EXISTS (
  SELECT FROM fivrec.unfit() u
  WHERE u.name = w.name AND NOT CASE WHEN u.state = 'unvalidated' THEN
    w.kind = 'check' AND row_security_active(u.tbl) OR fivrec.is_broken(w.name) ELSE false END)
AND NOT EXISTS (
  SELECT FROM pg_constraint k JOIN pg_trigger g ON g.tgconstraint = k.oid
  WHERE k.conrelid = fivrec.app_table(w.tbl) AND k.conname = w.name AND g.tgenabled IN ('D', 'R'));

-- A dump of tables alone (pg_dump -t) leaves out the functions. An index counts by what it is, under whatever name: a
-- table that somebody made again (LIKE ... INCLUDING ALL) has it under another one, if the old table keeps the name.
-- name: own
SELECT schemaname AS table_schema, tablename AS table_name, w.name
FROM pg_indexes
JOIN (VALUES
  ('audit_log', 'audit_log_run_id_idx', 'btree (run_id)'),
  ('logins', 'logins_account_idx', 'btree (account, at)'),
  ('logins', 'logins_address_idx', 'btree (address, at)'),
  ('usage_outbox', 'usage_outbox_pending_idx', 'btree (next_attempt_at) WHERE (sent_at IS NULL)')
) AS w (tbl, name, made) ON w.tbl = tablename AND w.made = split_part(indexdef, ' USING ', 2)
WHERE schemaname = 'fivrec' AND indexdef LIKE 'CREATE INDEX %%'
UNION ALL
SELECT 'fivrec', proname, 'function' FROM pg_proc WHERE pronamespace = to_regnamespace('fivrec');

-- Rules whose name fivrec did not choose: the app may have made them, each in its own way.
-- name: rules
SELECT n.nspname AS table_schema, t.relname AS table_name, rule.name
FROM pg_attribute a
JOIN pg_class t ON t.oid = a.attrelid
JOIN pg_namespace n ON n.oid = t.relnamespace
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
CROSS JOIN LATERAL (
  SELECT format('unique (%%s)', a.attname) AS name
  WHERE (t.relname, a.attname) IN (('users', 'email'), ('settings', 'key')) AND EXISTS (
    SELECT FROM pg_index i
    WHERE i.indrelid = t.oid AND i.indisunique AND i.indisvalid AND i.indnkeyatts = 1 AND i.indpred IS NULL
      AND i.indkey[0] = a.attnum)
  UNION ALL
  -- If a row has no environment, the constraint can't be valid, but it still refuses new ones.
  SELECT 'environment not null'
  WHERE a.attname = 'environment' AND (a.attnotnull OR EXISTS (
    SELECT FROM pg_constraint c
    WHERE c.conrelid = t.oid AND c.conname = t.relname || '_environment_check' AND NOT c.convalidated))
  UNION ALL
  -- A literal other than production is wrong; an expression is the app's way to say which environment it is in.
  SELECT 'environment default'
  WHERE a.attname = 'environment' AND (
    pg_get_expr(d.adbin, d.adrelid) LIKE '''production''::%%' OR pg_get_expr(d.adbin, d.adrelid) NOT LIKE '''%%')
) AS rule
WHERE n.nspname = %(schema)s AND t.relkind IN ('r', 'p')
  AND t.relname IN ('users', 'clients', 'queues', 'conversations', 'messages', 'settings');
