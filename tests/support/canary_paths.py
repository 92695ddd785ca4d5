"""The ways to ask fivrec for secrets, or to make it fail near them: the command, its settings and its exit code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.support.harness import manifest

HEAD = "version: 1\ninstance: client-abc-123\n"
OFFLINE = HEAD + "database: {{url: {{env: DATABASE_URL}}}}\nconfig: {{connect_api_url: {{env: FIV_APP_API_URL}}}}\n"
ALWAYS = manifest(a="{env: FIV_ADMIN_PASSWORD}|{env: FIV_ADMIN_PASSWORD}\n  update_password: always")
FAIL = "CREATE FUNCTION canary_fail() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {} END$$"
ON_CONFIG = "CREATE TRIGGER canary BEFORE UPDATE ON instance_config FOR EACH ROW EXECUTE FUNCTION canary_fail()"
RESET = "UPDATE instance_config SET instance_key = 'none'"
SECRET_SETTING = manifest(s="settings: {locale: pt-BR}|settings: {locale: pt-BR, smtp: {secret: {env: SMTP_PASSWORD}}}")
PLAIN_SETTING = manifest(s="settings: {locale: pt-BR}|settings: {locale: pt-BR, smtp: somebody}")
OTHER_SETTING = "UPDATE settings SET value = to_json('x{sql_setting}'::text) WHERE key = 'smtp'"
ON_SETTING = "CREATE TRIGGER canary BEFORE UPDATE ON settings FOR EACH ROW EXECUTE FUNCTION canary_fail()"
GONE = "DROP FUNCTION IF EXISTS canary_fail() CASCADE"


@dataclass(frozen=True)
class Path:
    """`env`: None unsets a variable. `files` are written first; {key}, {password}, {db}, {url} and {quoted} are
    replaced by canaries. `undo` is SQL that always runs afterwards."""

    name: str
    words: str
    code: int
    env: Mapping[str, str | None] = field(default_factory=dict)
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    sql: tuple[str, ...] = ()
    undo: tuple[str, ...] = ()
    mode: str = "well"
    outputs: bool = True


COMMANDS = (
    Path("first diff", "diff client.yaml", 2),
    Path("first apply", "apply client.yaml --diff", 0),
    Path("apply again", "apply client.yaml", 0),
    Path("diff", "diff client.yaml", 0),
    Path("drift", "diff client.yaml --out saved.plan", 2, sql=("UPDATE instance_config SET instance_key = '{sql_key}'",)),
    Path("saved plan", "apply --plan saved.plan client.yaml", 0, outputs=False),
    Path("password always", "apply client.yaml", 0, files={"client.yaml": ALWAYS}),
    Path("password of others", "apply client.yaml --diff", 0, files={"client.yaml": ALWAYS}, sql=("UPDATE users SET password = 'x'",)),
    Path("setting of others", "diff client.yaml", 2, sql=(OTHER_SETTING,)),
    Path("setting explained", "diff client.yaml --explain setting/smtp", 2, outputs=False),
    Path("setting put back", "apply client.yaml --diff", 0, sql=(OTHER_SETTING,)),
    Path("setting that is no secret any more", "diff client.yaml", 2, files={"client.yaml": PLAIN_SETTING}),
    Path("setting in the open", "apply client.yaml --diff", 0, files={"client.yaml": PLAIN_SETTING}),
    Path("setting that is a secret again", "apply client.yaml --diff", 0),
    Path("check", "check client.yaml", 0),
    Path("validate", "validate client.yaml", 0),
    Path("status", "status client.yaml", 0),
    Path("logs", "logs client.yaml", 0),
    Path("history", "history client.yaml", 0),
    Path("history verify", "history client.yaml --verify", 0),
    Path("usage", "usage client.yaml", 0),
    Path("usage sent", "usage client.yaml --send", 0),
    Path("plans", "plans client.yaml", 0),
    Path("databases", "databases client.yaml", 0),
    Path("pull", "pull client.yaml", 0, outputs=False),
    Path("export", "export --database-url env:DATABASE_URL --instance client-abc-123", 0, outputs=False),
    Path("export by URL", "export --database-url {url} --instance client-abc-123", 0, outputs=False),
    Path("key rotate", "key rotate client.yaml", 0),
    Path("purge", "purge client.yaml --yes --environment development", 0),
    Path("production-test", "production-test client.yaml", 0),
    Path("report", "report client.yaml --out report.html", 0, outputs=False),
    Path("schema", "schema", 0, outputs=False),
    Path("sql", "sql", 0, outputs=False),
    Path("init", "init sub/new.yaml", 0, outputs=False),
    Path("fmt", "fmt --check client.yaml", 0, outputs=False),
    Path("completion", "completion bash", 0, outputs=False),
    Path("setup", "setup --database-url {url} --admin-email admin@empresa.com --company-name X --instance client-abc-123 --admin-password-env FIV_ADMIN_PASSWORD", 0, outputs=False),
    Path("connect set", "connect set client-abc-123 --key-env FIV_APP_API_KEY --state state.json", 0, outputs=False),
)  # fmt: skip

BAD_INPUT = (
    Path("URL with a password", "apply client.yaml", 65, files={"client.yaml": HEAD + "database: {{url: '{url}'}}\n"}),
    Path("URL that can't be read", "apply client.yaml", 65, env={"DATABASE_URL": "postgresql://u:{quoted}@[bad/x"}),
    Path("URL of another scheme", "apply client.yaml", 65, env={"DATABASE_URL": "mysql://u:{quoted}@h/x"}),
    Path("URL with an unknown setting", "apply client.yaml", 65, env={"DATABASE_URL": "{url}?canary={quoted}"}),
    Path("URL with a bad setting", "apply client.yaml", 65, env={"DATABASE_URL": "{url}?connect_timeout={quoted}"}),
    Path("URL with a bad port", "apply client.yaml", 65, env={"DATABASE_URL": "postgresql://u@h:{quoted}/x"}),
    Path("instance key in the open", "apply client.yaml", 65, files={"client.yaml": HEAD + "config: {{instance_key: {yaml_key}}}\n"}),
    Path("password in the open", "apply client.yaml", 65, files={"client.yaml": HEAD + "admin: {{email: a@b.c, password: {yaml_password}}}\n"}),
    Path("secret at an unknown key", "apply client.yaml", 65, files={"client.yaml": HEAD + "admn: {yaml_password}\n"}),
    Path("secret as a default", "apply client.yaml", 65, files={"client.yaml": HEAD + "config: {{instance_key: {{env: X, default: {yaml_key}}}}}\n"}),
    Path("duplicate keys", "apply client.yaml", 65, files={"client.yaml": HEAD + "labels: {{a: {yaml_key}, a: {yaml_key}}}\n"}),
    Path("broken YAML", "apply client.yaml", 65, files={"client.yaml": HEAD + "labels: {{a: {yaml_key}\n"}),
    Path("a custom tag", "apply client.yaml", 65, files={"client.yaml": HEAD + "labels: {{a: !{letters} x}}\n"}),
    Path("template without end", "apply client.yaml", 65, files={"client.yaml": HEAD + "vars: {{a: '{{{{ {letters}'}}\n"}),
    Path("template that calls", "apply client.yaml", 65, files={"client.yaml": HEAD + "vars: {{a: '{{{{ \"{letters}\".upper() }}}}'}}\n"}),
    Path("template with an unknown filter", "apply client.yaml", 65, files={"client.yaml": HEAD + "vars: {{a: '{{{{ \"{letters}\"|canary }}}}'}}\n"}),
    Path("environment", "apply client.yaml", 65, env={"NODE_ENV": "{password}"}, files={"client.yaml": OFFLINE + "environment: {{env: NODE_ENV}}\n"}),
    Path("Connect URL with a password", "apply client.yaml", 65, env={"FIV_APP_API_URL": "https://u:{quoted}@connect.example"}),
    Path("Connect URL with a query", "apply client.yaml", 65, env={"FIV_APP_API_URL": "https://connect.example/?k={quoted}"}),
    Path("long password", "apply client.yaml", 65, env={"FIV_ADMIN_PASSWORD": "{password}{password}{password}"}),
    Path("key with a line break", "apply client.yaml", 65, env={"FIV_APP_API_KEY": "{key}\n{key}"}),
    Path("key that is not ASCII", "apply client.yaml", 0, env={"FIV_APP_API_KEY": "{key}ço☕"}),
    Path("file outside", "apply client.yaml", 65, files={"client.yaml": HEAD + "database: {{url: {{file: ../secret}}}}\n", "../secret": "{url}"}),
    Path("file of other bytes", "diff client.yaml", 78, files={"client.yaml": HEAD + "database: {{url: {{file: raw}}}}\n", "raw": b"{letters}\xff"}),
    Path("file with a bad URL", "diff client.yaml", 65, files={"client.yaml": HEAD + "database: {{url: {{file: raw}}}}\nconfig: {{connect_api_url: {{env: FIV_APP_API_URL}}}}\n", "raw": "{password}"}),
    Path("command that fails", "apply client.yaml --allow-command sh", 78, files={"client.yaml": HEAD + "database: {{url: {{command: [sh, -c, 'cat raw >&2; cat raw; exit 3']}}}}\n", "raw": "{url}"}),
    Path("command not allowed", "apply client.yaml", 78, files={"client.yaml": HEAD + "database: {{url: {{command: [cat, raw]}}}}\n", "raw": "{url}"}),
    Path("secret setting in the open", "apply client.yaml", 65, files={"client.yaml": HEAD + "config: {{settings: {{smtp: {{secret: '{letters}'}}}}}}\n"}),
    Path("secret setting with a NUL", "apply client.yaml", 65, files={"client.yaml": SECRET_SETTING.replace("{env: SMTP_PASSWORD}", "{file: raw}"), "raw": b"{letters}\0"}),
    Path("secret setting missing", "apply client.yaml", 78, env={"SMTP_PASSWORD": None}),
    Path("all missing but one", "apply client.yaml", 78, env={"FIV_APP_API_KEY": None}),
    Path("encryption key malformed", "apply client.yaml", 78, env={"FIVREC_ENCRYPTION_KEY": "{password}"}),
    Path("encryption key too short", "apply client.yaml", 78, env={"FIVREC_ENCRYPTION_KEY": "{half_key}"}),
    Path("encryption key file of other things", "apply client.yaml", 78, env={"FIVREC_ENCRYPTION_KEY": None, "FIVREC_ENCRYPTION_KEY_FILE": "raw"}, files={"raw": "{password}"}),
    Path("unknown option", "apply client.yaml --canary-option {url}", 64),
    Path("export without an instance", "export --database-url {url}", 64, outputs=False),
    Path("export of a URL that can't be read", "export --instance x --database-url postgresql://u:{quoted}@[bad/x", 78, outputs=False),
    Path("setup with a bad email", "setup --database-url {url} --admin-email {quoted} --company-name X --admin-password-env FIV_ADMIN_PASSWORD", 64, outputs=False),
)  # fmt: skip

BAD_WORLD = (
    Path("wrong database password", "apply client.yaml", 1, env={"DATABASE_URL": "{wrong_url}"}),
    Path("no server there", "apply client.yaml", 1, env={"DATABASE_URL": "postgresql://u:{quoted}@127.0.0.1:1/x"}),
    Path("no such host", "apply client.yaml", 1, env={"DATABASE_URL": "postgresql://u:{quoted}@canary.invalid/x"}),
    Path("no TLS off loopback", "apply client.yaml", 1, env={"DATABASE_URL": "postgresql://u:{quoted}@192.0.2.1/x?sslmode=disable"}),
    Path("another instance's database", "apply client.yaml", 3, sql=("UPDATE instance_config SET instance_id = 'other-1'",), undo=("UPDATE instance_config SET instance_id = 'client-abc-123'",)),
    Path("retired key", "apply client.yaml", 78, sql=("UPDATE instance_config SET instance_key = 'fivenc:v1:00000000:{base64}'",), undo=(RESET,)),
    Path("no envelope", "apply client.yaml", 78, sql=("UPDATE instance_config SET instance_key = 'fivenc:v1:{sql_key}'",), undo=(RESET,)),
    Path("constraint with its row", "apply client.yaml", 1, sql=("UPDATE instance_config SET instance_key = '{sql_key}', check_interval_minutes = 7", "ALTER TABLE instance_config ADD CONSTRAINT canary CHECK (check_interval_minutes = 7 OR connect_api_url = '{sql_key}') NOT VALID"), undo=("ALTER TABLE instance_config DROP CONSTRAINT IF EXISTS canary",)),
    Path("trigger that tells the row", "apply client.yaml", 1, sql=("UPDATE instance_config SET instance_key = '{sql_key}', check_interval_minutes = 7", FAIL.format("RAISE EXCEPTION 'refused %', OLD.instance_key USING DETAIL = OLD.instance_key, HINT = OLD.instance_key;"), ON_CONFIG), undo=(GONE,)),
    Path("trigger that notices the row", "apply client.yaml", 0, sql=("UPDATE instance_config SET instance_key = '{sql_key}', check_interval_minutes = 7", FAIL.format("RAISE WARNING 'row %', OLD.instance_key; RETURN NEW;"), ON_CONFIG), undo=(GONE,)),
    Path("trigger that tells the setting", "apply client.yaml", 1, sql=(OTHER_SETTING, FAIL.format("RAISE EXCEPTION 'refused %', NEW.value USING DETAIL = OLD.value, HINT = NEW.value;"), ON_SETTING), undo=(GONE,)),
    Path("setting not converged", "apply client.yaml", 1, sql=(OTHER_SETTING, FAIL.format("NEW.value := OLD.value; RETURN NEW;"), ON_SETTING), undo=(GONE,)),
    Path("not converged", "apply client.yaml", 1, sql=("UPDATE instance_config SET instance_key = '{sql_key}'", FAIL.format("NEW.instance_key := OLD.instance_key; RETURN NEW;"), ON_CONFIG), undo=(GONE, RESET)),
    Path("guard", "apply client.yaml", 3, files={"client.yaml": manifest(q="queues:\n  - {name: Technical Support, description: Suporte técnico}\n  - {name: Sales}\n|queues: {items: [], unmanaged: remove}\n")}),
    Path("edited plan", "apply --plan saved.plan client.yaml", 3, files={"saved.plan": "{password}"}, outputs=False),
    Path("no schema", "status client.yaml", 0, env={"DATABASE_URL": "{empty_url}"}),
    Path("no TLS trust", "apply client.yaml", 5, env={"SSL_CERT_FILE": None}),
    Path("Connect refuses the connection", "apply client.yaml", 5, env={"FIV_APP_API_URL": "https://127.0.0.1:1"}),
    Path("metadata service", "apply client.yaml", 65, env={"FIV_APP_API_URL": "https://169.254.169.254"}),
    Path("Connect without TLS", "apply client.yaml", 65, env={"FIV_APP_API_URL": "http://127.0.0.1:1"}),
    *(Path(f"Connect answers {mode}", "apply client.yaml", 5, mode=mode) for mode in ("401", "403", "404", "418", "500", "redirect", "not json", "not utf-8", "wrong type", "unknown status", "unknown billing", "too large", "gzip bomb", "broken gzip")),
    Path("Connect answers with the key", "apply client.yaml", 5, mode="wrong instance"),
    Path("proxy that is not there", "apply client.yaml", 5, env={"FIV_APP_API_URL": "https://connect.example", "HTTPS_PROXY": "http://me:{quoted}@127.0.0.1:1"}),
    Path("proxy by socks", "apply client.yaml", 78, env={"FIV_APP_API_URL": "https://connect.example", "HTTPS_PROXY": "socks5://me:{quoted}@127.0.0.1:1"}),
    Path("proxy that is no URL", "apply client.yaml", 78, env={"FIV_APP_API_URL": "https://connect.example", "HTTPS_PROXY": "http://me:{quoted}@[::1"}),
    Path("Connect has odd features", "apply client.yaml", 5, mode="odd feature"),
    *(Path(f"check: {mode}", "check client.yaml", 1, mode=mode) for mode in ("401", "not json", "unknown status")),
    *(Path(f"usage: {mode}", "usage client.yaml --send", 1, mode=mode) for mode in ("401", "404", "redirect")),
    *(Path(f"plans: {mode}", "plans client.yaml", 1, mode=mode) for mode in ("403", "not json", "gzip bomb")),
    *(Path(f"databases: {mode}", "databases client.yaml", 1, mode=mode) for mode in ("403", "wrong type")),
)  # fmt: skip
