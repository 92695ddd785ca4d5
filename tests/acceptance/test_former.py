"""What is removed from Git and what drifts, as an operator sees it: commands, exit codes, JSON, text, markdown."""

from __future__ import annotations

import re

from tests.support.harness import INSTANCE, Fivrec, manifest, rows, run_sql

NIGHT = "  - {name: Sales}\n"
WITH_NIGHT = f"{NIGHT}|{NIGHT}  - {{name: Night}}\n"
DRIFT = "UPDATE queues SET description = 'by hand' WHERE name = 'Sales'"


def test_a_reverted_commit_is_an_undo(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    fivrec.write(manifest(queue=WITH_NIGHT))
    assert fivrec.apply().changes() == [("queue", "Night", "create", "new")]
    fivrec.write(manifest())
    planned = fivrec.diff("--explain", "queue/Night")
    assert (planned.code, planned.changes()) == (2, [("queue", "Night", "deactivate", "intent")])
    assert (planned.one["explained"]["action"], planned.one["explained"]["cause"]) == ("deactivate", "intent")
    assert planned.one["explained"]["provenance"] == "created by fivrec"
    reverted = fivrec.apply("--strict")
    assert (reverted.code, reverted.one["former"]) == (0, [])
    assert rows(url, "SELECT name, is_active FROM queues ORDER BY name") == [
        ("Night", False), ("Sales", True), ("Technical Support", True),
    ]  # fmt: skip
    audit = "SELECT action, cause FROM fivrec.audit_log WHERE name = 'Night' ORDER BY seq"
    assert rows(url, audit) == [("create", "new"), ("deactivate", "intent")]
    assert (fivrec.diff("--strict").code, fivrec.diff().changes()) == (0, [])


def test_former_rows_are_shown_and_strict_exits_1(fivrec: Fivrec, url: str) -> None:
    fivrec.write(manifest(queue=WITH_NIGHT))
    assert fivrec.apply().code == 0
    run_sql(url, "UPDATE queues SET description = 'open late' WHERE name = 'Night'")
    fivrec.write(manifest())
    done = fivrec.apply()
    ((run_id, at),) = rows(
        url, "SELECT run_id, to_char(applied_at, 'YYYY-MM-DD') FROM fivrec.applied WHERE name = 'Night'"
    )
    assert (done.code, done.json["summary"]["former"]) == (0, 1)
    (former,) = done.one["former"]
    assert (former["kind"], former["name"], former["run_id"], former["at"][:10]) == ("queue", "Night", run_id, at)
    line = f"? queue/Night (former: applied {at} by run {run_id[:8]})"
    assert f"  {line}" in fivrec.run("diff", "client.yaml").stdout.splitlines()
    marked = fivrec.run("diff", "client.yaml", "-o", "markdown").stdout
    assert "1 former" in marked
    assert "queue&#47;Night" in marked
    assert line in fivrec.run("status", "client.yaml").stdout
    assert fivrec.run("status", "client.yaml", "-o", "json").one["last_run"]["former"] == [former]
    explained = fivrec.run("diff", "client.yaml", "--explain", "queue/Night").stdout.splitlines()
    assert "    created by fivrec; changed by somebody since, so it is not taken back" in explained
    assert [fivrec.diff(*words).code for words in ((), ("--strict",))] == [0, 1]
    assert fivrec.apply("--strict").code == 1


def test_drift_is_distinguished_from_changes_not_applied_yet(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    fivrec.write(manifest(queue=WITH_NIGHT))
    assert (fivrec.run("drift", "client.yaml").code, fivrec.diff().code) == (0, 2)
    run_sql(url, DRIFT)
    found = fivrec.run("drift", "client.yaml", "-o", "json")
    assert (found.code, found.json["command"]) == (2, "drift")
    assert found.changes() == [("queue", "Sales", "update", "drift")]
    assert found.json["summary"]["causes"] == {"new": 0, "intent": 0, "drift": 1}
    assert fivrec.diff().json["summary"]["causes"] == {"new": 1, "intent": 0, "drift": 1}
    assert fivrec.run("drift", "client.yaml", "--exit-zero").code == 0
    assert fivrec.apply().code == 0
    entries = fivrec.run("history", "client.yaml", "--cause", "drift", "-o", "json").one["entries"]
    assert [(entry["kind"], entry["name"]) for entry in entries] == [("queue", "Sales")]


def test_a_new_policy_for_undeclared_rows_is_intent(fivrec: Fivrec, url: str) -> None:
    """Before the policy, the row was left alone on purpose; a row created after it is drift."""
    assert fivrec.apply().code == 0
    run_sql(url, "INSERT INTO queues (name, environment) VALUES ('By hand', 'production')")
    assert (fivrec.apply().changes(), fivrec.diff().code) == ([], 0)
    items = "queues:\n|queues:\n  unmanaged: deactivate\n  items:\n"
    fivrec.write(manifest(a=items, b="  - {name: T|    - {name: T", c="  - {name: S|    - {name: S"))
    assert fivrec.run("drift", "client.yaml").code == 0
    assert fivrec.apply().changes() == [("queue", "By hand", "deactivate", "intent")]
    assert fivrec.apply().changes() == []
    run_sql(url, "UPDATE queues SET is_active = true WHERE name = 'By hand'")
    assert fivrec.apply().changes() == [("queue", "By hand", "deactivate", "drift")]


def test_status_tells_the_last_run_and_what_needs_somebody(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    last = fivrec.run("status", "client.yaml", "-o", "json").one["last_run"]
    assert (last["command"], last["outcome"], last["changes"] > 0, last["drift"]) == ("apply", "changed", True, 0)
    assert fivrec.run("status", "client.yaml", "--problems", "-o", "json").json["instances"] == []
    run_sql(url, DRIFT)
    fivrec.write(manifest() + "suspend: true\n")
    assert fivrec.apply().code == 0
    table = fivrec.run("status", "client.yaml", "--problems").stdout
    assert INSTANCE in table
    assert re.search(r"apply by \S+.*: skipped +queue/Sales since 20\d\d-", table), table


def test_watch_report_only_tells_and_leaves(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    run_sql(url, DRIFT)
    before = rows(url, "SELECT xmin::text, ctid::text FROM queues ORDER BY 1, 2")
    watch = fivrec.start("watch", "client.yaml", "--report-only", "--log-format", "json")
    try:
        assert watch.stderr is not None
        found = next(line for line in watch.stderr if " found and left (" in line)
    finally:
        watch.terminate()
        watch.communicate(timeout=60)
    assert "queue/Sales update (drift)" in found
    assert rows(url, "SELECT xmin::text, ctid::text FROM queues ORDER BY 1, 2") == before
    (change,) = fivrec.diff().one["changes"]
    assert change["since"] == rows(
        url, "SELECT open_drift -> 0 ->> 'since' FROM fivrec.last_run WHERE command = 'watch'"
    )[0][0].replace("+00:00", "Z")
    assert fivrec.run("watch", "client.yaml", "--report-only", "--check-only").code == 64
