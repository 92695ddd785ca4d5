"""`fivrec usage`: the seed's report, and how it reaches Connect."""

from __future__ import annotations

import shutil

import pytest

from reconciler.connect.emulator.state_file import StateFile
from tests.support.harness import INSTANCE, ROOT, Fivrec, manifest, rows, run_sql

REPORT = {
    "instanceId": INSTANCE,
    "totalUsers": 1,
    "totalConversations": 2,
    "totalClients": 1,
    "totalQueues": 2,
    "activeConversations": 1,
    "environment": "production",
    "lastActivity": "2025-08-29T20:50:00Z",
    "features": {"chat": True, "chatbot": True, "ai_agent": False},
}
WAITING = "SELECT count(*) FROM fivrec.usage_outbox WHERE sent_at IS NULL"


@pytest.fixture
def used(fivrec: Fivrec, url: str) -> Fivrec:
    """An instance with some use in its environment, and some in the other one that does not count."""
    assert fivrec.apply().code == 0
    at = "'2025-08-29 20:50:00'"
    run_sql(
        url,
        "INSERT INTO clients (name) VALUES ('a')",
        f"INSERT INTO conversations (status, last_activity_at) VALUES ('active', {at}), ('closed', {at})",
        "INSERT INTO clients (name, environment) VALUES ('test', 'development')",
        "INSERT INTO conversations (environment) VALUES ('development')",
    )
    return fivrec


def test_it_shows_the_report_of_this_environment_queues_none(used: Fivrec, url: str) -> None:
    ended = used.run("usage", "client.yaml", "-o", "json")
    assert (ended.code, ended.one["usage"], ended.one["sent"]) == (0, REPORT, None)
    assert rows(url, "SELECT count(*) FROM fivrec.usage_outbox") == [(0,)]
    assert "2025-08-29T20:50:00Z" in used.run("usage", "client.yaml").stdout


def test_it_counts_what_the_rows_are_whatever_the_manifest_says(used: Fivrec) -> None:
    """apply refuses a manifest that names the other environment: it does not decide what Connect is told."""
    used.write(manifest(a="environment: production|environment: development"))
    ended = used.run("usage", "client.yaml", "--send", "-o", "json")
    assert (ended.code, ended.one["usage"], ended.one["sent"]["sent"]) == (0, REPORT, 1)
    assert "  production  " in used.run("usage", "client.yaml").stdout


def test_reports_queued_before_going_live_are_sent_after_it(used: Fivrec, url: str) -> None:
    used.connect_set("--fail", "503")
    assert used.run("usage", "client.yaml", "--send").code == 1
    run_sql(url, "UPDATE fivrec.usage_outbox SET environment = 'development'")
    used.connect_set("--reset")
    assert "2 of 2" in used.run("usage", "client.yaml", "--send").stdout
    assert rows(url, WAITING) == [(0,)]


def test_a_report_refused_by_connect_stays_queued_and_counts_once(used: Fivrec, url: str) -> None:
    used.connect_set("--fail", "503")
    ended = used.run("usage", "client.yaml", "--send", "-o", "json")
    sent = ended.one["sent"]
    assert (ended.code, sent["sent"], sent["waiting"], sent["problem"]["code"]) == (1, 0, 1, "connect_http_error")
    assert rows(url, WAITING) == [(1,)]
    status = used.run("status", "client.yaml", "-o", "json")
    assert f"Connect has not taken usage reports of 1 instance: {INSTANCE}; -o json has since when" in status.stderr
    unsent = status.one["usage_unsent"]
    assert (unsent["count"], unsent["error"]) == (1, "Fi.V Connect API returned 503")
    used.connect_set("--reset")
    ended = used.run("usage", "client.yaml", "--send")
    assert (ended.code, rows(url, WAITING)) == (0, [(0,)])
    assert "usage" not in used.run("status", "client.yaml").stderr
    assert "2 of 2" in ended.stdout
    counted = StateFile(used.folder / "connect.json").read().instances[INSTANCE]
    assert (counted.reports_counted, list(counted.reports.values())) == (2, [REPORT, REPORT])


def test_a_report_that_no_connect_takes_waits_alone(used: Fivrec, url: str) -> None:
    used.connect_set("--fail", "503")
    assert used.run("usage", "client.yaml", "--send").code == 1
    run_sql(url, "UPDATE fivrec.usage_outbox SET payload = '{}'")
    used.connect_set("--reset")
    ended = used.run("usage", "client.yaml", "--send", "-o", "json")
    sent = ended.one["sent"]
    assert (ended.code, sent["sent"], sent["waiting"]) == (1, 1, 1)
    assert sent["problem"]["code"] == "connect_invalid_report"
    assert rows(url, WAITING) == [(1,)]


@pytest.mark.parametrize("send", [(), ("--send",)])
@pytest.mark.parametrize("row", ["kept", "gone"])
def test_the_use_of_another_instances_database_is_not_this_ones(
    used: Fivrec, url: str, row: str, send: tuple[str, ...]
) -> None:
    if row == "gone":
        run_sql(url, "DELETE FROM instance_config")
        assert used.run("usage", "client.yaml").code == 0
    used.write(manifest("client-of-others"))
    ended = used.run("usage", "client.yaml", *send, "-o", "json")
    assert (ended.code, ended.one["error"]["code"], ended.one["usage"]) == (3, "wrong_instance", None)
    assert rows(url, "SELECT count(*) FROM fivrec.usage_outbox") == [(0,)]


@pytest.mark.parametrize("command", ["status", "usage", "logs", "history"])
def test_an_embedded_database_never_created_is_missing(bare: Fivrec, command: str) -> None:
    shutil.copy(ROOT / "manifests" / "client.yaml", bare.folder)
    ended = bare.run(command, "client.yaml")
    assert "database_url" not in ended.stdout + ended.stderr
    assert ("never made" in ended.stderr or "not configured" in ended.stdout) is True
    assert not (bare.folder / ".fivrec" / "postgres").exists()
