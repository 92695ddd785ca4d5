"""Any database that an app could have, with any manifest: either apply succeeds and the next is empty, or it ends with
a code of docs/errors.md and changes no row."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from hypothesis import HealthCheck, given, note, settings
from psycopg import sql

from reconciler.database.status_queries import HistoryFilter, LogFilter
from reconciler.engine.production_checks import production_test
from reconciler.engine.reconcile import preview, reconcile
from reconciler.engine.status_and_logs import query_checks, query_history, query_status
from reconciler.engine.usage import count_usage
from reconciler.model.errors import FivrecError
from reconciler.model.secret import Secret
from reconciler.model.types import Desired
from reconciler.planning.report import InstanceReport
from reconciler.planning.report_document import as_document
from reconciler.support.crypto.key_files import generate_key
from reconciler.support.crypto.keyring import KeyRing
from tests.support.databases import drop_database, with_database
from tests.support.engine import desired_of, document, run_of
from tests.support.generated_databases import OWN, SERVICE_TABLES, TABLES, Example, examples

pytestmark = pytest.mark.usefixtures("direct")  # a pooler would not know the logins

EXAMPLES = int(os.environ.get("FIVREC_GENERATED_DATABASES", "100"))
ROOT = Path(__file__).parents[3]
SEED = (ROOT / "tests/fixtures/seed.sql").read_text(encoding="utf-8")
CODES = {
    code: {int(number) for number in exits.split(", ")}
    for code, exits in re.findall(
        r"^\| <a id=\"\w+\"></a>`(\w+)` \| ([\d, ]+) \|",
        (ROOT / "docs/errors.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
}
RECORD = ("status", "billing_status", "enabled_features", "is_locked", "last_status_check")
"""What a check writes to instance_config, whatever happened to the rest."""

ROLES = {
    "owner": "",
    "creator": "CREATEROLE",
    "super": "SUPERUSER",
    "member": "IN ROLE {owner}",
}


@dataclass
class Ground:
    """A server, its logins, and a template for each kind of database, made on first use."""

    server: str
    suffix: str
    keys: KeyRing
    folder: Path
    templates: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def role(self, name: str) -> str:
        return f"{name}_{self.suffix}"

    def url(self, database: str, login: str) -> Secret:
        parts = urlsplit(with_database(self.server, database))
        return Secret(urlunsplit(parts._replace(netloc=f"{self.role(login)}:x@{parts.netloc.rpartition('@')[2]}")))

    def run(self, database: str, *statements: str) -> None:
        with psycopg.connect(with_database(self.server, database), autocommit=True) as conn:
            for statement in statements:
                conn.execute(statement.encode())

    def make(self, name: str, template: str, owner: str) -> None:
        made = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}")
        with psycopg.connect(self.server, autocommit=True) as conn:
            conn.execute(made.format(*map(sql.Identifier, (name, self.role(owner), template))))

    def template(self, base: str, schema: str, owner: str) -> str:
        known = self.templates.get((base, schema, owner))
        if known is not None:
            return known
        name = self.templates[base, schema, owner] = f"fivapp_template_{secrets.token_hex(4)}"
        self.make(name, "template0", owner)
        begin = (f'CREATE SCHEMA IF NOT EXISTS "{schema}"', f'GRANT ALL ON SCHEMA "{schema}" TO PUBLIC')
        become = (f"SET ROLE {self.role(owner)}", f'SET search_path = "{schema}", public')
        self.run(name, *begin, "CREATE EXTENSION IF NOT EXISTS citext", *become)
        if base == "applied":
            desired = in_schema(desired_of(document(), self.url(name, owner)), schema)
            report = asyncio.run(reconcile(desired, run_of(self.keys, self.folder)))
            assert report.error is None, report.error
        made = {"seed": SEED, "all": SEED + SERVICE_TABLES}.get(base, "")
        self.run(name, *become, made + OWN)
        return name

    @contextmanager
    def database(self, example: Example) -> Iterator[str]:
        """Yields a database of the example after its steps; drops it afterwards."""
        owner = "creator" if example.login == "creator" else "owner"
        name = f"fivapp_{secrets.token_hex(6)}"
        self.make(name, self.template(example.base, example.schema, owner), owner)
        try:
            with psycopg.connect(with_database(self.server, name)) as conn:
                conn.execute(f'SET ROLE {self.role(owner)}; SET search_path = "{example.schema}", public'.encode())
                for number, step in enumerate(example.steps):
                    text = step.replace("app_own", f"app_own_{number}").replace("{s}", f'"{example.schema}"')
                    try:
                        with conn.transaction():
                            conn.execute(text.encode())
                    except psycopg.Error as exc:
                        note(f"left out: {step}: {exc.diag.message_primary}")
            yield name
        finally:
            drop_database(self.server, name)

    def rows(self, database: str, schema: str) -> dict[str, list[str]]:
        """Returns every row of the app's tables as text, without the columns of instance_config that a check writes."""
        with psycopg.connect(with_database(self.server, database), autocommit=True) as conn:
            found = conn.execute(COLUMNS, (schema, [*TABLES], [*RECORD])).fetchall()
            return {
                table: [
                    row
                    for (row,) in conn.execute(
                        sql.SQL("SELECT ROW({})::text AS row FROM {} ORDER BY 1").format(
                            sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Identifier(schema, table)
                        )
                    )
                ]
                for table, columns in found
            }


COLUMNS = """
SELECT c.relname, array_agg(a.attname::text ORDER BY a.attname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
WHERE n.nspname = %s AND c.relname = ANY (%s) AND c.relname <> 'status_check_logs'
  AND a.attnum > 0 AND NOT a.attisdropped AND NOT (c.relname = 'instance_config' AND a.attname = ANY (%s))
GROUP BY c.relname ORDER BY c.relname
"""


def in_schema(desired: Desired, schema: str) -> Desired:
    return replace(desired, database=replace(desired.database, schema=schema))


@pytest.fixture(scope="module")
def ground(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    keys = KeyRing.from_environ({"FIVREC_ENCRYPTION_KEY": generate_key()})
    made = Ground(postgres_url, secrets.token_hex(4), keys, tmp_path_factory.mktemp("generated"))
    maintenance = urlsplit(postgres_url).path.lstrip("/")
    with ExitStack() as stack:
        for name, attributes in ROLES.items():
            more = attributes.format(owner=made.role("owner"))
            made.run(maintenance, f"CREATE ROLE {made.role(name)} LOGIN PASSWORD 'x' {more}")
            stack.callback(made.run, maintenance, f"DROP ROLE {made.role(name)}")
        yield made
        for template in made.templates.values():
            drop_database(postgres_url, template)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=bool(os.environ.get("CI")),  # so that a change is tested with the same databases as the one before it
)
@given(example=examples())
@pytest.mark.slow
def test_applied_for_good_or_refused_with_no_row_changed(ground: Ground, example: Example) -> None:
    with ground.database(example) as name:
        assert asyncio.run(found_wrong(ground, name, example)) == []


async def found_wrong(ground: Ground, name: str, example: Example) -> list[str]:
    """Returns what went wrong with one database: normally nothing."""
    more = {} if example.connect else {"connect": None}
    desired = in_schema(desired_of(example.manifest, ground.url(name, example.login), **more), example.schema)
    before = ground.rows(name, example.schema)
    planned = await preview(desired, run_of(ground.keys, ground.folder))
    wrong = [] if ground.rows(name, example.schema) == before else ["the dry run wrote"]
    accept = frozenset({planned.digest} if planned.digest else ())
    report = await reconcile(desired, run_of(ground.keys, ground.folder, 2, accept=accept))
    if report.error is None:
        wrong += await _not_settled(ground, desired, planned, report)
    else:
        wrong += _ill_refused(report, planned)
        if ground.rows(name, example.schema) != before:
            wrong.append(f"rows were changed, and then {report.error}")
    return [*wrong, *await _fails_to_read(ground, desired)]


async def _not_settled(ground: Ground, desired: Desired, planned: InstanceReport, report: InstanceReport) -> list[str]:
    wrong = []
    said, done = as_document(planned)["changes"], as_document(report)["changes"]
    if planned.error is not None or said != done:
        wrong.append(f"the dry run had said {planned.error or said}, done was {done}")
    again = await reconcile(desired, run_of(ground.keys, ground.folder, 3))
    after = await preview(desired, run_of(ground.keys, ground.folder, 4))
    for name, ended in (("apply", again), ("diff", after)):
        if (ended.outcome, ended.changes, ended.error, ended.exit_code) != ("in_sync", (), None, 0):
            wrong.append(f"a second {name}: {ended.outcome} {ended.error} {as_document(ended)['changes']}")
    return wrong


def _ill_refused(report: InstanceReport, planned: InstanceReport) -> list[str]:
    assert report.error is not None
    code = report.error.code
    if code in ("internal", "failed", "database_error", "guard") or report.exit_code not in CODES.get(code, ()):
        return [f"refused in other words than the documentation's, exit {report.exit_code}: {report.error}"]
    if planned.error is not None and planned.error.code in ("internal", "failed", "database_error"):
        return [f"the dry run: {planned.error}"]
    return [] if report.error.hint else [f"no hint: {report.error}"]


async def _fails_to_read(ground: Ground, desired: Desired) -> list[str]:
    """Returns which reading commands end with an error that is not in docs/errors.md."""
    run, wrong = run_of(ground.keys, ground.folder, 5), []
    asked: dict[str, Callable[[], Awaitable[Any]]] = {
        "status": lambda: query_status(desired, run),
        "logs": lambda: query_checks(desired, run, LogFilter()),
        "history": lambda: query_history(desired, run, HistoryFilter(limit=10)),
        "usage": lambda: count_usage(desired, run),
        "production-test": lambda: production_test(desired, run, allow_embedded=True),
    }
    for command, ask in asked.items():
        try:
            await ask()
        except FivrecError as exc:
            if exc.code not in CODES or exc.code in ("internal", "failed", "database_error"):
                wrong.append(f"{command}: {exc.code}: {exc}")
        except Exception as exc:  # noqa: BLE001 (which is what is looked for)
            wrong.append(f"{command}: {type(exc).__name__}: {exc}")
    return wrong
