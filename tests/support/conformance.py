"""schemathesis over the OpenAPI document of a served instance: no 5xx, every response as documented.

    python -m tests.support.conformance [-n CASES] [--st PROGRAM]

schemathesis lives in a venv of its own: it is made under ~/.cache/fivrec unless PROGRAM is given. The database is that
of the tests (tests/support/postgres_server.py); Connect is the emulator.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import secrets
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import psycopg

sys.path.insert(0, str(Path(__file__).parent))

from postgres_server import postgres_server

from reconciler.database.login_limit import LoginLimit
from reconciler.model.secret import Secret
from reconciler.support.crypto.key_files import generate_key
from reconciler.support.crypto.keyring import KeyRing
from reconciler.support.crypto.passwords import hash_password
from reconciler.web.openapi import load_document
from tests.support.databases import drop_database, with_database
from tests.support.fleet import serving
from tests.support.serving import served

CACHE = Path.home() / ".cache" / "fivrec" / "schemathesis"
CONFIG = """\
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 401, 403, 404, 409, 423, 428, 429]

[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 409, 413, 415, 423, 428, 429]
"""
EXAMPLE = load_document()["components"]["schemas"]["LoginRequest"]["examples"][0]
WORKERS = "1"
"""One: CPython 3.11 parses with a counter that threads share (gh-106905), and hypothesis parses while it generates."""
ROUTES = {"logout": "^logout$", "the rest": "^(?!logout$).*"}
"""logout revokes its token, so it gets a run and a token of its own."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--cases", type=int, default=25, help="cases a route and phase")
    parser.add_argument("--st", help="the schemathesis program")
    given = parser.parse_args()
    program = given.st or installed()
    if program is None:
        sys.stderr.write("NOT TESTED: conformance: schemathesis could not be installed\n")
        return 0
    with postgres_server() as server, tempfile.TemporaryDirectory() as folder:
        name = f"fivapp_{secrets.token_hex(6)}"
        with psycopg.connect(server, autocommit=True) as conn:
            conn.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
        try:
            return asyncio.run(run(Secret(with_database(server, name)), Path(folder), program, given.cases))
        finally:
            drop_database(server, name)


def installed() -> str | None:
    program = CACHE / "bin" / "st"
    if not program.exists():
        try:
            venv.create(CACHE, with_pip=True, clear=True)
            subprocess.run([CACHE / "bin" / "pip", "install", "-q", "schemathesis>=4,<5"], check=True, timeout=300)
        except (OSError, subprocess.SubprocessError):
            return None
    return str(program)


async def run(url: Secret, folder: Path, program: str, cases: int) -> int:
    keys = KeyRing.from_environ({"FIVREC_ENCRYPTION_KEY": generate_key()})
    (folder / "schemathesis.toml").write_text(CONFIG)
    worst = 0
    known = hash_password(Secret(EXAMPLE["password"]), 4)
    # Without this, the login limit (which has tests of its own) would answer nearly all the logins tried here.
    async with served(url, keys, folder, limit=LoginLimit(failures=10**9)) as one, serving(one.service) as address:
        one.sql("UPDATE users SET password = %s WHERE email = %s", known, EXAMPLE["email"])
        for title, routes in ROUTES.items():
            say(f"== {title}")
            code, said = await tested(
                program, folder, address, one.token_of(one.account(EXAMPLE["email"])), routes=routes, cases=cases
            )
            say(said)
            worst = max(worst, code)
        counted = one.sql("SELECT count(*) FROM fivrec.audit_log WHERE kind = 'call'")[0][0]
        say(f"{counted} calls were audited")
    return worst


async def tested(program: str, folder: Path, address: str, token: str, *, routes: str, cases: int) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        program, "--config-file", str(folder / "schemathesis.toml"), "--no-color", "run", f"{address}/openapi.json",
        "-H", f"Authorization: Bearer {token}", "--include-operation-id-regex", routes, "-n", str(cases),
        "--phases", "examples,coverage,fuzzing", "--continue-on-failure", "--workers", WORKERS,
        "--no-shrink", "--seed", "1",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=folder,
    )  # fmt: skip
    output, _ = await process.communicate()
    said = re.sub(re.escape(token), "TOKEN", output.decode(errors="replace"))
    return process.returncode or 0, said


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
