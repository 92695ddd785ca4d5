"""Files that change under a service: keys take effect at once; SIGHUP reads everything again and ends nothing."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from subprocess import Popen, TimeoutExpired
from threading import Thread

import pytest

from reconciler.support.crypto.key_files import generate_key
from reconciler.support.crypto.keyring import KeyRing
from tests.acceptance.test_serve import ask, log_in, serving
from tests.support.harness import INSTANCE, Fivrec, manifest, rows, run_sql
from tests.support.watching import until, watching


def put(path: Path, *keys: str) -> str:
    """Write the file with these keys, replaced atomically as a secret's mount is."""
    draft = path.with_name(path.name + ".new")
    draft.write_text("\n".join(keys) + "\n")
    draft.chmod(0o600)
    draft.replace(path)
    return str(path)


def test_a_watch_goes_on_through_a_rotation_of_its_keys(fivrec: Fivrec, url: str) -> None:
    old, new = fivrec.env.pop("FIVREC_ENCRYPTION_KEY"), generate_key()
    keys = fivrec.folder / "keys"
    fivrec.env["FIVREC_ENCRYPTION_KEY_FILE"] = put(keys, old)
    assert fivrec.apply().code == 0
    with watching(fivrec, "--every", "500ms") as watch:
        until(lambda: watch.of("status_check", instance=INSTANCE))
        put(keys, new, old)
        assert fivrec.run("key", "rotate", "client.yaml").code == 0
        put(keys, new)
        seen = len(watch.of("status_check", instance=INSTANCE))
        until(lambda: len(watch.of("status_check", instance=INSTANCE)) >= seen + 4)
        fivrec.write(manifest(name="Nome da Empresa|Outra"))
        until(lambda: rows(url, "SELECT value FROM settings WHERE key = 'company_name'") == [("Outra",)])
    wrong = [event for event in watch.events if event.get("error")]
    assert wrong == []
    ((stored,),) = rows(url, "SELECT instance_key FROM instance_config")
    assert str(stored).startswith(f"fivenc:v1:{KeyRing.from_environ({'FIVREC_ENCRYPTION_KEY': new}).first_id}:")


def test_a_token_key_that_is_taken_out_ends_its_tokens(fivrec: Fivrec) -> None:
    assert fivrec.apply().code == 0
    first, second, keys = generate_key(), generate_key(), fivrec.folder / "jwt"
    path = put(keys, first)
    with serving(fivrec, "client.yaml", FIVREC_JWT_KEY="", FIVREC_JWT_KEY_FILE=path) as (url, process):

        def asked(token: str) -> int:
            answer = ask("GET", f"{url}/api/instance/config", headers={"Authorization": f"Bearer {token}"})
            return answer.status_code

        token = log_in(url)
        assert asked(token) == 200
        put(keys, "too short")
        process.send_signal(signal.SIGHUP)
        assert asked(token) == 200  # an unreadable file changes nothing
        put(keys, second)
        until(lambda: asked(token) == 401)
        assert asked(log_in(url)) == 200


@pytest.fixture
def queue(fivrec: Fivrec, url: str) -> Iterator[str]:
    """The URL of a fleet's queue."""
    server, _, name = url.rpartition("/")
    try:
        assert fivrec.run("fleet", "init", "--queue-url", "env:QUEUE", QUEUE=f"{server}/{name}_queue").code == 0
        yield f"{server}/{name}_queue"
    finally:
        run_sql(f"{server}/postgres", f'DROP DATABASE IF EXISTS "{name}_queue" WITH (FORCE)')


@pytest.mark.parametrize("command", ["watch", "serve", "connect serve", "fleet schedule", "fleet worker"])
def test_sighup_ends_no_service(command: str, fivrec: Fivrec, queue: str) -> None:
    assert fivrec.apply().code == 0
    words = {
        "fleet schedule": ("fleet", "schedule", "client.yaml", "--queue-url", "env:QUEUE"),
        "fleet worker": ("fleet", "worker", "client.yaml", "--queue-url", "env:QUEUE"),
        "watch": ("watch", "client.yaml", "--every", "1h"),
        "serve": ("serve", "client.yaml", "--listen", "127.0.0.1:0"),
        "connect serve": ("connect", "serve", "--listen", "127.0.0.1:0", "--state", "connect.json"),
    }[command]
    process = fivrec.start(*words, FIVREC_JWT_KEY=generate_key(), QUEUE=queue)
    lines: list[str] = []
    reader = Thread(target=lambda: lines.extend(process.stderr or ()), daemon=True)
    reader.start()
    until(lambda: lines)
    process.send_signal(signal.SIGHUP)
    if command != "connect serve":  # it logs nothing: certificate and state are read on each use
        until(lambda: any("SIGHUP" in line for line in lines))
    until(lambda: ended_by(process, signal.SIGTERM))
    reader.join(60)
    assert process.returncode == 143


def ended_by(process: Popen[str], number: signal.Signals) -> bool:
    """Send the signal, then SIGHUP until the very end. Returns whether the signal ended the process."""
    process.send_signal(number)
    for _ in range(2000):
        with suppress(TimeoutExpired):
            return process.wait(0.005) == 128 + number
        process.send_signal(signal.SIGHUP)
    return False
