-- The removal of test data. Every statement names 'development': no parameter can make it another environment.

-- What makes it doubtful that nothing else goes: constraints of isolation that old rows break, and foreign keys without
-- the environment, of whatever table, that would carry a removal on or write into the rows that point here.
-- name: doubts
SELECT format('%%s is not validated: rows of %%s break it', conname, conrelid::regclass) AS doubt
FROM pg_constraint
WHERE NOT convalidated
  AND (conname LIKE '%%\_environment\_check' OR conname LIKE '%%\_environment\_fkey')
  AND conrelid IN (
    'users'::regclass, 'clients'::regclass, 'queues'::regclass, 'conversations'::regclass, 'messages'::regclass)
UNION ALL
SELECT format('%%s would reach into %%s, which knows no environment', c.conname, c.conrelid::regclass)
FROM pg_constraint c
WHERE c.contype = 'f' AND c.confdeltype IN ('c', 'n', 'd')
  AND c.confrelid IN (
    'users'::regclass, 'clients'::regclass, 'queues'::regclass, 'conversations'::regclass, 'messages'::regclass)
  AND NOT EXISTS (
    SELECT FROM pg_attribute a
    WHERE a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey) AND a.attname = 'environment')
ORDER BY 1;

-- name: environment
SELECT set_config('fiv.environment', %(environment)s, true);

-- A cursor, as its position needs no memory: what a transaction deleted itself is found again by every new search.
-- name: open
DECLARE fivrec_purge NO SCROLL CURSOR FOR SELECT ctid FROM {table} WHERE environment = 'development';

-- name: fetch
FETCH {batch} FROM fivrec_purge;

-- name: remove
DELETE FROM {table} WHERE environment = 'development' AND ctid = ANY (%(places)s::tid[]);

-- name: close
CLOSE fivrec_purge;

-- What was applied as development is no longer there: the next apply makes it anew.
-- name: forget
DELETE FROM fivrec.applied WHERE environment = 'development' AND kind IN ('admin', 'queue');
