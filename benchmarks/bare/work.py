"""What any such tool reads and writes for an instance that is as declared: a lock, five plain SELECTs, the log row and
last_status_check. What fivrec does beyond that is its cost. Shared SQL, no design."""

LOCK = "SELECT pg_try_advisory_xact_lock(hashtext(current_database()))"
READS = (
    """SELECT id, instance_id, status, billing_status, instance_key, connect_api_url, check_interval_minutes,
       enabled_features, is_locked FROM instance_config ORDER BY created_at LIMIT 1""",
    """SELECT id, name, email, password, role, environment FROM users
       WHERE environment = 'development' AND role = 'admin'""",
    "SELECT id, name, description, is_active FROM queues WHERE environment = 'development'",
    """SELECT id, name, description, price, currency, billing_interval, features, max_users, max_conversations,
       storage_limit, is_active, stripe_product_id, stripe_price_id FROM plans""",
    "SELECT key, value FROM settings",
)
CONFIG, USERS, QUEUES, PLANS = 0, 1, 2, 3

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
    """Returns how many rows are not as declared: 0 in a no-op."""
    config = rows[CONFIG][0]
    found = {row[0]: row for row in rows[PLANS]}
    return (
        (status["instanceId"] != instance)
        + (config[1:4] != (instance, status["status"], status["billingStatus"]))
        + (len(rows[USERS]) != 1)
        + ({row[1] for row in rows[QUEUES]} != {"Technical Support", "Sales"})
        + sum(plan["id"] not in found or found[plan["id"]][3] != plan["price"] for plan in plans)
    )
