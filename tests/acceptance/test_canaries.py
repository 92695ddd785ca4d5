"""No secret leaves the process: canaries in every command and every kind of failure, searched for in every form."""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from reconciler.model.secret import Secret
from tests.support import canaries
from tests.support.canaries import Canary, Ended, call, key_canary, made_canary
from tests.support.canary_paths import BAD_INPUT, BAD_WORLD, COMMANDS, SECRET_SETTING, Path
from tests.support.echoing import Echo, echoing
from tests.support.harness import run_sql

Record = Callable[[str, object], None]
FORMS = (("console", None), ("json", "json"), ("console", "markdown"))
MARKDOWN = (
    *("apply", "diff", "check", "status", "logs", "history", "plans", "databases"),
    *("usage", "production-test", "purge", "validate"),
)


@dataclass
class World:
    folder: FilePath
    echo: Echo
    admin_url: str
    key: Canary
    password: Canary
    db: Canary
    encryption: Canary
    setting: Canary
    env: dict[str, str] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)

    @property
    def canaries(self) -> tuple[Canary, ...]:
        return self.key, self.password, self.db, self.encryption, self.setting

    def filled(self, text: str) -> str:
        for name, value in self.words.items():
            text = text.replace("{" + name + "}", value)
        return text

    def prepare(self, path: Path) -> dict[str, str]:
        """Set up files, rows and Connect for the path. Returns the environment."""
        self.echo.mode = path.mode
        files = {"client.yaml": SECRET_SETTING, **path.files}
        for name, text in files.items():
            content = text if isinstance(text, bytes) else text.encode()
            if name in path.files and b"{{ company" not in content:
                content = content.replace(b"{letters}", self.key.letters.encode())
                if isinstance(text, str):
                    content = self.filled(text.replace("{{", "{").replace("}}", "}")).encode()
            target = self.folder / name
            target.write_bytes(content)
        run_sql(self.admin_url, *(self.filled(one) for one in path.sql))
        changed = {name: None if value is None else self.filled(value) for name, value in path.env.items()}
        return {name: value for name, value in {**self.env, **changed}.items() if value is not None}

    def take(self, path: Path, log: str, output: str | None) -> tuple[Ended, list[str]]:
        env = self.prepare(path)
        words = tuple(self.filled(word) for word in path.words.split())
        more = ("-vv", "--log-format", log) if words[0] not in BARE else ()
        try:
            ended = call((*words, *more, *(("-o", output) if output else ())), env, self.folder)
        finally:
            # A key that the path itself put into the row is not a leak; anything else that contains it is.
            stored = canaries.database_text(self.admin_url, without_key="instance_key" in str(path.sql))
            run_sql(self.admin_url, *path.undo)
        files = canaries.files_text(self.folder / "work", ()) + canaries.files_text(
            self.folder / ".fivrec", ("encryption.key",)
        )
        for name in ("saved.plan", "report.html"):
            if name not in path.files and (self.folder / name).exists():
                files += (self.folder / name).read_text(encoding="utf-8", errors="replace")
        for name in path.files:
            (self.folder / name).unlink()
        places = {
            "stdout": ended.stdout,
            "stderr": ended.stderr,
            "arguments": ended.arguments,
            "rows": stored,
            "files": files,
        }
        return ended, canaries.leaks(self.canaries, places)


BARE = ("schema", "sql", "init", "completion", "connect")
"""Commands that log nothing, and so have no -v."""


@pytest.fixture
def world(tmp_path: FilePath, postgres_url: str, make_database: Callable[[], Secret]) -> Iterator[World]:
    letters = [f"zq{name}Canary7x" for name in ("Key", "Pwd", "Db", "Set")]
    key = made_canary("instance key", letters[0], """ "q' +/= \\x%41&<y""")
    password, db = made_canary("admin password", letters[1]), made_canary("database password", letters[2])
    setting = made_canary("secret setting", letters[3])
    encryption = key_canary(secrets.token_bytes(32))
    base, empty = make_database().reveal(), make_database().reveal()
    login = f"canary_{secrets.token_hex(4)}"
    with psycopg.connect(postgres_url, autocommit=True) as conn:
        made = sql.SQL("CREATE ROLE {} LOGIN SUPERUSER PASSWORD {}")
        conn.execute(made.format(sql.Identifier(login), sql.Literal(db.value)))

    def with_login(url: str, secret: str) -> str:
        parts = urlsplit(url)
        return urlunsplit(parts._replace(netloc=f"{login}:{quote(secret, safe='')}@{parts.netloc.rpartition('@')[2]}"))

    try:
        with echoing(tmp_path) as echo:
            found = World(tmp_path, echo, base, key, password, db, encryption, setting)
            found.env = {
                "PATH": os.environ["PATH"],
                "DATABASE_URL": with_login(base, db.value),
                "FIV_APP_API_URL": echo.url,
                "FIV_APP_API_KEY": key.value,
                "FIV_ADMIN_PASSWORD": password.value,
                "FIVREC_ENCRYPTION_KEY": encryption.value,
                "SMTP_PASSWORD": setting.value,
                "SSL_CERT_FILE": echo.ca_file,
            }
            found.words = {
                "key": key.value,
                "sql_key": key.value.replace("'", "''"),
                "sql_setting": setting.value.replace("'", "''"),
                "yaml_key": json.dumps(key.value),
                "password": password.value,
                "yaml_password": json.dumps(password.value),
                "quoted": quote(db.value, safe=""),
                "url": with_login(base, db.value),
                "wrong_url": with_login(base, db.value + "wrong"),
                "empty_url": with_login(empty, db.value),
                "base64": base64.b64encode(key.value.encode()).decode(),
                "half_key": encryption.value[:40],
                "letters": key.letters,
            }
            yield found
    finally:
        with psycopg.connect(postgres_url, autocommit=True) as conn:
            conn.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(login)))
            with psycopg.connect(base, autocommit=True) as inner:
                inner.execute(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(sql.Identifier(login)))
            with psycopg.connect(empty, autocommit=True) as inner:
                inner.execute(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(sql.Identifier(login)))
            conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(login)))


def taken(world: World, paths: tuple[Path, ...]) -> tuple[int, list[str]]:
    """Make all calls. Returns their number and what was wrong: leaks, and unexpected exit codes."""
    calls, wrong = 0, []
    for path in paths:
        for log, output in FORMS:
            if output and not path.outputs:
                continue
            if output == "markdown" and (paths is not COMMANDS or path.words.split()[0] not in MARKDOWN):
                continue
            ended, leaked = world.take(path, log, output)
            calls += 1
            wrong += [f"{path.name}, {log}, {output}: {leak}" for leak in leaked]
            if ended.code != path.code and (output is None or path.code != 0):
                wrong.append(f"{path.name}, {log}, {output}: ended with {ended.code}: {ended.stderr[-600:]}")
    return calls, wrong


def test_the_search_finds_a_secret_in_every_form(world: World) -> None:
    """A test of the search itself: each form of each canary is found where it was put."""
    for canary in world.canaries:
        for form, text in canary.forms().items():
            assert canaries.leaks((canary,), {"place": f"before{text}after"}), (canary.name, form)


@pytest.mark.slow
@pytest.mark.parametrize("paths", [COMMANDS, BAD_INPUT, BAD_WORLD], ids=["commands", "bad-input", "bad-world"])
def test_no_secret_leaves_the_process(world: World, paths: tuple[Path, ...], record_property: Record) -> None:
    if paths is not COMMANDS:
        assert world.take(Path("first", "apply client.yaml", 0), "console", None)[0].code == 0
    calls, wrong = taken(world, paths)
    record_property("paths searched for canaries", f"{len(paths)}, in {calls} calls")
    assert not wrong, "\n".join(wrong)
