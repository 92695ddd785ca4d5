"""No secret in the output of long-running commands at -vv: watch, serve, fleet schedule and worker, connect serve."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest

from tests.support import canaries
from tests.support.canaries import Canary
from tests.support.harness import INSTANCE, PASSWORD, Fivrec, rows, run_sql
from tests.support.watching import until

RUNS_S = 4.0
CHECKS = "SELECT count(*) FROM status_check_logs"


def secrets_of(fivrec: Fivrec) -> tuple[Canary, ...]:
    named = {
        "instance key": fivrec.env["FIV_APP_API_KEY"],
        "admin password": PASSWORD,
        "encryption key": fivrec.env["FIVREC_ENCRYPTION_KEY"],
        "database password": urlsplit(fivrec.env["DATABASE_URL"]).password or "",
        "token key": fivrec.env["FIVREC_JWT_KEY"],
    }
    return tuple(Canary(name, value, value) for name, value in named.items() if value)


def ended(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=60)
    return stdout + stderr


def disturb(fivrec: Fivrec, url: str, before: list[tuple[Any, ...]]) -> None:
    """Cause drift, an unreadable key, a failing Connect, a wrong manifest and then a correct one. `before`: the number
    of checks before the service was started."""
    run_sql(url, "UPDATE queues SET description = 'x'", "UPDATE instance_config SET instance_key = 'fivenc:v1:0:0'")
    fivrec.connect_set("--fail", "500")
    until(lambda: rows(url, CHECKS) != before)  # the service has begun, however slow the machine is
    time.sleep(RUNS_S / 2)
    fivrec.connect_set("--reset")
    run_sql(url, "UPDATE instance_config SET instance_key = 'plain'")
    time.sleep(RUNS_S / 2)


def asked(url: str, path: str, body: object = None, token: str = "") -> str:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    content = None if body is None else json.dumps(body).encode()
    try:
        with urlopen(Request(url + path, data=content, headers=headers), timeout=60) as answer:
            return str(answer.read().decode())
    except HTTPError as answer:
        return answer.read().decode() + str(answer.headers)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["console", "json"])
def test_no_secret_leaves_a_service(fivrec: Fivrec, url: str, form: str) -> None:
    fivrec.env["FIVREC_JWT_KEY"] = fivrec.run("key", "generate").stdout.strip()
    assert fivrec.apply().code == 0
    found: dict[str, str] = {}
    log, before = ("-vv", "--log-format", form), rows(url, CHECKS)
    watch = fivrec.start("watch", "client.yaml", "--every", "500ms", "--listen", "127.0.0.1:0", *log)
    disturb(fivrec, url, before)
    found["watch"] = ended(watch)
    assert "status_check" in found["watch"] or "status verified" in found["watch"]

    serve = fivrec.start("serve", "client.yaml", "--listen", "127.0.0.1:0", *log)
    assert serve.stderr is not None
    first = ""
    while (listens := re.search(r"http://127\.0\.0\.1:[0-9]+", first)) is None:
        first += serve.stderr.readline()
        assert serve.poll() is None, first
    address = listens[0]
    login = asked(address, "/api/auth/login", {"email": "admin@empresa.com", "password": PASSWORD})
    token = json.loads(login)["token"]
    answers = [login, asked(address, "/api/auth/login", {"email": "x@y.z", "password": PASSWORD})]
    answers += [asked(address, f"/api/{path}", token=token) for path in ("instance/config", "instance/status-logs")]
    answers += [asked(address, "/api/instance/check-status", {}, token), asked(address, "/api/instance/config")]
    found["serve"] = "".join(answers) + first + ended(serve)

    queue = url.rsplit("/", 1)[0] + "/" + url.rsplit("/", 1)[1] + "_queue"
    try:
        made = fivrec.run("fleet", "init", "--queue-url", "env:QUEUE", QUEUE=queue)
        found["fleet init"] = made.stdout + made.stderr
        words, before = ("client.yaml", "--queue-url", "env:QUEUE", *log), rows(url, CHECKS)
        schedule = fivrec.start("fleet", "schedule", *words, QUEUE=queue)
        worker = fivrec.start("fleet", "worker", *words, QUEUE=queue)
        disturb(fivrec, url, before)
        found["fleet"] = ended(schedule) + ended(worker)
    finally:
        run_sql(
            url.rsplit("/", 1)[0] + "/postgres", f'DROP DATABASE IF EXISTS "{queue.rsplit("/", 1)[1]}" WITH (FORCE)'
        )

    emulator = fivrec.start("connect", "serve", "--listen", "127.0.0.1:0", "--state", "connect.json")
    assert emulator.stderr is not None
    line = emulator.stderr.readline()
    place = line.rsplit(" ", 1)[-1].strip()
    found["connect serve"] = (
        line + asked(place, "/api/v1/plans") + asked(place, f"/api/v1/instances/{INSTANCE}/databases")
    )
    found["connect serve"] += ended(emulator)
    found["files"] = canaries.files_text(Path(fivrec.folder), ("connect.json",))
    assert canaries.leaks(secrets_of(fivrec), found) == []
