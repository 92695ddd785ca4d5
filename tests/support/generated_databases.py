"""Databases as an app could have them, drawn by hypothesis: each is a list of changes to the app's tables.

A step is SQL; if it fails because of earlier steps, it is left out. Nothing here knows what fivrec does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from tests.support.engine import document

SERVICE_TABLES = """
CREATE TABLE queues (id varchar PRIMARY KEY DEFAULT gen_random_uuid(), name text NOT NULL, description text,
  is_active boolean DEFAULT true, environment text NOT NULL DEFAULT 'production', created_at timestamp DEFAULT now());
CREATE TABLE clients (id varchar PRIMARY KEY DEFAULT gen_random_uuid(), name text NOT NULL,
  environment text NOT NULL DEFAULT 'production');
CREATE TABLE conversations (id varchar PRIMARY KEY DEFAULT gen_random_uuid(), client_id varchar REFERENCES clients,
  queue_id varchar REFERENCES queues, user_id varchar REFERENCES users, status text NOT NULL DEFAULT 'active',
  environment text NOT NULL DEFAULT 'production');
CREATE TABLE messages (id varchar PRIMARY KEY DEFAULT gen_random_uuid(), conversation_id varchar, content text,
  environment text NOT NULL DEFAULT 'production');
CREATE TABLE settings (key text PRIMARY KEY, value json);
INSERT INTO queues (id, name) VALUES ('q1', 'Sales'), ('q2', 'Night');
INSERT INTO clients (id, name) VALUES ('c1', 'Cliente');
INSERT INTO conversations (id, client_id, queue_id) VALUES ('k1', 'c1', 'q2');
INSERT INTO settings VALUES ('locale', '"en"'), ('theme', '{"a": 1}');
"""
OWN = """
CREATE TABLE app_audit (id bigserial PRIMARY KEY, what text, at timestamptz DEFAULT now());
CREATE TABLE tenants (id varchar PRIMARY KEY, name text); INSERT INTO tenants VALUES ('t1', 'T');
CREATE DOMAIN short_text AS text CHECK (length(VALUE) <= 40);
CREATE DOMAIN amount AS numeric CHECK (VALUE >= 0);
CREATE DOMAIN yes_no AS boolean;
CREATE TYPE role AS ENUM ('admin', 'agent', 'supervisor');
CREATE TYPE stage AS ENUM ('production', 'development', 'staging');
CREATE TYPE period AS ENUM ('monthly', 'yearly');
"""

TEXTS = ("users.name", "users.email", "users.password", "users.role", "users.environment", "queues.name")
TEXTS += ("queues.description", "queues.environment", "plans.name", "plans.description", "plans.currency")
TEXTS += ("plans.billing_interval", "plans.stripe_product_id", "settings.key", "instance_config.instance_id")
TEXTS += ("instance_config.instance_key", "instance_config.connect_api_url", "instance_config.status")
TEXTS += ("instance_config.billing_status", "status_check_logs.check_type", "status_check_logs.status_received")
NUMBERS = ("plans.price", "plans.max_users", "plans.max_conversations", "plans.storage_limit")
NUMBERS += ("instance_config.check_interval_minutes", "status_check_logs.response_time")
YES_NO = ("queues.is_active", "plans.is_active", "instance_config.is_locked", "status_check_logs.success")
DOCUMENTS = ("plans.features", "settings.value", "instance_config.enabled_features")
TIMES = ("queues.created_at", "users.created_at", "instance_config.last_status_check", "status_check_logs.created_at")
IDS = ("users.id", "queues.id", "plans.id", "instance_config.id", "status_check_logs.id", "conversations.queue_id")

TYPES = (
    (TEXTS, ("varchar(200)", "varchar(12)", "varchar(5)", "citext", "char(40)", "name", "short_text", "bytea")),
    (TEXTS, ('text COLLATE "C"', "varchar", "text[]", "jsonb", "xml")),
    (("users.role",), ("role",)),
    (("users.environment", "queues.environment"), ("stage",)),
    (("plans.billing_interval",), ("period",)),
    (NUMBERS, ("bigint", "smallint", "numeric", "numeric(12, 2)", "numeric(3)", "double precision", "real", "amount")),
    (NUMBERS, ("text", "money", "oid")),
    (YES_NO, ("yes_no", "integer", "text", "smallint", "char(1)")),
    (DOCUMENTS, ("jsonb", "text", "xml")),
    (TIMES, ("timestamptz", "date", "timestamp(0)", "text", "time")),
    (IDS, ("uuid", "text", "char(36)", "varchar(36)", "citext", "short_text", "bytea")),
)
USING = {"bytea": "convert_to({c}::text, 'UTF8')", "jsonb": "to_jsonb({c})", "text[]": "ARRAY[{c}::text]"}

WRITTEN = ("users", "queues", "plans", "settings", "instance_config", "status_check_logs")
TABLES = (*WRITTEN, "clients", "conversations", "messages")
NAMED = {"users": "name", "queues": "name", "plans": "name", "settings": "key", "instance_config": "instance_id"}
NAMED |= {"status_check_logs": "check_type", "clients": "name", "conversations": "status", "messages": "content"}


@dataclass(frozen=True)
class Example:
    """`base` says what the database holds: nothing, the seed's tables, all of the app's, or those after an apply."""

    base: str
    schema: str
    login: str
    steps: tuple[str, ...]
    manifest: dict[str, Any] = field(repr=False)
    connect: bool = True

    def __repr__(self) -> str:
        steps = "\n  ".join(self.steps)
        return f"{self.base} in {self.schema} by {self.login}, connect {self.connect}:\n  {steps}\n{self.manifest}"


@st.composite
def retyped(draw: Any) -> str:
    """Gives a column of a documented table another type, and keeps its default if that is possible."""
    columns, types = draw(st.sampled_from(TYPES))
    (table, column), kind = draw(st.sampled_from(columns)).split("."), draw(st.sampled_from(types))
    using = USING.get(kind, f"{{c}}::text::{kind.partition(' COLLATE')[0]}").format(c=column)
    if kind in ("integer", "smallint") and f"{table}.{column}" in YES_NO:
        using = f"{column}::integer"
    keep = "ALTER {c} SET DEFAULT '{v}'".format(
        c=column, v={"is_active": "1", "is_locked": "0"}.get(column, "production")
    )
    without = f"ALTER TABLE {table} ALTER {column} DROP DEFAULT, ALTER {column} TYPE {kind} USING {using}"
    return f"{without}; ALTER TABLE {table} {keep}" if draw(st.booleans()) else without


OWN_TYPES = ("text", "integer", "boolean", "uuid", "timestamptz", "jsonb", "short_text", "role", "numeric(4, 2)")
DEFAULTS = {"text": "''", "integer": "7", "boolean": "false", "uuid": "gen_random_uuid()", "timestamptz": "now()"}
DEFAULTS |= {"jsonb": "'{}'", "short_text": "'a'", "role": "'agent'", "numeric(4, 2)": "0"}


@st.composite
def own_column(draw: Any) -> str:
    """Adds a column of the app's own, with what it demands of each row."""
    table, kind = draw(st.sampled_from(WRITTEN)), draw(st.sampled_from(OWN_TYPES))
    rest = draw(
        st.sampled_from(
            (
                "",
                f"DEFAULT {DEFAULTS[kind]}",
                f"NOT NULL DEFAULT {DEFAULTS[kind]}",
                "UNIQUE",
                "REFERENCES tenants",
                "NOT NULL",
                f"GENERATED ALWAYS AS ({NAMED[table]}::text) STORED",
                "CHECK (own IS NOT NULL)",
            )
        )
    )
    column = draw(st.sampled_from(("app_own", "app_own Select")))
    rest = rest.replace("(own IS", f'("{column}" IS')
    if rest == "NOT NULL":  # applies to existing rows too
        filled = f'ALTER TABLE {table} ADD "{column}" {kind} NOT NULL DEFAULT {DEFAULTS[kind]}'
        return f'{filled}; ALTER TABLE {table} ALTER "{column}" DROP DEFAULT'
    return f'ALTER TABLE {table} ADD "{column}" {kind} {rest}'


@st.composite
def constrained(draw: Any) -> str:
    table = draw(st.sampled_from(WRITTEN))
    name = NAMED[table] if table != "status_check_logs" else "id"  # several checks share a type
    return draw(
        st.sampled_from(
            (
                f"ALTER TABLE {table} ADD UNIQUE ({name})",
                f"CREATE UNIQUE INDEX ON {table} (lower({name}::text))",
                f"ALTER TABLE {table} ADD CHECK (length({name}::text) < 9) NOT VALID",
                f"ALTER TABLE {table} ADD CHECK ({name}::text <> 'Sales')  NOT VALID",
                f"ALTER TABLE {table} ADD CHECK ({name}::text = trim({name}::text))",
                f"ALTER TABLE {table} ALTER {name} DROP NOT NULL",
                f"CREATE UNIQUE INDEX ON {table} ((1)) WHERE false",
                f"CREATE INDEX ON {table} (md5({name}::text))",
                "ALTER TABLE queues ALTER description SET NOT NULL",
                "ALTER TABLE queues ADD UNIQUE (is_active, environment)",
                "ALTER TABLE queues ADD CHECK (description IS NOT NULL) NOT VALID",
                "ALTER TABLE plans ADD CHECK (price < 10000) NOT VALID",
                "ALTER TABLE plans ALTER description SET NOT NULL",
                "ALTER TABLE plans ADD UNIQUE (name) DEFERRABLE INITIALLY DEFERRED",
                "ALTER TABLE users DROP CONSTRAINT users_email_key",
                "ALTER TABLE users ADD CHECK (email LIKE '%@cliente.example') NOT VALID",
                "CREATE UNIQUE INDEX ON users (role) WHERE role = 'admin'",
                "ALTER TABLE instance_config ADD CHECK (check_interval_minutes >= 60) NOT VALID",
                "ALTER TABLE instance_config ADD UNIQUE (connect_api_url)",
                "ALTER TABLE status_check_logs ADD FOREIGN KEY (instance_config_id) REFERENCES instance_config (id)",
                "ALTER TABLE status_check_logs ADD CHECK (check_type IN ('startup', 'scheduled')) NOT VALID",
                "ALTER TABLE settings ADD CHECK (json_typeof(value) = 'string') NOT VALID",
                "ALTER TABLE conversations ADD CHECK (queue_id IS NOT NULL) NOT VALID",
                "CREATE UNIQUE INDEX ON queues (name) WHERE environment = 'production'",
                "CREATE TABLE orders (plan varchar REFERENCES plans); INSERT INTO orders SELECT id FROM plans LIMIT 1",
            )
        )
    )


BODIES = {
    "audit": "INSERT INTO {s}.app_audit (what) VALUES (TG_TABLE_NAME); RETURN {row};",
    "audit by path": "INSERT INTO app_audit (what) VALUES (TG_TABLE_NAME); RETURN {row};",
    "rewrite": "NEW.{name} := upper(NEW.{name}::text); RETURN NEW;",
    "trim": "NEW.{name} := trim(NEW.{name}::text); RETURN NEW;",
    "raise": "RAISE EXCEPTION 'not here: %', {row};",
    "raise with a state": "RAISE EXCEPTION USING ERRCODE = 'unique_violation', MESSAGE = 'canary';",
    "division": "PERFORM 1 / 0; RETURN {row};",
    "ignore": "RETURN NULL;",
    "missing table": "PERFORM * FROM nowhere; RETURN {row};",
    "writes another": "INSERT INTO {s}.queues (name) VALUES ('From ' || TG_TABLE_NAME); RETURN {row};",
    "deletes others": "DELETE FROM {s}.queues WHERE name = 'Night'; RETURN {row};",
    "notice": "RAISE NOTICE 'canary'; RETURN {row};",
    "path": "PERFORM set_config('search_path', 'pg_catalog', true); RETURN {row};",
    "row security": "PERFORM set_config('row_security', 'on', true); RETURN {row};",
    "statement timeout": "PERFORM set_config('statement_timeout', '1h', true); RETURN {row};",
}


ANSWERS, RECORDED = ("writes another", "deletes others"), ("instance_config", "status_check_logs")
"""An app that reacts to each recorded check by changing its queues never converges: fivrec can only record."""


@st.composite
def triggered(draw: Any) -> str:
    table, body = draw(st.sampled_from(TABLES)), draw(st.sampled_from(sorted(BODIES)))
    when = draw(st.sampled_from(("BEFORE", "AFTER", "CONSTRAINT")))
    event = draw(st.sampled_from(("INSERT", "UPDATE", "INSERT OR UPDATE", "DELETE", "INSERT OR UPDATE OR DELETE")))
    if when == "CONSTRAINT":
        head = f"CREATE CONSTRAINT TRIGGER app_own AFTER {event} ON {table} DEFERRABLE INITIALLY DEFERRED"
    else:
        head = f"CREATE TRIGGER app_own {when} {event} ON {table}"
    row = "OLD" if event == "DELETE" else "COALESCE(NEW, OLD)" if "DELETE" in event else "NEW"
    if body in ANSWERS and table in RECORDED and event != "DELETE":
        body = "audit"
    text = BODIES[body].replace("{row}", row).replace("{name}", NAMED[table])
    made = f"CREATE OR REPLACE FUNCTION app_own() RETURNS trigger LANGUAGE plpgsql AS $f$BEGIN {text} END$f$"
    return f"{made}; {head} FOR EACH ROW EXECUTE FUNCTION app_own()"


@st.composite
def guarded(draw: Any) -> str:
    """Adds row-level security or rules."""
    table = draw(st.sampled_from(TABLES))
    force = draw(st.sampled_from(("", f"; ALTER TABLE {table} FORCE ROW LEVEL SECURITY")))
    policy = draw(st.sampled_from(("true", "false", f"{NAMED[table]} IS NOT NULL", "current_user = 'app'")))
    return draw(
        st.sampled_from(
            (
                f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY{force}",
                f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON {table} USING ({policy}){force}",
                f"CREATE POLICY app_own ON {table} AS RESTRICTIVE USING ({policy})",
                f"CREATE RULE app_own AS ON UPDATE TO {table} DO INSTEAD NOTHING",
                f"CREATE RULE app_own AS ON INSERT TO {table} DO ALSO INSERT INTO app_audit (what) VALUES ('rule')",
                f"CREATE RULE app_own AS ON DELETE TO {table} DO INSTEAD NOTHING",
            )
        )
    )


SHAPED = (
    "CREATE VIEW {t}_all AS SELECT * FROM {t}",
    "CREATE MATERIALIZED VIEW {t}_mat AS SELECT * FROM {t}",
    "CREATE VIEW names AS SELECT {n} FROM {t}",
    "ALTER TABLE {t} RENAME TO {t}_2; CREATE VIEW {t} AS SELECT * FROM {t}_2",
    "CREATE TABLE {t}_child () INHERITS ({t})",
    "ALTER TABLE {t} RENAME TO {t}_old; CREATE TABLE {t} (LIKE {t}_old INCLUDING ALL)",
    "ALTER TABLE {t} RENAME TO {t}_old; CREATE TABLE {t} (LIKE {t}_old); INSERT INTO {t} SELECT * FROM {t}_old",
    "ALTER TABLE {t} DROP COLUMN {n} CASCADE",
    "ALTER TABLE {t} DROP COLUMN created_at CASCADE",
    "ALTER TABLE {t} DROP CONSTRAINT {t}_pkey CASCADE",
    "ALTER TABLE {t} ALTER id DROP DEFAULT",
    "ALTER TABLE {t} ALTER environment DROP DEFAULT",
    "ALTER TABLE {t} ALTER environment DROP NOT NULL",
    "ALTER TABLE {t} SET (fillfactor = 50); ALTER TABLE {t} SET UNLOGGED",
    "ALTER TABLE {t} REPLICA IDENTITY FULL; CREATE PUBLICATION app_own FOR TABLE {t}",
    "CREATE STATISTICS app_own ON id, {n} FROM {t}",
    "COMMENT ON TABLE {t} IS 'canary'",
    "GRANT SELECT ON {t} TO PUBLIC; REVOKE INSERT, UPDATE ON {t} FROM CURRENT_USER",
    "REVOKE SELECT ON {t} FROM CURRENT_USER",
    "ALTER TABLE {t} DISABLE TRIGGER ALL",
    "ALTER TABLE {t} ADD deleted_at timestamp; ALTER TABLE {t} DROP COLUMN deleted_at",
    "CLUSTER {t} USING {t}_pkey",
    "DROP TABLE {t} CASCADE; CREATE TABLE {t} (id integer PRIMARY KEY, {n} text)",
    "DROP TABLE {t} CASCADE; CREATE TABLE {t} (id bigserial PRIMARY KEY, {n} text, name text, email text)",
    "DROP TABLE {t} CASCADE",
    "DROP TABLE {t} CASCADE; CREATE TABLE {t} (id varchar, {n} text, environment text) PARTITION BY LIST (environment)",
)


@st.composite
def shaped(draw: Any) -> str:
    """Changes the shape of the tables themselves."""
    table = draw(st.sampled_from(TABLES))
    return draw(st.sampled_from(SHAPED)).format(t=table, n=NAMED[table])


PLAN = "(id, name, price, billing_interval, features)"
CONFIG = "(instance_id, instance_key, connect_api_url)"
CHECK = "(instance_config_id, check_type, success, created_at)"
ROWS = (
    "INSERT INTO queues (name, environment) VALUES ('Sales', 'production'), ('Sales', 'production')",
    "INSERT INTO queues (name, environment) VALUES ('Sales ', 'production'), ('sales', 'production')",
    "INSERT INTO queues (name, environment) VALUES ('Vendas' || chr(769), 'production')",
    "INSERT INTO queues (name, environment) VALUES ('', 'production'), ('A', 'development')",
    "UPDATE queues SET is_active = NULL, created_at = NULL",
    "UPDATE queues SET created_at = 'infinity'",
    "UPDATE queues SET description = repeat('x', 100000)",
    "UPDATE queues SET environment = 'staging'",
    "UPDATE users SET email = 'ADMIN@Empresa.com' WHERE role = 'admin' AND environment = 'production'",
    "UPDATE users SET email = 'admin@empresa.com ' WHERE role = 'admin' AND environment = 'production'",
    "INSERT INTO users (name, email, password, role) VALUES ('X', 'Admin@Empresa.com', 'x', 'admin')",
    "INSERT INTO users (name, email, password, role) VALUES ('X', 'admin@EMPRESA.com', 'x', 'agent')",
    "INSERT INTO users (name, email, password, environment) VALUES ('X', 'admin@empresa.com', 'x', 'development')",
    "UPDATE users SET password = '$2b$31$abcdefghijklmnopqrstuu5kYwVQ0e0hZ0Q2vTqk9sVwq3mXkKk5G'",
    "UPDATE users SET password = '', role = 'owner'",
    "DELETE FROM users",
    "INSERT INTO users (name, email, password, role) SELECT g, g || '@x', 'x', 'admin' FROM generate_series(1, 30) g",
    "UPDATE plans SET stripe_product_id = 'prod_p4', features = '{}'",
    "UPDATE plans SET features = '\"a\\u0000b\"', max_users = -1",
    f"INSERT INTO plans {PLAN} VALUES ('plan_professional', 'Starter', 1, 'x', 'null')",
    f"INSERT INTO plans {PLAN} VALUES ('zz', 'Pro', 1, 'yearly', '[1e999]')",
    f"INSERT INTO plans {PLAN} SELECT 'g' || g, 'G' || g, g, 'yearly', '[]' FROM generate_series(1, 30) g",
    "UPDATE settings SET value = '1e999' WHERE key = 'locale'",
    "UPDATE settings SET value = NULL",
    "INSERT INTO settings (key, value) VALUES ('', '\"\\u0000\"'), ('Sales', '[]'), ('company_name', 'null')",
    "UPDATE instance_config SET status = 'nonsense', is_locked = NULL, check_interval_minutes = -5",
    "UPDATE instance_config SET enabled_features = '[1e999]', last_status_check = 'infinity'",
    "UPDATE instance_config SET instance_key = 'fivenc:v1:deadbeef:AAAA'",
    "UPDATE instance_config SET instance_key = ''",
    f"INSERT INTO instance_config {CONFIG} VALUES ('client-abc-123', 'another', 'https://x.test')",
    f"INSERT INTO instance_config {CONFIG} VALUES ('other', 'k', 'https://x.test')",
    "UPDATE instance_config SET instance_id = 'other'",
    "DELETE FROM instance_config",
    f"INSERT INTO status_check_logs {CHECK} VALUES ('none', 'odd', false, '-infinity')",
    "INSERT INTO conversations (id, queue_id, environment) SELECT 'd' || id, id, 'development' FROM queues",
    "UPDATE conversations SET queue_id = NULL",
    "INSERT INTO clients (name, environment) VALUES ('D', 'development')",
    "DELETE FROM fivrec.applied",
    "UPDATE fivrec.applied SET fields = '{}'",
    "UPDATE fivrec.audit_log SET hash = 'x' WHERE seq = 1",
    "DELETE FROM fivrec.audit_key",
    "DELETE FROM fivrec.last_run",
    "DELETE FROM fivrec.migrations WHERE version > 9",
)

SETTINGS = (
    "search_path = 'pg_catalog'",
    "search_path = ''",
    'search_path = app_own_2, "$user"',
    "timezone = 'Asia/Kolkata'",
    "datestyle = 'German, DMY'",
    "intervalstyle = 'sql_standard'",
    "bytea_output = 'escape'",
    "extra_float_digits = -15",
    "default_transaction_isolation = 'serializable'",
    "default_transaction_deferrable = on",
    "default_transaction_read_only = on",
    "standard_conforming_strings = off",
    "row_security = off",
    "transform_null_equals = on",
    "quote_all_identifiers = on",
    "client_encoding = 'LATIN1'",
    "lc_numeric = 'C'",
    "plpgsql.variable_conflict = 'use_column'",
    "array_nulls = off",
    "xmloption = 'document'",
    "default_tablespace = 'nowhere'",
    "default_toast_compression = 'pglz'",
    "check_function_bodies = off",
    "synchronous_commit = off",
    "idle_in_transaction_session_timeout = '5s'",
    "lock_timeout = '1ms'",
    "enable_seqscan = off",
    "constraint_exclusion = on",
    "default_with_oids = off",
)
SET = "DO $d$ BEGIN EXECUTE format('ALTER DATABASE %I SET {}', current_database()); END $d$"
PLANTED = """CREATE FUNCTION {s}.app_own(x {a}, y {b}) RETURNS boolean LANGUAGE plpgsql AS $f$BEGIN
  INSERT INTO app_audit (what) VALUES ('planted'); RETURN true; END$f$;
CREATE OPERATOR {s}.{o} (LEFTARG = {a}, RIGHTARG = {b}, FUNCTION = {s}.app_own)"""
COLLATION = "CREATE COLLATION app_own (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
ODD = (
    *(SET.format(setting.replace("'", "''")) for setting in SETTINGS),
    *(
        PLANTED.replace("{a}", left).replace("{b}", right).replace("{o}", operator)
        for operator in ("=", "<>", ">=", "~")
        for left, right in (("varchar", "varchar"), ("text", "varchar"), ("varchar", "text"), ("json", "json"))
    ),
    *(
        f"{COLLATION}; ALTER TABLE {table} ALTER {column} TYPE text COLLATE app_own"
        for table, column in (("queues", "name"), ("users", "email"), ("settings", "key"), ("plans", "name"))
    ),
    "CREATE FUNCTION {s}.lower(x varchar) RETURNS text LANGUAGE sql AS $f$SELECT 'planted'$f$",
    "CREATE FUNCTION {s}.now(x int DEFAULT 1) RETURNS timestamptz LANGUAGE sql AS $f$SELECT NULL::timestamptz$f$",
    "CREATE FUNCTION {s}.gen_random_uuid(x int DEFAULT 1) RETURNS uuid LANGUAGE sql AS $f$SELECT NULL::uuid$f$",
    "CREATE TYPE {s}.text AS ENUM ('planted'); CREATE DOMAIN {s}.json AS text; CREATE DOMAIN {s}.boolean AS integer",
    "CREATE TABLE {s}.pg_class (oid integer); CREATE VIEW {s}.pg_roles AS SELECT 1 AS oid",
    "CREATE SCHEMA app_own; CREATE TABLE app_own.users (LIKE users INCLUDING ALL)",
    "CREATE SCHEMA app_own; ALTER TABLE queues SET SCHEMA app_own",
    "CREATE CAST (text AS role) WITH INOUT AS IMPLICIT",
    "ALTER TABLE queues RENAME name TO nome",
    'ALTER TABLE users RENAME email TO "E-mail"',
    "ALTER TABLE queues DROP is_active; ALTER TABLE queues ADD is_active boolean GENERATED ALWAYS AS (true) STORED",
    "ALTER TABLE queues ALTER is_active SET DEFAULT false, ALTER environment SET DEFAULT 'development'",
    "ALTER TABLE queues ADD parent varchar REFERENCES queues; UPDATE queues SET parent = id",
    "ALTER TABLE queues DROP id CASCADE; ALTER TABLE queues ADD id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    "ALTER TABLE plans DROP id CASCADE; ALTER TABLE plans ADD id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    "ALTER TABLE settings DROP CONSTRAINT settings_pkey, ADD of text DEFAULT 'a', ADD PRIMARY KEY (key, of)",
    "ALTER TABLE settings DROP CONSTRAINT settings_pkey; INSERT INTO settings VALUES ('locale', '1'), ('locale', '2')",
    "ALTER TABLE settings DROP CONSTRAINT settings_pkey; CREATE UNIQUE INDEX ON settings (key) WHERE value IS NOT NULL",
    "ALTER TABLE settings DROP CONSTRAINT settings_pkey; ALTER TABLE settings ADD PRIMARY KEY (key) DEFERRABLE",
    "ALTER TABLE plans DROP CONSTRAINT plans_pkey CASCADE, ADD PRIMARY KEY (id) DEFERRABLE INITIALLY DEFERRED",
    "UPDATE queues SET created_at = now() + interval '9 years'",
    "ALTER TABLE users ALTER id SET DEFAULT 'fixed'; ALTER TABLE queues ALTER id SET DEFAULT 'fixed'",
    "CREATE TRIGGER app_own AFTER INSERT ON fivrec.audit_log FOR EACH ROW EXECUTE FUNCTION app_own()",
    "ALTER TABLE fivrec.applied ADD app_own text CHECK (app_own IS NOT NULL) NOT VALID",
    "ALTER TABLE fivrec.last_run DROP COLUMN drift",
    "DROP TABLE fivrec.last_run; DROP TABLE fivrec.alert_outbox",
    "DROP FUNCTION fivrec.isolation() CASCADE",
    "DROP SCHEMA fivrec CASCADE",
    "UPDATE fivrec.migrations SET checksum = 'x' WHERE version = 3",
    "INSERT INTO fivrec.migrations (version, name, checksum) VALUES (99, 'later', 'x')",
    "INSERT INTO queues (name) SELECT 'Fila ' || g FROM generate_series(1, 3000) g",
    "INSERT INTO settings (key, value) SELECT 'k' || g, to_json(g) FROM generate_series(1, 3000) g",
)

STEPS = st.one_of(
    st.sampled_from(ODD),
    retyped(),
    retyped(),
    own_column(),
    constrained(),
    triggered(),
    guarded(),
    shaped(),
    st.sampled_from(ROWS),
)
QUEUES = ("Sales", "Night", "Suporte técnico", "a", "'; DROP TABLE queues; --", "ü" * 30, "sales", "Vendas\u0301")
PLANS = ("plan_starter", "plan_professional", "p4")
TEXT = st.sampled_from((None, "", "x", " padded ", "x" * 60, "Ação ☃", "12", "a\nb"))


@st.composite
def manifests(draw: Any) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(QUEUES), max_size=3, unique=True))
    items = [{"name": name, "description": draw(TEXT), "is_active": draw(st.booleans())} for name in names]
    price = st.sampled_from((0, 1, 2900, 99_999, 2**31 - 1))
    plans = [
        {
            "id": name,
            "name": draw(st.sampled_from(("Starter", "Pro", f"Plan {name}"))),
            "price": draw(price),
            "billing_interval": draw(st.sampled_from(("monthly", "yearly", "every other week"))),
            "features": draw(st.lists(TEXT.filter(lambda text: text is not None), max_size=2)),
            "description": draw(TEXT),
            "max_users": draw(st.sampled_from((None, 0, 1, 40_000))),
            "is_active": draw(st.booleans()),
            "stripe_product_id": draw(st.sampled_from((None, "prod_starter", f"prod_{name}"))),
        }
        for name in draw(st.lists(st.sampled_from(PLANS), max_size=3, unique=True))
    ]
    unmanaged = st.sampled_from(("keep", "deactivate", "remove"))
    sections: dict[str, Any] = {
        "environment": {
            "name": draw(st.sampled_from(("production", "production", "production", "development"))),
            "isolation": draw(st.sampled_from(("constraints", "constraints", "constraints", "enforced"))),
            "purge_development_data": False,
        },
        "queues": {"items": items, "unmanaged": draw(unmanaged)},
    }
    if draw(st.booleans()):
        left = draw(st.sampled_from(("keep", "deactivate")))
        sections["plans"] = {"source": "manifest", "items": plans, "unmanaged": left}
    whole = document(**sections)
    values = st.sampled_from(("pt-BR", 7, None, True, ["a", {"b": None}], {"Sales": "x"}))
    keys = st.sampled_from(("locale", "theme", "Sales", "long " + "x" * 60))
    config = {"settings": draw(st.dictionaries(keys, values, max_size=3))}
    config["check_interval_minutes"] = draw(st.sampled_from((1, 60, 40_000)))
    admin = {"update_password": draw(st.sampled_from(("always", "on_create")))}
    if sections["environment"]["name"] == "development" and draw(st.integers(0, 4)):  # differs from production
        admin["email"] = "dev@empresa.com"
    return whole | {"config": whole["config"] | config, "admin": whole["admin"] | admin}


@st.composite
def examples(draw: Any) -> Example:
    login = draw(st.sampled_from(("owner", "owner", "owner", "owner", "creator", "super", "member")))
    manifest = draw(manifests())
    if login != "creator" and draw(st.integers(0, 9)):  # a login that may not create roles would be refused
        manifest["environment"]["isolation"] = "constraints"
    return Example(
        base=draw(st.sampled_from(("applied", "applied", "applied", "all", "all", "all", "seed"))),
        schema=draw(st.sampled_from(("public", "public", "public", "Fiv App"))),
        login=login,
        steps=tuple(draw(st.lists(STEPS, min_size=2, max_size=6))),
        manifest=manifest,
        connect=draw(st.booleans()),
    )
