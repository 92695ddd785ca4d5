"""A fleet on a queue: instances with a database each, a Connect, the queue's database, scheduler and workers."""

from __future__ import annotations

import base64
import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg
from psycopg import sql

from tests.support.connect_running import ConnectServer, running_connect
from tests.support.harness import PASSWORD, Fivrec, rows
from tests.support.watching import Watching

FLEET = """\
version: 1
defaults:
  environment: production
  database: {{url: "{url}"}}
  config:
    connect_api_url: {{env: FIV_APP_API_URL}}
    instance_key: {{env: "KEY_{{{{ instance }}}}"}}
    company_name: {company}
  queues: [{{name: Support, description: Suporte}}, {{name: Sales}}]
  plans: {{source: connect}}
instances: {{csv: clients.csv}}
"""


@dataclass
class RunningFleet:
    """The environment of `fivrec` has what every command of the fleet needs."""

    fivrec: Fivrec
    connect: ConnectServer
    postgres: str
    prefix: str
    names: tuple[str, ...]
    started: list[Watching] = field(default_factory=list)

    @property
    def queue(self) -> str:
        return self.url("queue")

    def url(self, instance: str) -> str:
        return urlsplit(self.postgres)._replace(path=f"/{self.prefix}_{instance}").geturl()

    def declare(self, company: str = "Empresa", folder: str = "fleet") -> None:
        parts = urlsplit(self.postgres)
        url = f"postgresql://{parts.username}@{parts.hostname}:{parts.port}/{self.prefix}_{{{{ instance }}}}"
        self.fivrec.write("\n".join(["instance", *self.names]) + "\n", f"{folder}/clients.csv")
        self.fivrec.write(FLEET.format(url=url, company=company), f"{folder}/fleet.yaml")

    def start(self, *words: str) -> Watching:
        """Start a process of `fivrec fleet` and read its log as it comes."""
        process = self.fivrec.start("fleet", *words, "--log-format", "json")
        found = Watching(process)

        def read() -> None:
            assert process.stderr is not None
            for line in process.stderr:
                with suppress(ValueError):
                    found.events.append(json.loads(line))
                    continue
                found.other.append(line)

        Thread(target=read, daemon=True).start()
        self.started.append(found)
        return found

    def stop_all(self) -> None:
        for one in self.started:
            if one.process.poll() is None:
                one.process.send_signal(signal.SIGCONT)
                one.process.terminate()
        for one in self.started:
            one.process.wait(60)

    def status(self) -> dict[str, Any]:
        ended = self.fivrec.run("fleet", "status", "-o", "json")
        assert ended.code in (0, 5), ended.stderr
        return ended.json

    def queue_rows(self, query: str) -> list[tuple[Any, ...]]:
        return rows(self.queue, query)

    def of_each(self, query: str) -> dict[str, list[tuple[Any, ...]]]:
        """Returns a query's rows from every instance's database."""
        with ThreadPoolExecutor(4) as pool:
            return dict(zip(self.names, pool.map(lambda name: rows(self.url(name), query), self.names), strict=True))


@contextmanager
def running_fleet(folder: Path, postgres: str, prefix: str, count: int) -> Iterator[RunningFleet]:
    """Start all but scheduler and workers; at the end remove all that was started or made."""
    names = tuple(f"c{number:03}" for number in range(count))
    (folder / "connect").mkdir()
    with running_connect(folder / "connect") as connect:
        environment = {
            **{f"KEY_{name}": connect.key(name).reveal() for name in names},
            "FIVREC_ENCRYPTION_KEY": base64.urlsafe_b64encode(bytes(range(32))).decode(),
            "FIV_APP_API_URL": connect.url,
            "FIV_ADMIN_PASSWORD": PASSWORD,
            "PGPASSWORD": unquote(urlsplit(postgres).password or ""),
            "SSL_CERT_FILE": connect.ca_file,
            "NO_COLOR": "1",
        }
        fleet = RunningFleet(Fivrec(folder, environment), connect, postgres, prefix, names)
        fleet.fivrec.env["FIVREC_QUEUE_URL"] = fleet.queue
        fleet.declare()
        try:
            ended = fleet.fivrec.run("fleet", "init")
            assert ended.code == 0, ended.stderr
            yield fleet
        finally:
            fleet.stop_all()
            with psycopg.connect(postgres, autocommit=True) as conn:
                query = "SELECT datname FROM pg_database WHERE starts_with(datname, %s)"
                for (name,) in conn.execute(query, (prefix,)).fetchall():
                    conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
