-- Rows that must be refused: tried within a savepoint by `fivrec production-test`, never committed.

-- name: environment
SELECT set_config('fiv.environment', %(environment)s::text, true);

-- name: parent
INSERT INTO {app}.queues (name, environment) VALUES ('fivrec production-test', %(environment)s) RETURNING id;

-- name: child
INSERT INTO {app}.conversations (queue_id, environment) VALUES (%(parent)s, %(environment)s);

-- name: stray
INSERT INTO {app}.clients (name, environment) VALUES ('fivrec production-test', %(environment)s);

-- How many rows of the other environment this session sees: none where isolation is enforced.
-- name: seen
SELECT count(*) FROM {app}.queues WHERE id::text = %(parent)s::text AND environment::text = %(environment)s::text;
