"""Canary secrets, every form in which they could leak, and fivrec run in this process with all its output recorded."""

from __future__ import annotations

import base64
import html
import io
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, quote_plus

import psycopg
import pytest

from reconciler.cli.main import main

NASTY = """ "q' +/= \\ço%41&<é☕"""
"""Follows each canary's own letters: quotes, characters of base64 and URLs, a space, non-ASCII."""


@dataclass(frozen=True)
class Canary:
    """A secret. Only its letters are searched for, so that a partial or an escaped leak is found as well."""

    name: str
    letters: str
    value: str

    def forms(self) -> dict[str, str]:
        """Returns every way to write the secret; base64 of its letters at each of the three alignments."""
        raw = self.value.encode("utf-8", "surrogateescape")
        found = {
            "plain": self.letters,
            "hex": self.letters.encode().hex(),
            "json": json.dumps(self.value)[1:-1],
            "repr": repr(self.value)[1:-1],
            "url": quote(self.value, safe=""),
            "url in a path": quote(self.value),
            "form": quote_plus(self.value),
            "html": html.escape(self.value),
            "bytea": raw.hex(),
            "base64": base64.b64encode(raw).decode().rstrip("="),
            "base64url": base64.urlsafe_b64encode(raw).decode().rstrip("="),
        }
        for shift in range(3):
            text = base64.b64encode(b"\0" * shift + self.letters.encode()).decode().rstrip("=")
            found[f"base64 at {shift}"] = text[(0, 2, 3)[shift] : -1 if (shift + len(self.letters)) % 3 else None]
        return found


def made_canary(name: str, letters: str, tail: str = NASTY) -> Canary:
    return Canary(name, letters, letters + tail)


def key_canary(material: bytes) -> Canary:
    text = base64.urlsafe_b64encode(material).decode()
    return Canary("encryption key", text[4:34], text)


@dataclass
class Ended:
    code: int
    stdout: str
    stderr: str
    arguments: str


@dataclass
class Recorder:
    """Records the arguments of child processes while `open`."""

    open: bool = False
    seen: list[str] = field(default_factory=list)

    def __call__(self, event: str, args: tuple[object, ...]) -> None:
        if self.open and event in ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system"):
            self.seen.append(repr(args[:2]))


RECORDER = Recorder()
sys.addaudithook(RECORDER)


def call(words: tuple[str, ...], env: Mapping[str, str], folder: Path, stdin: str = "") -> Ended:
    """Runs the command in this process. Returns its exit code and all its output."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace") for _ in range(2))
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    RECORDER.seen.clear()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err), warnings_to(err):
        patch.chdir(folder)
        for name in list(os.environ):
            patch.delenv(name)
        for name, value in {**kept, **env}.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["fivrec", *words])
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        RECORDER.open = True
        try:
            main()
        except SystemExit as exc:
            code = exc.code if isinstance(exc.code, int) else 0
        finally:
            RECORDER.open = False
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode())  # type: ignore[attr-defined]
    return Ended(code, *texts, "\n".join(RECORDER.seen))


@contextmanager
def warnings_to(stream: io.TextIOWrapper) -> Iterator[None]:
    """Send what libraries log from WARNING on to the stream, as Python does with stderr if there is no handler."""
    handler = logging.StreamHandler(stream)
    handler.setLevel(logging.WARNING)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


def database_text(url: str, *, without_key: bool = False) -> str:
    """Returns every row of every table, the app's and fivrec's, except the secret setting, which is in plain text for
    the app to read. `without_key` leaves instance_config.instance_key out."""
    shown = "(to_jsonb(t) - 'instance_key')::text" if without_key else "t::text"
    with psycopg.connect(url, autocommit=True) as conn:
        tables = conn.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname IN ('public', 'fivrec')"
        ).fetchall()
        return "\n".join(
            str(row[0])
            for (table,) in sorted(tables)
            for row in conn.execute(
                f"SELECT {shown} FROM {table} t" + (" WHERE key <> 'smtp'" if table == "public.settings" else "")
            ).fetchall()
        )


def files_text(folder: Path, meant: tuple[str, ...]) -> str:
    """Returns the content of all files below the folder, except those that are meant to hold a secret."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in meant]
    return "\n".join(f"{path}\n{path.read_bytes().decode('utf-8', 'replace')}" for path in found)


def leaks(canaries: tuple[Canary, ...], places: Mapping[str, str]) -> list[str]:
    """Returns which canary leaked where and in which form, without the text itself."""
    return [
        f"{canary.name} in {place} ({form})"
        for place, text in places.items()
        for canary in canaries
        for form, written in canary.forms().items()
        if written in text
    ]
