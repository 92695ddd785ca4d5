"""A check that the database accepts only in part: lock, status, time and log row are each written on their own, and no
fault in fivrec's own tables prevents any of them."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from reconciler.engine.reconcile import reconcile
from reconciler.engine.run import CycleContext, Run
from reconciler.model.secret import Secret
from reconciler.planning.status_check import KnownStatus
from reconciler.support.crypto.keyring import KeyRing
from tests.support.checking import COMMANDS, check_as, connect_says
from tests.support.databases import run_sql
from tests.support.engine import desired_of, document, run_of

TRIGGER = "CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {}; RETURN NEW; END$$; CREATE {}TRIGGER t "
ON_LOGS = "INSERT ON status_check_logs FOR EACH ROW EXECUTE FUNCTION odd()"
PAIRED = "ALTER TABLE instance_config ADD CHECK (is_locked = (status = 'suspended'))"
NO_LOG = {
    "an id of its own": "ALTER TABLE status_check_logs DROP id; "
    "ALTER TABLE status_check_logs ADD id bigint GENERATED ALWAYS AS IDENTITY",
    "no id": "ALTER TABLE status_check_logs DROP id",
    "no column for the error": "ALTER TABLE status_check_logs DROP error_message",
    "a reference of another type": "ALTER TABLE status_check_logs ALTER instance_config_id TYPE integer USING 1",
    "a column of the app's that has to be filled": "DELETE FROM status_check_logs; "
    "ALTER TABLE status_check_logs ADD tenant text NOT NULL",
    "other kinds of checks": "CREATE TYPE own AS ENUM ('auto'); "
    "ALTER TABLE status_check_logs ALTER check_type TYPE own USING 'auto'",
    "no partition for today": "ALTER TABLE status_check_logs RENAME TO old; "
    "CREATE TABLE status_check_logs (LIKE old INCLUDING DEFAULTS) PARTITION BY RANGE (created_at)",
    "a view that takes no rows": "ALTER TABLE status_check_logs RENAME TO old; "
    "CREATE VIEW status_check_logs AS SELECT DISTINCT * FROM old",
    "a deferred reference to nothing": "CREATE TABLE nothing (id varchar PRIMARY KEY); ALTER TABLE status_check_logs "
    "ADD FOREIGN KEY (instance_config_id) REFERENCES nothing DEFERRABLE INITIALLY DEFERRED NOT VALID",
    "a deferred trigger": TRIGGER.format("RAISE EXCEPTION 'late'", "CONSTRAINT ")
    + "AFTER INSERT ON status_check_logs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION odd()",
    "a refusal, and a CHECK on status and lock": f"{PAIRED}; "
    + TRIGGER.format("RAISE EXCEPTION 'no'", "")
    + "BEFORE "
    + ON_LOGS,
    "a trigger that takes a minute": TRIGGER.format("PERFORM pg_sleep(60)", "") + "BEFORE " + ON_LOGS,
}
"""What prevents the row of status_check_logs from being written, and nothing else."""

ALL_WRITTEN = {
    "a column that fivrec.applied lacks": "ALTER TABLE fivrec.applied DROP fields",
    "no alert_outbox": "DROP TABLE fivrec.alert_outbox",
    "no audit key, but its row": "ALTER TABLE fivrec.audit_key ALTER sealed DROP NOT NULL; "
    "UPDATE fivrec.audit_key SET sealed = NULL",
    "an audit log that ends connections": TRIGGER.format("PERFORM pg_terminate_backend(pg_backend_pid())", "")
    + "BEFORE INSERT ON fivrec.audit_log FOR EACH ROW EXECUTE FUNCTION odd()",
    "a number where drift is remembered": "UPDATE fivrec.last_run SET open_drift = '5'",
    "drift since no time": "UPDATE fivrec.last_run "
    """SET open_drift = '[{"kind": "queue", "name": "a", "since": "x"}]'""",
    "words that fivrec.applied does not know": "UPDATE fivrec.applied "
    "SET tenure = 'x', provenance = 'x', before = '5', fields = '5'",
    "no column for the key": "ALTER TABLE instance_config DROP instance_key",
    "no column for the URL": "ALTER TABLE instance_config DROP connect_api_url",
    "a CHECK on status and lock, and no fivrec.applied": f"{PAIRED}; DROP TABLE fivrec.applied",
    "a trigger that lets nothing be written": "CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN "
    "PERFORM set_config('transaction_read_only', 'on', true); RETURN NEW; END$$; UPDATE queues SET description = 'x';"
    "CREATE TRIGGER t AFTER UPDATE ON queues FOR EACH ROW EXECUTE FUNCTION odd()",
    "a log that takes the lock back": TRIGGER.format("UPDATE public.instance_config SET is_locked = NOT is_locked", "")
    + "AFTER "
    + ON_LOGS,
    "an instance of padded letters": "ALTER TABLE instance_config ALTER instance_id TYPE char(64)",
    "an instance that is JSON": "ALTER TABLE instance_config ALTER instance_id TYPE json USING to_json(instance_id)",
    "an instance of bytes": "ALTER TABLE instance_config ALTER instance_id TYPE bytea USING instance_id::bytea",
    "an array of one instance": "ALTER TABLE instance_config ALTER instance_id TYPE text[] USING ARRAY[instance_id]",
    "a lock of Y or N that was never set": "ALTER TABLE instance_config ALTER is_locked DROP DEFAULT, "
    "ALTER is_locked TYPE text USING NULL; ALTER TABLE instance_config ADD CHECK (is_locked IN ('Y', 'N'))",
    "a lock of TRUE or FALSE that was never set": "ALTER TABLE instance_config ALTER is_locked DROP DEFAULT, "
    "ALTER is_locked TYPE text USING NULL; ALTER TABLE instance_config ADD CHECK (is_locked IN ('TRUE', 'FALSE'))",
    "a lock that is the time since when it is": "ALTER TABLE instance_config ALTER is_locked DROP DEFAULT, "
    "ALTER is_locked TYPE timestamptz USING NULL",
    "a lock that follows from the status": "ALTER TABLE instance_config DROP is_locked; "
    "ALTER TABLE instance_config ADD is_locked boolean GENERATED ALWAYS AS (status = 'suspended') STORED",
    "a lock of 0 and 1": "ALTER TABLE instance_config ALTER is_locked DROP DEFAULT, "
    "ALTER is_locked TYPE smallint USING 0",
}
FOUND = """
SELECT CASE WHEN c.is_locked::text LIKE '20%' THEN true ELSE COALESCE(c.is_locked::text::boolean, false) END,
       c.status, c.last_status_check IS NOT NULL,
       (SELECT count(*) FROM status_check_logs l WHERE l.status_received = c.status) > 0
FROM instance_config c
"""
NO_STAMP = "UPDATE instance_config SET last_status_check = NULL"
EMPTY_LOG = "DELETE FROM status_check_logs"


async def applied(url: Secret, keys: KeyRing, folder: Path, wrong: str) -> Run:
    run = run_of(keys, folder)
    assert (await reconcile(desired_of(document(), url), run)).error is None
    await run_sql(url, f"{EMPTY_LOG}; {wrong}")
    return run


async def assert_followed(url: Secret, run: Run, folder: Path, *, logged: bool) -> None:
    """Check that suspended and active are followed by each command: in the row, and in the log if it can be written."""
    for number, command in enumerate(COMMANDS, start=2):
        for status, locked in (("suspended", True), ("active", False)):
            await run_sql(url, f"{NO_STAMP}; {EMPTY_LOG}" if logged else NO_STAMP)
            connect_says(folder, status)
            await check_as(command, url, replace(run, id=f"run-{number}-{status}"))
            assert await run_sql(url, FOUND) == [(locked, status, True, logged)], (command, status)


@pytest.mark.parametrize("name", ALL_WRITTEN)
async def test_faults_elsewhere_keep_no_part_of_a_check_back(
    database: Secret, keys: KeyRing, tmp_path: Path, name: str
) -> None:
    run = await applied(database, keys, tmp_path, ALL_WRITTEN[name])
    await assert_followed(database, run, tmp_path, logged=True)


@pytest.mark.parametrize("name", NO_LOG)
async def test_a_log_that_takes_no_row_keeps_the_rest_not_back(
    database: Secret, keys: KeyRing, tmp_path: Path, name: str
) -> None:
    run = await applied(database, keys, tmp_path, NO_LOG[name])
    if "takes a minute" in name:
        run = replace(run, limits=replace(run.limits, statement_ms=400))
    await assert_followed(database, run, tmp_path, logged=False)


@pytest.mark.parametrize("table", ["instance_config", "status_check_logs"])
async def test_a_table_that_is_locked_is_waited_for_twice(
    table: str, database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    """The run waits once, all parts together once more: 2 s each, not 2 s per part."""
    run = await applied(database, keys, tmp_path, "SELECT 1")
    with psycopg.connect(database.reveal()) as app:
        app.execute(f"LOCK TABLE {table}")
        began = time.monotonic()
        report = await check_as("check", database, run)
        assert report is not None
        assert report.error is not None
        assert (report.outcome, report.error.code) == ("failed", "lock_timeout")
        assert time.monotonic() - began < 9


async def test_a_row_without_an_id_is_locked_too(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    without = "ALTER TABLE instance_config DROP id CASCADE"
    await assert_followed(database, await applied(database, keys, tmp_path, without), tmp_path, logged=False)


async def test_without_a_time_the_check_is_in_the_log(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    run = await applied(database, keys, tmp_path, "ALTER TABLE instance_config DROP last_status_check")
    found = "SELECT c.is_locked, c.status, l.status_received FROM instance_config c, status_check_logs l"
    for number, command in enumerate(COMMANDS, start=2):
        for status in ("suspended", "active"):
            await run_sql(database, EMPTY_LOG)
            connect_says(tmp_path, status)
            await check_as(command, database, replace(run, id=f"run-{number}-{status}"))
            assert await run_sql(database, found) == [(status == "suspended", status, status)], (command, status)


@pytest.mark.parametrize(
    "taken", ["DELETE FROM public.instance_config", "UPDATE public.instance_config SET instance_id = 'x'"]
)
async def test_a_check_that_would_lose_the_row_leaves_it(
    database: Secret, keys: KeyRing, tmp_path: Path, taken: str
) -> None:
    lose = TRIGGER.format(taken, "").replace("CREATE TRIGGER t ", "CREATE TRIGGER t AFTER UPDATE ON instance_config ")
    run = await applied(database, keys, tmp_path, f"{lose} WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION odd()")
    before = await run_sql(database, "SELECT c::text FROM instance_config c")
    connect_says(tmp_path, "suspended")
    for number, command in enumerate(COMMANDS, start=2):
        report = await check_as(command, database, replace(run, id=f"run-{number}"))
        assert report is None or (report.error and report.error.code) == "not_converged", command
        assert await run_sql(database, "SELECT c::text FROM instance_config c") == before, command


async def test_a_check_writes_nothing_to_another_instances_row(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    """A row of another instance is not this one's: no part of a check is written there."""
    run = await applied(database, keys, tmp_path, "UPDATE instance_config SET instance_id = 'other'")
    before = await run_sql(database, "SELECT c::text FROM instance_config c")
    connect_says(tmp_path, "suspended")
    for command in COMMANDS:
        await check_as(command, database, run)
    assert await run_sql(database, "SELECT c::text FROM instance_config c") == before
    assert await run_sql(database, "SELECT count(*) FROM status_check_logs") == [(0,)]


async def test_a_lock_undone_by_a_trigger_is_reported_and_tried(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    undo = TRIGGER.format("NEW.is_locked := false", "") + "BEFORE UPDATE ON instance_config FOR EACH ROW "
    run = await applied(database, keys, tmp_path, undo + "EXECUTE FUNCTION odd()")
    connect_says(tmp_path, "suspended")
    heard: list[tuple[str, str]] = []
    log = run.log.bind()
    log.listeners.append(lambda event: heard.append((event["alert"], event["message"])) if "alert" in event else None)
    desired = desired_of(document(), database)
    turn = CycleContext(0.0)
    first = await reconcile(desired, replace(run, id="run-2", check_type="scheduled", turn=turn, log=log))
    assert (first.outcome, first.error and first.error.code) == ("failed", "not_converged")
    assert first.turned is not None
    assert first.turned.standing == KnownStatus("suspended", "paid", locked=False)
    assert (
        "suspended",
        "⚠️ instance suspended at Fi.V Connect; access is not locked (the database refused it)",
    ) in heard
    await run_sql(database, f"{EMPTY_LOG}; DROP TRIGGER t ON instance_config; DROP TABLE plans CASCADE")
    await run_sql(database, "CREATE VIEW plans AS SELECT 1 AS id")  # the next cycle fails as well
    retry = replace(turn, due=False, retry=True, last_known=first.turned.standing, recorded="not_converged")
    again = await reconcile(desired, replace(run, id="run-3", check_type="scheduled", turn=retry, log=log))
    assert again.outcome == "failed"
    assert await run_sql(database, FOUND) == [(True, "suspended", True, True)]


ON_CONFIG = "UPDATE ON instance_config FOR EACH ROW EXECUTE FUNCTION odd()"
REFUSED = {
    "dropped": TRIGGER.format("RETURN NULL", "") + "BEFORE " + ON_CONFIG,
    "kept as it was": TRIGGER.format("RETURN OLD", "") + "BEFORE " + ON_CONFIG,
    "undone": TRIGGER.format("NEW.is_locked := false", "") + "BEFORE " + ON_CONFIG,
    "refused": TRIGGER.format("RAISE EXCEPTION 'no'", "") + "BEFORE " + ON_CONFIG,
    "undone afterwards": TRIGGER.format("UPDATE instance_config SET is_locked = false WHERE is_locked", "")
    + "AFTER "
    + ON_CONFIG,
    "a rule": "CREATE RULE t AS ON UPDATE TO instance_config DO INSTEAD NOTHING",
    "a CHECK": "ALTER TABLE instance_config ADD CONSTRAINT t CHECK (NOT is_locked)",
    "a column that is always false": "ALTER TABLE instance_config DROP is_locked; "
    "ALTER TABLE instance_config ADD is_locked boolean GENERATED ALWAYS AS (false) STORED",
}
"""What the app's own objects can do to the lock itself: fivrec neither disables nor drops them."""

MENDED = """
DROP TRIGGER IF EXISTS t ON instance_config; DROP RULE IF EXISTS t ON instance_config;
ALTER TABLE instance_config DROP CONSTRAINT IF EXISTS t;
ALTER TABLE instance_config DROP is_locked, ADD is_locked boolean DEFAULT false
"""
TOLD = ("suspended", "⚠️ instance suspended at Fi.V Connect; access is not locked (the database refused it)")


@pytest.mark.parametrize("name", REFUSED)
async def test_a_lock_that_the_app_refuses_is_reported_by_each_check(
    database: Secret, keys: KeyRing, tmp_path: Path, name: str
) -> None:
    run = await applied(database, keys, tmp_path, REFUSED[name])
    connect_says(tmp_path, "suspended")
    locked = "SELECT is_locked FROM instance_config"
    for number, command in enumerate(COMMANDS, start=2):
        heard: list[tuple[str, str]] = []
        log = run.log.bind()
        log.listeners.append(lambda said, heard=heard: heard.append((said.get("alert"), said.get("message"))))
        report = await check_as(command, database, replace(run, id=f"run-{number}", log=log))
        assert report is None or (report.outcome, report.exit_code) == ("failed", 1), command
        assert TOLD in heard, command
        assert await run_sql(database, locked) == [(False,)], command
    await run_sql(database, MENDED)
    await check_as("check", database, replace(run, id="run-9"))
    assert await run_sql(database, locked) == [(True,)]
