-- What Connect says of the instance, in its row of instance_config; read with kind config, which makes the row.

-- name: create
UPDATE {app}.instance_config
SET status = %(status)s,
    billing_status = %(billing_status)s,
    enabled_features = %(enabled_features)s,
    is_locked = COALESCE(%(is_locked)s::boolean, is_locked)
WHERE instance_id::text = %(key)s::text;

-- name: update
UPDATE {app}.instance_config
SET status = %(status)s,
    billing_status = %(billing_status)s,
    enabled_features = %(enabled_features)s,
    is_locked = COALESCE(%(is_locked)s::boolean, is_locked)
WHERE instance_id::text = %(key)s::text;
