"""What a bare script does of one no-op apply: fivrec's reads (sql/), the log row. Shared SQL, no design."""

READS = (
    "SELECT version, checksum FROM fivrec.migrations",
    "SELECT s.key, s.value FROM settings s",
    """SELECT c.id, c.instance_id, c.status, c.billing_status, c.instance_key, c.connect_api_url,
       c.check_interval_minutes, c.enabled_features, c.is_locked,
       EXISTS (SELECT FROM status_check_logs l WHERE l.instance_config_id = c.id AND l.success) AS heard
       FROM instance_config c ORDER BY c.created_at NULLS FIRST, c.id LIMIT 1""",
    """SELECT u.id, u.name, u.email, u.password, u.role, u.environment FROM users u
       WHERE (u.environment = 'development' AND u.role = 'admin') OR u.email IN ('admin@empresa.com', NULL)""",
    """SELECT DISTINCT ON (q.name) q.id, q.name, q.description, q.is_active,
       count(*) OVER (PARTITION BY q.name) AS duplicates,
       EXISTS (SELECT FROM conversations c WHERE c.queue_id = q.id AND c.environment = 'development') AS referenced
       FROM queues q WHERE q.environment = 'development'
       ORDER BY q.name, q.is_active DESC NULLS LAST, q.created_at NULLS FIRST, q.id""",
    """SELECT id, name, description, price, currency, billing_interval, features, max_users, max_conversations,
       storage_limit, is_active, stripe_product_id, stripe_price_id FROM plans""",
    """SELECT kind, name, fields, run_id, applied_at FROM fivrec.applied
       WHERE environment = 'development' OR kind = 'environment' ORDER BY applied_at""",
    "SELECT seq, hash FROM fivrec.audit_log ORDER BY seq DESC LIMIT 1",
)
CONFIG, USERS, QUEUES, PLANS = 2, 3, 4, 5

LOG = """INSERT INTO status_check_logs (instance_config_id, check_type, success, status_received, response_time)
         VALUES (%s, 'manual', true, %s, %s)"""
SEEN = "UPDATE instance_config SET last_status_check = now() AT TIME ZONE 'UTC' WHERE id = %s"

STATUS = "/api/v1/instances/status"
CATALOGUE = "/api/v1/plans"


def headers(key):
    return {
        "X-Instance-Key": key,
        "Authorization": f"Bearer {key}",
        "Content-Type": "application/json",
    }


def differences(rows, status, plans, instance):
    """How many rows are not as declared: none, in a no-op."""
    config = rows[CONFIG][0]
    found = {row[0]: row for row in rows[PLANS]}
    return (
        (status["instanceId"] != instance)
        + (config[1:4] != (instance, status["status"], status["billingStatus"]))
        + (len(rows[USERS]) != 1)
        + ({row[1] for row in rows[QUEUES]} != {"Technical Support", "Sales"})
        + sum(plan["id"] not in found or found[plan["id"]][3] != plan["price"] for plan in plans)
    )
