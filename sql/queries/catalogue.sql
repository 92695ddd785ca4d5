-- The catalogue of the tables that fivrec knows, as sql/catalogue.txt lists it.

-- name: columns
SELECT c.table_schema, c.table_name, c.column_name
FROM information_schema.columns c
WHERE c.table_schema IN (current_schema(), 'fivrec');

-- name: constraints
SELECT n.nspname AS table_schema, t.relname AS table_name, c.conname AS name
FROM pg_constraint c
JOIN pg_class t ON t.oid = c.conrelid
JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE n.nspname = current_schema()
  AND (c.conname LIKE '%%\_environment\_check' OR c.conname LIKE '%%\_id\_environment\_key'
       OR c.conname LIKE '%%\_environment\_fkey');

-- name: indexes
SELECT schemaname AS table_schema, tablename AS table_name, indexname AS name
FROM pg_indexes
WHERE schemaname IN (current_schema(), 'fivrec') AND indexname LIKE '%%\_idx';
