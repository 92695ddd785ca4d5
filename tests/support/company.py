"""A company that works by pull request: a bare repository, a developer's clone, a pipeline with its own, servers."""

from __future__ import annotations

import base64
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg
from psycopg import sql

from tests.support.connect_running import ConnectServer, running_connect
from tests.support.harness import Ended, Fivrec, rows

IDENTITY = {"NAME": "Dev", "EMAIL": "dev@empresa.com"}


@dataclass(frozen=True, slots=True)
class Clone:
    """A clone of the company's repository."""

    folder: Path

    def git(self, *words: str) -> str:
        return git(self.folder, *words)

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def push(self, branch: str, message: str) -> None:
        """Commit the clone's changes and push them as a pull request's branch."""
        self.git("checkout", "-q", "-B", branch)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        self.git("push", "-q", "-f", "origin", branch)

    def start(self) -> None:
        """Check out main as it is at the origin, to begin a change."""
        self.git("fetch", "-q", "origin")
        self.git("checkout", "-q", "-B", "main", "origin/main")

    def merge(self, branch: str) -> str:
        """Merge a pull request. Returns the merge commit."""
        self.start()
        self.git("merge", "-q", "--no-ff", "-m", f"Merge {branch}", f"origin/{branch}")
        self.git("push", "-q", "origin", "main")
        return self.git("rev-parse", "HEAD")


def git(folder: Path, *words: str) -> str:
    identity = {f"GIT_{who}_{what}": text for who in ("AUTHOR", "COMMITTER") for what, text in IDENTITY.items()}
    done = subprocess.run(
        ["git", "-C", str(folder), *words],
        env={**os.environ, **identity, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout.strip()


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The company's CI: its own clone, and fivrec in it."""

    clone: Clone
    fivrec: Fivrec

    def checkout(self, branch: str) -> str:
        self.clone.git("fetch", "-q", "origin")
        self.clone.git("checkout", "-q", "--detach", f"origin/{branch}")
        return self.clone.git("rev-parse", "HEAD")

    def review(self, branch: str, *words: str) -> Ended:
        """Review a pull request: the comment goes to stdout, the plan is saved beside the clone."""
        self.checkout(branch)
        self.plan.unlink(missing_ok=True)
        return self.fivrec.run("diff", "-o", "markdown", "--out", str(self.plan), *words)

    def apply(self, *words: str) -> Ended:
        return self.fivrec.run("apply", "-o", "json", *words)

    @property
    def plan(self) -> Path:
        return self.clone.folder.parent / "plan.json"


@dataclass(frozen=True, slots=True)
class Company:
    desk: Clone
    pipeline: Pipeline
    connect: ConnectServer
    postgres: str
    prefix: str
    keys: Path

    def url(self, instance: str) -> str:
        return urlsplit(self.postgres)._replace(path=f"/{self.prefix}_{instance}").geturl()

    def rows(self, instance: str, query: str) -> list[tuple[object, ...]]:
        return rows(self.url(instance), query)

    def databases(self) -> list[str]:
        """Returns the instances whose databases exist."""
        found = rows(self.postgres, "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", self.prefix)
        return sorted(str(name).removeprefix(f"{self.prefix}_") for (name,) in found)

    def let_in(self, instance: str, *, allowed: bool) -> None:
        """Refuse connections to a database, or allow them again."""
        name = sql.Identifier(f"{self.prefix}_{instance}")
        self.on_server(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(name, sql.Literal(allowed)))

    def on_server(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.postgres, autocommit=True) as conn:
            conn.execute(statement)

    def database_url(self) -> str:
        """Returns a URL for manifests: the password comes from PGPASSWORD, the instance's name from a template."""
        parts = urlsplit(self.postgres)
        return f"postgresql://{parts.username}@{parts.hostname}:{parts.port}/{self.prefix}_{{{{ instance }}}}"


@contextmanager
def company(folder: Path, postgres: str, prefix: str) -> Iterator[Company]:
    """Set everything up, with an empty main; drop the databases at the end."""
    for name in ("origin.git", "desk", "connect", "keys"):
        (folder / name).mkdir(parents=True)
    git(folder / "origin.git", "init", "-q", "--bare", "-b", "main")
    desk = Clone(folder / "desk")
    desk.git("init", "-q", "-b", "main")
    desk.git("remote", "add", "origin", str(folder / "origin.git"))
    desk.git("commit", "-q", "--allow-empty", "-m", "The beginning")
    desk.git("push", "-q", "origin", "main")
    git(folder, "clone", "-q", str(folder / "origin.git"), "pipeline")
    with running_connect(folder / "connect") as connect:
        clone = Clone(folder / "pipeline")
        fivrec = Fivrec(clone.folder, _environment(connect, postgres, folder / "keys"))
        made = Company(desk, Pipeline(clone, fivrec), connect, postgres, prefix, folder / "keys")
        try:
            yield made
        finally:
            for instance in made.databases():
                name = sql.Identifier(f"{prefix}_{instance}")
                made.on_server(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))


def _environment(connect: ConnectServer, postgres: str, keys: Path) -> dict[str, str]:
    return {
        "FIVREC_ENCRYPTION_KEY": base64.urlsafe_b64encode(bytes(range(32))).decode(),
        "FIV_APP_API_URL": connect.url,
        "FIVREC_APPLY_SECRETS_DIR": str(keys),
        "FIVREC_DIFF_SECRETS_DIR": str(keys),
        "FIV_ADMIN_PASSWORD": "senha-segura-123",
        "PGPASSWORD": unquote(urlsplit(postgres).password or ""),
        "SSL_CERT_FILE": connect.ca_file,
        "GITLAB_USER_LOGIN": "pipeline",
        "NO_COLOR": "1",
    }


def register(company: Company, *instances: str) -> None:
    """Make Connect know the instances, and give their keys to the pipeline."""
    for instance in instances:
        (company.keys / instance).write_text(company.connect.key(instance).reveal())


def readable(comment: str) -> str:
    """Returns a comment's words as its reader sees them: entities resolved, tags removed."""
    import html

    return html.unescape(re.sub(r"</?(code|summary)>", "", comment))
