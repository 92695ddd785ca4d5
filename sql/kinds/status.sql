-- What Connect says of the instance, in its row of instance_config; read with kind config, which makes the row.

-- name: create
UPDATE {app}.instance_config AS c
SET status = %(status)s,
    billing_status = %(billing_status)s,
    enabled_features = %(enabled_features)s,
    is_locked = {is_locked}
WHERE instance_id::text = %(key)s::text;

-- name: update
UPDATE {app}.instance_config AS c
SET status = %(status)s,
    billing_status = %(billing_status)s,
    enabled_features = %(enabled_features)s,
    is_locked = {is_locked}
WHERE instance_id::text = %(key)s::text;

-- The lock, in the words that the app's column uses for yes and no: it may hold numbers or text. JSON converts to the
-- column's type, whatever that is. Each function has its schema: one in the app's schema with exactly matching types
-- would win over pg_catalog's, which takes any type. If no word is given, the lock stays. {yes_no}: see
-- model/kinds/base.
-- name: is_locked
CASE WHEN %(is_locked)s::boolean IS NULL THEN c.is_locked ELSE (
      pg_catalog.json_populate_record(c, pg_catalog.json_build_object('is_locked', (
        SELECT CASE WHEN %(is_locked)s::boolean THEN w.yes ELSE w.no END
        FROM (VALUES {yes_no}) AS w (place, yes, no)
        ORDER BY CASE WHEN pg_catalog.pg_typeof(c.is_locked)::text ~ '^(smallint|integer|bigint|numeric|real|double|bit)'
          THEN '0' ELSE COALESCE(pg_catalog.rtrim(c.is_locked::text), 'false') END IN (w.yes, w.no) DESC, w.place
        LIMIT 1)))
    ).is_locked END;
