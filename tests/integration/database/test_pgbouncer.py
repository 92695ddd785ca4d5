"""What is special behind PgBouncer in transaction mode. FIVREC_TEST_PGBOUNCER=1 runs other tests through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from reconciler.database.pool import PREPARE_AFTER, ConnectionPool
from reconciler.database.transaction import lock_key
from reconciler.engine.reconcile import preview, reconcile
from reconciler.model.secret import Secret
from reconciler.support.crypto.keyring import KeyRing
from tests.support.connections import lent
from tests.support.databases import drop_database, with_database
from tests.support.engine import INSTANCE, desired_of, document, run_of
from tests.support.pgbouncer import is_asked_for, through_pgbouncer

DEFAULT_RETRY_S = 15


@pytest.fixture
def pooled_url(postgres_url: str) -> Iterator[str]:
    """A PgBouncer with its default settings."""
    if is_asked_for():
        yield postgres_url
        return
    with through_pgbouncer(postgres_url, retry_s=DEFAULT_RETRY_S) as url:
        yield url


@pytest.mark.slow
async def test_a_database_that_was_just_found_missing_is_made_and_used(
    pooled_url: str, fresh_name: Callable[[], str], keys: KeyRing, tmp_path: Path
) -> None:
    """PgBouncer keeps clients of a missing database waiting for 15 s; here a diff before the apply triggers that."""
    name = fresh_name()
    desired, run = desired_of(document(), Secret(with_database(pooled_url, name))), run_of(keys, tmp_path)
    try:
        assert (await preview(desired, run)).outcome == "changed"
        report = await reconcile(desired, run)
        assert (report.outcome, report.error) == ("changed", None)
        assert (await reconcile(desired, run)).outcome == "in_sync"
    finally:
        drop_database(pooled_url, name)


async def test_a_login_that_pgbouncer_looks_up_makes_its_database_too(
    postgres_url: str, fresh_name: Callable[[], str], keys: KeyRing, tmp_path: Path
) -> None:
    """With auth_query, PgBouncer asks the missing database who may log in, and rejects clients that retry soon."""
    name = fresh_name()
    if is_asked_for():
        pytest.skip("its PgBouncer knows this one alone")
    with psycopg.connect(postgres_url, autocommit=True) as conn:
        conn.execute(f"CREATE ROLE {name} LOGIN CREATEDB PASSWORD 'looked-up'")
    try:
        with through_pgbouncer(postgres_url) as url:
            own = urlsplit(with_database(url, name))
            looked_up = urlunsplit(own._replace(netloc=f"{name}:looked-up@{own.hostname}:{own.port}"))
            report = await reconcile(desired_of(document(), Secret(looked_up)), run_of(keys, tmp_path))
        assert (report.outcome, report.error) == ("changed", None)
    finally:
        drop_database(postgres_url, name)
        with psycopg.connect(postgres_url, autocommit=True) as conn:
            conn.execute(f"DROP ROLE {name}")


async def test_nothing_of_a_run_is_left_on_the_pooled_connection(
    pooled_url: str, fresh_name: Callable[[], str], keys: KeyRing, tmp_path: Path
) -> None:
    """Another client gets the same server connection: no lock, setting or role of the run may remain on it."""
    name = fresh_name()
    url = Secret(with_database(pooled_url, name))
    with psycopg.connect(pooled_url, autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name}")
    try:
        for _ in range(2):
            report = await reconcile(desired_of(document(), url), run_of(keys, tmp_path))
            assert report.error is None
        with psycopg.connect(url.reveal(), autocommit=True, prepare_threshold=None) as other:
            found = other.execute(
                "SELECT current_setting('lock_timeout'), current_setting('statement_timeout'), "
                "current_setting('idle_in_transaction_session_timeout'), current_user = session_user, "
                "coalesce(current_setting('fiv.environment', true), ''), "
                "(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory')"
            ).fetchone()
            assert found == ("0", "0", "0", True, "", 0)
            assert other.execute("SELECT pg_try_advisory_xact_lock(%s)", (lock_key(INSTANCE),)).fetchone() == (True,)
    finally:
        drop_database(pooled_url, name)


async def test_kept_connections_prepare_statements_without_a_pooler(database: Secret, pooled_url: str) -> None:
    """The pooler may run the next transaction on another server, which lacks the prepared statements."""
    found: dict[str, int | None] = {}
    for name, url in (("straight", database), ("pooled", Secret(pooled_url))):
        pool = ConnectionPool()
        async with lent(pool, url) as conn:
            found[name] = conn.prepare_threshold
        await pool.aclose()
    assert found == {"straight": None if is_asked_for() else PREPARE_AFTER, "pooled": None}
