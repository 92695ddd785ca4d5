"""Fixtures for all tests: a PostgreSQL per session (and xdist worker), a database of its own per test."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg import sql

from reconciler.database.embedded.data_dir_and_user import SHARED
from reconciler.model.secret import Secret
from tests.support.databases import drop_database, with_database
from tests.support.pgbouncer import is_asked_for, through_pgbouncer
from tests.support.postgres_server import postgres_server

# Tests have no deadline: a busy machine generates inputs slowly too.
settings.register_profile("fivrec", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fivrec")

OWN_FOLDER = pytest.StashKey[Path]()
SEED = Path(__file__).parent / "fixtures" / "seed.sql"
COMPARED = "failed applies compared"
OUT_OF_TIME = "no time left (FIVREC_TEST_UNTIL)"
SLOW = Path(__file__).parent / "slow.txt"
"""Tests of more than 3 seconds, found by `pytest --durations=0 --durations-min=3`: left out unless -m selects them."""


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    for number in (signal.SIGINT, signal.SIGHUP):
        # A shell starts "pytest &" with SIGINT ignored, nohup with SIGHUP; the processes that the tests start and stop
        # by these signals would inherit that. A handler that does nothing is not inherited.
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    if not hasattr(config, "workerinput") and config.option.basetemp is None:
        config.option.basetemp = tempfile.mkdtemp(prefix="fivrec-pytest-")
        config.stash[OWN_FOLDER] = Path(config.option.basetemp)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """FIVREC_TEST_FIRST, a number: begin the slow ones there, so that a time limit leaves out others each time."""
    listed = set(SLOW.read_text(encoding="utf-8").splitlines())
    for item in items:
        if item.nodeid.partition("[")[0] in listed:
            item.add_marker(pytest.mark.slow)
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow and (given := os.environ.get("FIVREC_TEST_FIRST")):
        first = int(given) % len(slow)
        items[:] = [*slow[first:], *slow[:first], *(item for item in items if not item.get_closest_marker("slow"))]
    # A property takes minutes in CI: begin them first, so that no single worker still has one to run at the end.
    items.sort(key=lambda item: not item.nodeid.startswith("tests/property/"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """FIVREC_TEST_UNTIL, in seconds since 1970: tests that would start later are skipped, and counted at the end."""
    if time.time() > float(os.environ.get("FIVREC_TEST_UNTIL") or "inf"):
        pytest.skip(OUT_OF_TIME)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Remove the folder of a run that passed; keep what a failed run left, for a look."""
    folder = session.config.stash.get(OWN_FOLDER, None)
    if folder is not None and (exitstatus == pytest.ExitCode.OK or not any(folder.iterdir())):
        remove_data_of(folder)
        shutil.rmtree(folder, ignore_errors=True)


def remove_data_of(folder: Path) -> None:
    """Remove the data of embedded servers that root's tests started below `folder`: it lives elsewhere, as `nobody`
    can't reach that folder."""
    for origin in SHARED.glob("*/origin"):
        with suppress(FileNotFoundError):  # another run's, which ended meanwhile
            if Path(os.fsdecode(origin.read_bytes()).strip()).is_relative_to(folder):
                shutil.rmtree(origin.parent, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a server's maintenance database; its login may create databases and roles. With
    FIVREC_TEST_PGBOUNCER=1 it leads through a PgBouncer in transaction mode."""
    with postgres_server() as url:
        if not is_asked_for():
            yield url
            return
        with through_pgbouncer(url) as pooled:
            yield pooled


@pytest.fixture(autouse=True)
def unwritten(request: pytest.FixtureRequest) -> Iterator[None]:
    """Check in every test with a database that an apply that fails writes nothing but its record."""
    if "postgres_url" not in request.fixturenames:
        yield
        return
    from tests.support.unwritten import Unwritten

    unwritten = Unwritten(request.getfixturevalue("postgres_url"))
    with unwritten.watching():
        yield
    if unwritten.compared:
        request.node.user_properties.append((COMPARED, unwritten.compared))
    assert unwritten.wrong == []


@pytest.fixture
def direct() -> None:
    """For tests of the server itself, or of a connection kept by a pooler: skipped when they would run through one."""
    if is_asked_for():
        pytest.skip("about the server itself")


@pytest.fixture
def fresh_name() -> Callable[[], str]:
    return lambda: f"fivapp_{secrets.token_hex(6)}"


@pytest.fixture
def make_database(postgres_url: str, fresh_name: Callable[[], str]) -> Iterator[Callable[[], Secret]]:
    """Makes empty databases and drops them after the test."""
    made: list[str] = []

    def make() -> Secret:
        name = fresh_name()
        with psycopg.connect(postgres_url, autocommit=True) as conn:
            conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        made.append(name)
        return Secret(with_database(postgres_url, name))

    yield make
    for name in made:
        drop_database(postgres_url, name)


@pytest.fixture
def absent_database(postgres_url: str, fresh_name: Callable[[], str]) -> Iterator[Secret]:
    """The URL of a database that does not exist; if the test creates it, it is dropped afterwards."""
    name = fresh_name()
    yield Secret(with_database(postgres_url, name))
    drop_database(postgres_url, name)


@pytest.fixture
def database(make_database: Callable[[], Secret]) -> Secret:
    """The URL of an empty database."""
    return make_database()


@pytest.fixture
def seed_database(database: Secret) -> Secret:
    """The URL of a database made by the app: the seed's four tables, with rows."""
    with psycopg.connect(database.reveal(), autocommit=True) as conn:
        conn.execute(SEED.read_text())
    return database


@pytest.fixture
def owner_of(postgres_url: str) -> Iterator[Callable[[Secret], Secret]]:
    """Gives a database to a new login that is no superuser but may create roles. Returns the URL with that login."""
    made: list[tuple[Secret, str]] = []

    def give(url: Secret) -> Secret:
        name, password = f"fivrec_{secrets.token_hex(4)}", secrets.token_hex(8)
        parts = urlsplit(url.reveal())
        with psycopg.connect(postgres_url, autocommit=True) as conn:
            role, database = sql.Identifier(name), sql.Identifier(parts.path.lstrip("/"))
            conn.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEROLE PASSWORD {}").format(role, sql.Literal(password)))
            made.append((url, name))
            conn.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, role))
        address = parts.netloc.rpartition("@")[2]
        return Secret(urlunsplit(parts._replace(netloc=f"{name}:{password}@{address}")))

    yield give
    for url, name in made:
        role = sql.Identifier(name)
        with psycopg.connect(url.reveal(), autocommit=True) as conn:
            conn.execute(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(role))
            conn.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(role))
            conn.execute(sql.SQL("DROP ROLE {}").format(role))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures that tests measured (`record_property`), including those of other xdist workers."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    figures = [
        f"{report.nodeid}: {name}: {value}"
        for report in reports
        if getattr(report, "when", "") == "teardown"  # includes what the test's fixtures measured
        for name, value in report.user_properties
        if name != COMPARED
    ]
    compared = sum(value for report in reports for name, value in _ended(report) if name == COMPARED)
    if compared:
        figures.append(f"after {compared} applies that failed the rows were those before")
    if figures:
        terminalreporter.section("figures")
        for line in sorted(figures):
            terminalreporter.write_line(line)
    late = sum(OUT_OF_TIME in str(report.longrepr) for report in terminalreporter.stats.get("skipped", ()))
    if late:
        terminalreporter.write_line(f"SKIPPED: {late} tests: {OUT_OF_TIME}")


def _ended(report: Any) -> list[tuple[str, Any]]:
    return getattr(report, "user_properties", []) if getattr(report, "when", "") == "teardown" else []
