"""What a run says once about a session: another time zone (fivrec itself writes UTC), a replica, or an old
server."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from urllib.parse import urlsplit

import psycopg
import pytest

from reconciler.cli.status import say_none
from reconciler.database.connection import Connection
from reconciler.engine.export import export, export_server
from reconciler.engine.observe import note_server
from reconciler.engine.reconcile import preview, reconcile
from reconciler.engine.run import Run
from reconciler.engine.usage import count_usage
from reconciler.model.secret import Secret
from reconciler.support.crypto.keyring import KeyRing
from reconciler.support.log import EventLog
from tests.support.databases import owning
from tests.support.engine import desired_of, document, run_of

SAID = "begin in the time zone America/Sao_Paulo, not in UTC"


@pytest.fixture
def logged(keys: KeyRing, tmp_path: Path) -> tuple[Run, io.StringIO]:
    stream = io.StringIO()
    return replace(run_of(keys, tmp_path), log=EventLog(stream)), stream


@pytest.fixture
def set_zone(database: Secret) -> Callable[[str, str], None]:
    def change(of: str, zone: str) -> None:
        parts = urlsplit(database.reveal())
        name = parts.path.lstrip("/") if of == "DATABASE" else parts.username
        suffix = "" if of == "DATABASE" else f" IN DATABASE {parts.path.lstrip('/')}"
        owning(database, f"ALTER {of} {name}{suffix} SET timezone = '{zone}'")

    return change


@pytest.mark.usefixtures("direct")
@pytest.mark.parametrize("of", ["DATABASE", "ROLE"])
async def test_another_time_zone_is_reported_once_per_run(
    of: str, database: Secret, logged: tuple[Run, io.StringIO], set_zone: Callable[[str, str], None]
) -> None:
    run, stream = logged
    set_zone(of, "America/Sao_Paulo")
    desired = desired_of(document(plans=None), database, connect=None)
    assert (await reconcile(desired, run)).outcome == "changed"
    assert (await preview(desired, run)).outcome == "in_sync"
    await count_usage(desired, run)
    await export(desired, run, environment=None, plans=None)
    assert stream.getvalue().count(SAID) == 1
    again = replace(run, noted=set())
    await count_usage(desired, again)
    assert stream.getvalue().count(SAID) == 2
    await export_server(desired, replace(run, noted=set()), environment=None, plans=None)
    assert stream.getvalue().count(SAID) == 3


@pytest.mark.usefixtures("direct")
async def test_fivrecs_own_rows_are_utc_in_any_zone(
    database: Secret, logged: tuple[Run, io.StringIO], set_zone: Callable[[str, str], None]
) -> None:
    run, _ = logged
    set_zone("DATABASE", "Asia/Kolkata")
    await reconcile(desired_of(document(), database), run)
    now = datetime.now(UTC).replace(tzinfo=None)
    with psycopg.connect(database.reveal()) as conn:
        row = conn.execute(
            "SELECT (SELECT max(created_at) FROM status_check_logs), "
            "(SELECT max(last_status_check) FROM instance_config), "
            "(SELECT max(at) AT TIME ZONE 'UTC' FROM fivrec.audit_log)"
        ).fetchone()
    assert row is not None
    assert all(abs(now - at) < timedelta(minutes=5) for at in row)


@pytest.mark.usefixtures("direct")
@pytest.mark.parametrize("zone", ["UTC", "Etc/UTC", "GMT", "Etc/Universal"])
async def test_utc_by_any_name_is_no_news(
    zone: str, database: Secret, logged: tuple[Run, io.StringIO], set_zone: Callable[[str, str], None]
) -> None:
    run, stream = logged
    set_zone("DATABASE", zone)
    await reconcile(desired_of(document(plans=None), database, connect=None), run)
    assert "time zone" not in stream.getvalue()


@pytest.mark.usefixtures("direct")
async def test_a_zone_that_pgtz_asks_for_is_nobody_elses(
    database: Secret, logged: tuple[Run, io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, stream = logged
    monkeypatch.setenv("PGTZ", "America/Sao_Paulo")
    await reconcile(desired_of(document(plans=None), database, connect=None), run)
    assert "time zone" not in stream.getvalue()


@pytest.mark.parametrize(("reported", "times"), [("on", 1), ("off", 0), (None, 0)])
def test_a_replica_is_reported_once_per_run(reported: str | None, times: int, logged: tuple[Run, io.StringIO]) -> None:
    """None: a pooler does not pass it on."""
    run, stream = logged
    status = {"in_hot_standby": reported}.get
    info = SimpleNamespace(host="standby.example.com", port=5432, parameter_status=status, server_version=180_000)
    for _ in range(2):
        note_server(cast("Connection", SimpleNamespace(info=info)), run)
    assert stream.getvalue().count("standby.example.com:5432 is a replica") == times
    say_none(3, run)  # `status --problems`: unknown is never absent
    said = "⚠️ none of 3 instances needs attention as far as is known" if times else "✅ none of 3 instances needs"
    assert said in stream.getvalue()


@pytest.mark.parametrize(("version", "times"), [(140_023, 1), (150_000, 0), (180_006, 0)])
def test_an_old_server_is_reported_once_per_run(version: int, times: int, logged: tuple[Run, io.StringIO]) -> None:
    """The documentation promises PostgreSQL 15 and newer."""
    run, stream = logged
    info = SimpleNamespace(host="old.example.com", port=5432, parameter_status={}.get, server_version=version)
    for _ in range(2):
        note_server(cast("Connection", SimpleNamespace(info=info)), run)
    assert stream.getvalue().count("old.example.com:5432 is PostgreSQL 14, on which fivrec is not tested") == times
