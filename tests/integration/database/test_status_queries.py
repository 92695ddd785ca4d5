"""What the commands read about an instance, and the usage outbox."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from reconciler.database import store
from reconciler.database.connection import Connection
from reconciler.database.status_queries import (
    HistoryFilter,
    LastRun,
    LogFilter,
    read_checks,
    read_history,
    read_status,
)
from reconciler.database.store import CheckRow, LastRunRow, Scope, Writes
from reconciler.database.usage_outbox import (
    PendingUsage,
    mark_usage_failed,
    mark_usage_sent,
    read_pending_usage,
    read_usage_counts,
    write_usage,
)
from reconciler.model.changes import Former
from reconciler.model.errors import DatabaseError
from reconciler.model.secret import Secret
from reconciler.model.types import Key, OpenDrift
from reconciler.planning.audit import Actor, Context, Event, chain
from reconciler.support.crypto.keyring import KeyRing
from tests.support.connections import Connect

INSTANCE = "client-abc-123"


@pytest.fixture
async def configured(conn: Connection) -> Connection:
    await conn.execute(
        "INSERT INTO instance_config (instance_id, instance_key, connect_api_url) VALUES (%s, 'k', 'https://c')",
        (INSTANCE,),
    )
    return conn


async def record(conn: Connection, scope: Scope, keys: KeyRing, check: CheckRow) -> None:
    await store.begin(conn, scope, keys, lock=True)
    await store.commit(conn, Writes(run_id="c", check=check), scope)


async def test_before_the_first_apply_the_schema_is_missing(
    database: Secret, scope: Scope, open_connection: Connect
) -> None:
    with pytest.raises(DatabaseError) as raised:
        await read_status(await open_connection(database), scope)
    assert raised.value.code == "schema_missing"


async def test_an_instance_without_a_successful_check_is_unknown(
    configured: Connection, scope: Scope, keys: KeyRing
) -> None:
    assert await read_status(configured, Scope("other", "production")) is None
    await record(configured, scope, keys, CheckRow("startup", False, None, "connect_unreachable: x", None))
    found = await read_status(configured, scope)
    assert (found.status, found.billing_status, found.answered, found.is_locked) == (None, None, False, False)
    assert (found.last_check.success, found.last_check.error_message) == (False, "connect_unreachable: x")
    await record(configured, scope, keys, CheckRow("manual", True, "active", None, 12))
    found = await read_status(configured, scope)
    assert (found.status, found.billing_status, found.answered) == ("active", "paid", True)
    assert found.enabled_features == {"chat": True, "chatbot": True, "ai_agent": False}
    assert (found.last_check.response_time_ms, found.last_check.at) == (12, found.last_status_check)
    assert datetime.now(UTC) - found.last_status_check < timedelta(minutes=1)


async def test_history_is_read_newest_first_by_cause(configured: Connection, scope: Scope, keys: KeyRing) -> None:
    context = Context("run-9", datetime(2026, 1, 2, tzinfo=UTC), Actor("ci"), "d", INSTANCE, "production")
    events = [
        Event("queue", name, "update", cause, "manifest", []) for name, cause in (("A", "drift"), ("B", "intent"))
    ]
    head = (await store.begin(configured, scope, keys, lock=True)).audit_head
    written = chain(head, context, events)
    await store.commit(configured, Writes(run_id="run-9", audit=written), scope)
    assert await read_history(configured, scope, HistoryFilter()) == tuple(reversed(written))
    assert await read_history(configured, scope, HistoryFilter(cause="drift")) == written[:1]
    assert await read_history(configured, Scope("other", "production"), HistoryFilter()) == ()


async def test_the_last_run_is_one_row_that_the_next_replaces(
    configured: Connection, scope: Scope, keys: KeyRing
) -> None:
    seen = {"kind": "queue", "name": "Sales", "since": "2026-01-02T00:00:00+00:00"}
    former = {"kind": "queue", "name": "Night", "run_id": "run-0", "at": "2026-01-01T00:00:00Z"}
    looked = LastRunRow("watch", "ci", "abc", "skipped", drift=1, open_drift=(seen,), former=(former,))
    for number, row in enumerate((looked, LastRunRow("apply", "ana", None, "failed", error="timeout"))):
        await store.begin(configured, scope, keys, lock=True)
        await store.commit(configured, Writes(run_id=f"run-{number}", last_run=row), scope)
    last = (await read_status(configured, scope)).last_run
    at = datetime(2026, 1, 2, tzinfo=UTC)
    assert last == LastRun(
        "run-1", last.at, "apply", "ana", None, "failed", "timeout", 0, 1,
        (OpenDrift(Key("queue", "Sales"), at),),
        (Former(Key("queue", "Night"), "run-0", at - timedelta(days=1)),),
    )  # fmt: skip


async def test_status_reads_a_schema_from_before_the_last_run(configured: Connection, scope: Scope) -> None:
    await configured.execute("DROP TABLE fivrec.last_run")
    await configured.commit()
    found = await read_status(configured, scope)
    assert (found.instance, found.last_run) == (INSTANCE, None)


async def test_checks_are_read_newest_first_page_by_page(configured: Connection, scope: Scope) -> None:
    await configured.execute(
        "INSERT INTO status_check_logs (id, instance_config_id, check_type, success, created_at) "
        "SELECT lpad(n::text, 3, '0'), (SELECT id FROM instance_config), "
        "CASE WHEN n %% 2 = 0 THEN 'scheduled' ELSE 'manual' END, n %% 3 <> 0, "
        "timestamp '2026-01-01' + (n / 4) * interval '1 minute' FROM generate_series(1, 20) AS n",
        (),
    )
    every = await read_checks(configured, scope, LogFilter())
    assert [row.id for row in every] == [f"{n:03d}" for n in range(20, 0, -1)]
    first = await read_checks(configured, scope, LogFilter(limit=7))
    rest = await read_checks(configured, scope, LogFilter(before=first[-1]))
    assert first + rest == every
    oldest = LogFilter(since=every[4].at, oldest_first=True)
    assert await read_checks(configured, scope, oldest) == tuple(reversed(every[:5]))
    assert [row.id for row in await read_checks(configured, scope, LogFilter(failed=True, check_type="manual"))] == [
        "015",
        "009",
        "003",
    ]
    since = datetime(2026, 1, 1, 0, 4, tzinfo=UTC)
    assert {row.at >= since for row in await read_checks(configured, scope, LogFilter(since=since))} == {True}
    assert len(await read_checks(configured, scope, LogFilter(since=since))) == 5


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ("bytea USING convert_to({c}, 'UTF8')", "{}"),
        ("jsonb USING jsonb_build_array({c})", '["{}"]'),
        ("text[] USING ARRAY[{c}]", '["{}"]'),
        ("inet USING '10.0.0.1'", "10.0.0.1"),
    ],
)
async def test_texts_of_any_type_are_shown(configured: Connection, scope: Scope, typed: str, text: str) -> None:
    await configured.execute(
        "INSERT INTO status_check_logs (instance_config_id, check_type, success, status_received, error_message) "
        "SELECT id, 'manual', true, 'active', 'x' FROM instance_config"
    )
    for table, columns in {
        "status_check_logs": ("status_received", "error_message"),
        "instance_config": ("status", "billing_status", "connect_api_url"),
    }.items():
        for name in columns:
            await configured.execute(f"ALTER TABLE {table} ALTER {name} DROP DEFAULT".encode())
            await configured.execute(f"ALTER TABLE {table} ALTER {name} TYPE {typed.format(c=name)}".encode())
    found, (check,) = await read_status(configured, scope), await read_checks(configured, scope, LogFilter())
    shown = (found.status, found.billing_status, found.connect_api_url, check.status_received, check.error_message)
    assert shown == tuple(text.replace("{}", value) for value in ("active", "paid", "https://c", "active", "x"))


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("text USING '12'", 12),
        ("numeric(9, 2) USING 12.4", 12),
        ("real USING 'NaN'", None),
        ("numeric USING 'Infinity'", None),
        ("money USING 12::money", None),
        ("interval USING '12 ms'", None),
        ("bytea USING 'x'", None),
    ],
)
async def test_a_response_time_is_a_number_or_none(
    configured: Connection, scope: Scope, typed: str, shown: int | None
) -> None:
    await configured.execute(
        "INSERT INTO status_check_logs (instance_config_id, check_type, success) "
        "SELECT id, 'manual', true FROM instance_config"
    )
    await configured.execute(f"ALTER TABLE status_check_logs ALTER response_time TYPE {typed}".encode())
    (check,) = await read_checks(configured, scope, LogFilter())
    assert check.response_time_ms == shown


async def test_usage_counts_one_environment_only(configured: Connection, scope: Scope) -> None:
    for environment, number in (("production", 2), ("development", 5)):
        for n in range(number):
            row = {"e": environment, "n": f"{environment}{n}", "s": "closed" if n else "active"}
            await configured.execute(
                "INSERT INTO users (name, email, password, environment) VALUES (%(n)s, %(n)s, 'p', %(e)s)", row
            )
            await configured.execute("INSERT INTO clients (name, environment) VALUES (%(n)s, %(e)s)", row)
            await configured.execute("INSERT INTO queues (name, environment) VALUES (%(n)s, %(e)s)", row)
            await configured.execute(
                "INSERT INTO conversations (status, environment, last_activity_at) "
                "VALUES (%(s)s, %(e)s, timestamp '2025-08-29 20:50')",
                row,
            )
    counts = await read_usage_counts(configured, scope)
    assert counts.payload(scope) == {
        "instanceId": INSTANCE,
        "totalUsers": 2,
        "totalConversations": 2,
        "totalClients": 2,
        "totalQueues": 2,
        "activeConversations": 1,
        "environment": "production",
        "lastActivity": "2025-08-29T20:50:00Z",
        "features": {"chat": True, "chatbot": True, "ai_agent": False},
    }


async def test_a_time_that_no_calendar_holds_is_no_activity(configured: Connection, scope: Scope) -> None:
    for at in ("infinity", "2025-08-29 20:50", "0044-03-15 BC", "20000-01-01"):
        await configured.execute(
            "INSERT INTO conversations (environment, last_activity_at) VALUES ('production', %s::timestamp)", (at,)
        )
    counts = await read_usage_counts(configured, scope)
    payload = counts.payload(scope)
    assert (payload["totalConversations"], payload["lastActivity"]) == (4, "2025-08-29T20:50:00Z")


async def test_a_conversation_is_active_from_its_creation(configured: Connection, scope: Scope) -> None:
    await configured.execute("INSERT INTO conversations (last_activity_at, created_at) VALUES (NULL, NULL)")
    assert (await read_usage_counts(configured, scope)).last_activity is None
    await configured.execute("INSERT INTO conversations (last_activity_at, created_at) VALUES (NULL, '2025-08-29')")
    await configured.execute("INSERT INTO conversations (last_activity_at, created_at) VALUES ('2024-01-01', now())")
    await configured.execute("INSERT INTO messages (created_at) VALUES (NULL)")
    assert (await read_usage_counts(configured, scope)).last_activity == datetime(2025, 8, 29, tzinfo=UTC)


async def test_a_report_waits_until_connect_took_it(configured: Connection, scope: Scope) -> None:
    for report in ("a", "b"):
        await write_usage(configured, scope, PendingUsage(report, {"n": report, "environment": "production"}, 0))
    assert [item.id for item in await read_pending_usage(configured, scope)] == ["a", "b"]
    await mark_usage_failed(configured, scope, "a", "connect_unreachable", retry_s=60)
    assert [item.id for item in await read_pending_usage(configured, scope)] == ["b"]
    waiting = await read_pending_usage(configured, scope, all_of_them=True)
    assert waiting[0] == PendingUsage("a", {"n": "a", "environment": "production"}, attempts=1)
    assert await mark_usage_sent(configured, scope, "a")
    assert not await mark_usage_sent(configured, scope, "a")
    assert [item.id for item in await read_pending_usage(configured, scope, all_of_them=True)] == ["b"]
    assert await read_pending_usage(configured, Scope("other", "production")) == ()
