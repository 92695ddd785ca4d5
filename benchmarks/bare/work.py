"""What a bare script does of one no-op apply: the reads, the log row. Shared SQL, no design."""

READS = (
    "SELECT version, checksum FROM fivrec.migrations",
    "SELECT key, value FROM settings",
    "SELECT id, instance_id, instance_key, connect_api_url, check_interval_minutes, status, billing_status,"
    " enabled_features, is_locked FROM instance_config",
    "SELECT id, name, email, password, role FROM users WHERE role = 'admin' AND environment = 'development'",
    "SELECT id, name, description, is_active FROM queues WHERE environment = 'development'",
    "SELECT id, name, description, price, currency, billing_interval, features, max_users, max_conversations,"
    " storage_limit, is_active, stripe_product_id, stripe_price_id FROM plans",
    "SELECT kind, name, fields, run_id, applied_at FROM fivrec.applied WHERE environment = 'development'",
    "SELECT seq, hash FROM fivrec.audit_log ORDER BY seq DESC LIMIT 1",
)
CONFIG = 2
USERS = 3
QUEUES = 4
PLANS = 5

LOG = (
    "INSERT INTO status_check_logs (instance_config_id, check_type, success, status_received, response_time)"
    " VALUES (%s, 'manual', true, %s, %s)"
)
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
        + ((config[1], config[5], config[6]) != (instance, status["status"], status["billingStatus"]))
        + (len(rows[USERS]) != 1)
        + ({row[1] for row in rows[QUEUES]} != {"Technical Support", "Sales"})
        + sum(plan["id"] not in found or found[plan["id"]][3] != plan["price"] for plan in plans)
    )
