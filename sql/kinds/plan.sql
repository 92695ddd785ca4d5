-- Rows of plans, known by Connect's id (plans.id).

-- name: read
SELECT p.id AS key, p.id AS row_id, false AS referenced,
       p.name, p.description, p.price, p.currency, p.billing_interval, p.features, p.max_users,
       p.max_conversations, p.storage_limit, p.is_active, p.stripe_product_id, p.stripe_price_id
FROM {app}.plans p;

-- name: create
INSERT INTO {app}.plans (
  id, name, description, price, currency, billing_interval, features, max_users,
  max_conversations, storage_limit, is_active, stripe_product_id, stripe_price_id
) VALUES (
  %(key)s, %(name)s, %(description)s, %(price)s, %(currency)s, %(billing_interval)s, %(features)s, %(max_users)s,
  %(max_conversations)s, %(storage_limit)s, %(is_active)s, %(stripe_product_id)s, %(stripe_price_id)s
)
ON CONFLICT (id) DO UPDATE SET
  name = EXCLUDED.name,
  description = EXCLUDED.description,
  price = EXCLUDED.price,
  currency = EXCLUDED.currency,
  billing_interval = EXCLUDED.billing_interval,
  features = EXCLUDED.features,
  max_users = EXCLUDED.max_users,
  max_conversations = EXCLUDED.max_conversations,
  storage_limit = EXCLUDED.storage_limit,
  is_active = EXCLUDED.is_active,
  stripe_product_id = EXCLUDED.stripe_product_id,
  stripe_price_id = EXCLUDED.stripe_price_id;

-- The row keeps its id: others may refer to it.
-- name: update
UPDATE {app}.plans
SET name = %(name)s,
    description = %(description)s,
    price = %(price)s,
    currency = %(currency)s,
    billing_interval = %(billing_interval)s,
    features = %(features)s,
    max_users = %(max_users)s,
    max_conversations = %(max_conversations)s,
    storage_limit = %(storage_limit)s,
    is_active = %(is_active)s,
    stripe_product_id = %(stripe_product_id)s,
    stripe_price_id = %(stripe_price_id)s
WHERE id::text = %(row_id)s::text;

-- Give the plan a free name or Stripe id before another plan takes its own.
-- name: park
UPDATE {app}.plans
SET name = %(free)s::text,
    stripe_product_id = %(free)s::text,
    stripe_price_id = %(free)s::text
WHERE id::text = %(row_id)s::text;

-- name: deactivate
UPDATE {app}.plans SET is_active = false WHERE id::text = %(row_id)s::text;

-- name: remove
DELETE FROM {app}.plans WHERE id::text = %(row_id)s::text;

-- Like `read`, from a table that may lack columns.
-- name: adopt
SELECT j ->> 'id' AS key, j ->> 'id' AS row_id, false AS referenced,
       j ->> 'name' AS name, j ->> 'description' AS description, j -> 'price' AS price,
       COALESCE(j ->> 'currency', 'BRL') AS currency, j ->> 'billing_interval' AS billing_interval,
       COALESCE(j -> 'features', '[]') AS features,
       COALESCE(j -> 'max_users', '1') AS max_users,
       COALESCE(j -> 'max_conversations', '100') AS max_conversations,
       COALESCE(j -> 'storage_limit', '1000') AS storage_limit,
       COALESCE(j -> 'is_active', 'true') AS is_active,
       j ->> 'stripe_product_id' AS stripe_product_id, j ->> 'stripe_price_id' AS stripe_price_id
FROM (SELECT to_jsonb(t) AS j FROM {app}.plans t) rows;
