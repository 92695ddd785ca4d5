"""The same work as `fivrec apply`, as a pyinfra user would write it: facts, operations for what differs, a check."""

import json
import os
import shlex
from pathlib import Path

from pyinfra import host
from pyinfra.api import FactBase, operation

ADMIN = "admin@empresa.com"
QUEUES = {"Technical Support": "Suporte técnico", "Sales": None}
SETTINGS = {"company_name": "Nome da Empresa"}
PLAN_COLUMNS = {
    "id": "id", "name": "name", "description": "description", "price": "price", "currency": "currency",
    "billing_interval": "billingInterval", "features": "features", "max_users": "maxUsers",
    "max_conversations": "maxConversations", "storage_limit": "storageLimit", "is_active": "isActive",
    "stripe_product_id": "stripeProductId", "stripe_price_id": "stripePriceId",
}  # fmt: skip


def psql(database):
    words = ("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", host.data.database_host, "-p",
             str(host.data.database_port), "-U", host.data.database_user, "-d", database)  # fmt: skip
    return shlex.join(words)


def quoted(value):
    """Returns a value as an SQL literal."""
    if value is None:
        return "NULL"
    if isinstance(value, bool | int):
        return str(value).lower()
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "'" + text.replace("'", "''") + "'"


class Tables(FactBase):
    """Whether the schema exists."""

    def command(self, database):
        return f"{psql(database)} -c \"SELECT to_regclass('public.status_check_logs') IS NOT NULL\""

    def process(self, output):
        return "".join(output).strip() == "t"


class Rows(FactBase):
    """All managed rows, as one JSON object."""

    def command(self, database):
        environment = quoted(host.data.instance_environment)
        query = (
            "SELECT json_build_object("
            f"'admins', (SELECT json_agg(u) FROM users u WHERE role = 'admin' AND environment = {environment}),"
            f"'queues', (SELECT json_agg(q) FROM queues q WHERE environment = {environment}),"
            "'settings', (SELECT json_agg(s) FROM settings s),"
            "'config', (SELECT json_agg(c) FROM instance_config c),"
            "'plans', (SELECT json_agg(p) FROM plans p))"
        )
        return f"{psql(database)} -c {shlex.quote(query)}"

    def process(self, output):
        return {name: rows or [] for name, rows in json.loads("".join(output)).items()}


class Connect(FactBase):
    """A JSON answer of Connect."""

    def command(self, path, key):
        headers = (f"X-Instance-Key: {key}", f"Authorization: Bearer {key}", "Content-Type: application/json")
        return shlex.join(["curl", "-sSf", *(w for h in headers for w in ("-H", h)), host.data.connect_url + path])

    def process(self, output):
        return json.loads("".join(output))


@operation()
def schema(database):
    if not host.get_fact(Tables, database):
        yield f"{psql(database)} -f {shlex.quote(host.data.schema_script)}"
    else:
        host.noop("the tables are there")


@operation(is_idempotent=False)
def statements(database, lines):
    yield f"{psql(database)} -1 -c {shlex.quote('; '.join(lines))}"


def admin_changes(rows, environment):
    if any(row["email"] == ADMIN for row in rows["admins"]):
        return
    import bcrypt

    hashed = bcrypt.hashpw(os.environ["FIV_ADMIN_PASSWORD"].encode(), bcrypt.gensalt(12)).decode()
    values = ", ".join(map(quoted, ("Administrador", ADMIN, hashed, "admin", environment)))
    yield f"INSERT INTO users (name, email, password, role, environment) VALUES ({values})"


def queue_changes(rows, environment):
    found = {row["name"]: row for row in rows["queues"]}
    for name, description in QUEUES.items():
        if name not in found:
            values = ", ".join(map(quoted, (name, description, environment)))
            yield f"INSERT INTO queues (name, description, environment) VALUES ({values})"
        elif (found[name]["description"], found[name]["is_active"]) != (description, True):
            where = f"name = {quoted(name)} AND environment = {quoted(environment)}"
            yield f"UPDATE queues SET description = {quoted(description)}, is_active = true WHERE {where}"


def setting_changes(rows):
    found = {row["key"]: row["value"] for row in rows["settings"]}
    for key, value in SETTINGS.items():
        if key not in found or found[key] != value:
            text = quoted(json.dumps(value, ensure_ascii=False))
            yield (
                f"INSERT INTO settings (key, value) VALUES ({quoted(key)}, {text})"
                " ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value"
            )


def config_changes(rows, one, status):
    wanted = {
        "connect_api_url": host.data.connect_url,
        "check_interval_minutes": 60,
        "status": status["status"],
        "billing_status": status["billingStatus"],
        "enabled_features": status["enabledFeatures"],
        "is_locked": status["status"] == "suspended",
    }
    found = next((row for row in rows["config"] if row["instance_id"] == one["instance"]), None)
    if found is None:
        named = {"instance_id": one["instance"], "instance_key": one["key"]} | wanted
        values = ", ".join(map(quoted, named.values()))
        yield f"INSERT INTO instance_config ({', '.join(named)}) VALUES ({values})"
    elif any(found[name] != value for name, value in wanted.items()):
        sets = ", ".join(f"{name} = {quoted(value)}" for name, value in wanted.items())
        yield f"UPDATE instance_config SET {sets} WHERE instance_id = {quoted(one['instance'])}"


def plan_changes(rows, plans):
    found = {row["id"]: row for row in rows["plans"]}
    for plan in plans:
        wanted = {column: plan[name] for column, name in PLAN_COLUMNS.items()}
        if wanted["id"] in found and all(found[wanted["id"]][name] == value for name, value in wanted.items()):
            continue
        values = ", ".join(map(quoted, wanted.values()))
        sets = ", ".join(f"{name} = EXCLUDED.{name}" for name in wanted)
        yield f"INSERT INTO plans ({', '.join(wanted)}) VALUES ({values}) ON CONFLICT (id) DO UPDATE SET {sets}"


def check_row(one, status):
    instance = quoted(one["instance"])
    yield f"UPDATE instance_config SET last_status_check = now() AT TIME ZONE 'UTC' WHERE instance_id = {instance}"
    yield (
        "INSERT INTO status_check_logs (instance_config_id, check_type, success, status_received, response_time)"
        f" SELECT id, 'manual', true, {quoted(status['status'])}, 0 FROM instance_config"
        f" WHERE instance_id = {instance}"
    )


def apply(one):
    """Apply the schema first, as the facts need it; then one transaction with what differs and the check row."""
    status = host.get_fact(Connect, "/api/v1/instances/status", one["key"])
    plans = host.get_fact(Connect, "/api/v1/plans", one["key"])
    tables = host.get_fact(Tables, one["database"])
    schema(name=f"{one['instance']}: schema", database=one["database"])
    empty = {name: [] for name in ("admins", "queues", "settings", "config", "plans")}
    rows = host.get_fact(Rows, one["database"]) if tables else empty
    environment = host.data.instance_environment
    lines = [
        *admin_changes(rows, environment), *queue_changes(rows, environment), *setting_changes(rows),
        *config_changes(rows, one, status), *plan_changes(rows, plans), *check_row(one, status),
    ]  # fmt: skip
    statements(name=f"{one['instance']}: rows", database=one["database"], lines=lines)


for declared in json.loads(Path(host.data.listing).read_text()):
    apply(declared)
