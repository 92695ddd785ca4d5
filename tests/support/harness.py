"""fivrec as its users run it: the command as a process, a Connect over TLS as another."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import trustme

ROOT = Path(__file__).parents[2]
INSTANCE = "client-abc-123"
PASSWORD = "senha-segura-123"  # used by tests only
COMMAND = (sys.executable, "-m", "reconciler")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.stdout)
        return document

    @property
    def one(self) -> dict[str, Any]:
        """Returns the only instance of a report."""
        (instance,) = self.json["instances"]
        result: dict[str, Any] = instance
        return result

    def changes(self) -> list[tuple[str, str, str, str]]:
        return [(item["kind"], item["name"], item["action"], item["cause"]) for item in self.one["changes"]]


@dataclass(slots=True)
class Fivrec:
    """The command in its own folder, with an environment that holds nothing but what is set here.

    `within` are words to put before a started command, such as a program to run it in.
    """

    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    within: tuple[str, ...] = ()

    def environment(self, more: Mapping[str, str | None]) -> dict[str, str]:
        base = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"}
        merged = {**base, **self.env, **more}
        return {name: value for name, value in merged.items() if value is not None}

    def start(self, *words: str, **more: str | None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.within, *COMMAND, *words],
            cwd=self.folder,
            env=self.environment(more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, stdin: str | None = None, timeout: float = 600, **more: str | None) -> Ended:
        done = subprocess.run(
            [*COMMAND, *words],
            cwd=self.folder,
            env=self.environment(more),
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def apply(self, *words: str, **more: str | None) -> Ended:
        return self.run("apply", "client.yaml", "-o", "json", *words, **more)

    def diff(self, *words: str, **more: str | None) -> Ended:
        return self.run("diff", "client.yaml", "-o", "json", *words, **more)

    def write(self, text: str, name: str = "client.yaml") -> Path:
        """Write the file whole: a service that looks at this moment finds the former text or this one."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.draft")
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
        return path

    def connect_set(self, *words: str, instance: str = INSTANCE) -> None:
        ended = self.run("connect", "set", instance, "--state", "connect.json", *words)
        assert ended.code == 0, ended.stderr


MANIFEST = """\
version: 1
instance: {instance}
vars: {{company: Nome da Empresa}}
database:
  url: {{env: DATABASE_URL}}
  create: true
environment: production
config:
  connect_api_url: {{env: FIV_APP_API_URL}}
  instance_key: {{env: FIV_APP_API_KEY}}
  check_interval_minutes: 60
  company_name: "{{{{ company }}}}"
  settings: {{locale: pt-BR}}
admin:
  name: Administrador
  email: admin@empresa.com
  password: {{env: FIV_ADMIN_PASSWORD}}
queues:
  - {{name: Technical Support, description: Suporte técnico}}
  - {{name: Sales}}
plans:
  source: connect
"""


def manifest(instance: str = INSTANCE, **replaced: str) -> str:
    """Returns the usual manifest; each keyword replaces one piece of its text: an old|new pair."""
    text = MANIFEST.format(instance=instance)
    for pair in replaced.values():
        old, new = pair.split("|", 1)
        assert old in text, old
        text = text.replace(old, new)
    return text


@contextmanager
def connect_over_tls(fivrec: Fivrec, *, instances: Sequence[str] = (INSTANCE,)) -> Iterator[str]:
    """Run `fivrec connect serve` over TLS with its own CA. Yields its URL, and sets what a client needs in `env`."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(fivrec.folder / "ca.pem"))
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(fivrec.folder / "server.pem"))
    key = fivrec.env.setdefault("FIV_APP_API_KEY", f"key-{secrets.token_urlsafe(24)}")
    for name in instances:
        fivrec.run("connect", "set", name, "--key-env", "FIV_APP_API_KEY", "--state", "connect.json")
    words = ("connect", "serve", "--listen", "127.0.0.1:0", "--state", "connect.json")
    tls = ("--tls-cert", "server.pem", "--tls-key", "server.pem")
    server = fivrec.start(*words, *tls, FIV_APP_API_KEY=key)
    try:
        assert server.stderr is not None
        line = server.stderr.readline()
        url = line.rsplit(" ", 1)[-1].strip()
        assert url.startswith("https://"), line
        fivrec.env |= {"FIV_APP_API_URL": url, "SSL_CERT_FILE": str(fivrec.folder / "ca.pem")}
        yield url
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)


def rows(url: str, query: str, *params: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as conn:
        return conn.execute(query, params).fetchall()


def assert_once_each(times: list[datetime], seconds: float) -> None:
    """Check that there was one check per interval, however late each of them came: it begins after its slot, and the
    next slot is after its end. The first one may come shortly before a slot, and late; an extra one may then follow
    half an interval later (decision 0096)."""
    for number, at in enumerate(times):
        assert number < 1.5 + (at - times[0]).total_seconds() / seconds, times


def run_sql(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        for statement in statements:
            conn.execute(statement)


TABLES = (
    "users", "queues", "plans", "settings", "clients", "conversations", "messages",
    "fivrec.applied", "fivrec.audit_log", "fivrec.migrations", "fivrec.usage_outbox",
)  # fmt: skip


def fingerprint(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Returns every row's xmin and ctid: equal if no row was rewritten. instance_config is compared by columns, since
    every check sets last_status_check; status_check_logs is left out, since every check adds to it."""
    found = {name: rows(url, f"SELECT xmin::text, ctid::text FROM {name} ORDER BY ctid") for name in TABLES}
    columns = (
        "id, instance_id, instance_key, connect_api_url, status, billing_status, enabled_features::text, "
        "check_interval_minutes, is_locked, created_at"
    )
    found["instance_config"] = rows(url, f"SELECT {columns} FROM instance_config ORDER BY id")
    return found
