"""A lock that matches Connect stays that way, whatever a trigger does when a run only records its check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.engine.reconcile import reconcile
from reconciler.engine.rotate_keys import rotate
from reconciler.engine.run import Run
from reconciler.model.secret import Secret
from reconciler.planning.report import InstanceReport
from reconciler.support.crypto.keyring import KeyRing
from tests.support.checking import COMMANDS, check_as, connect_says
from tests.support.databases import run_sql
from tests.support.engine import desired_of, document, run_of

UNDO = "UPDATE public.instance_config SET is_locked = NOT is_locked"
FUNCTION = f"CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {UNDO}; RETURN NEW; END$$; "
EACH = "FOR EACH ROW EXECUTE FUNCTION undo()"
UNDONE = {
    "after the log": f"{FUNCTION} CREATE TRIGGER t AFTER INSERT ON status_check_logs {EACH}",
    "before the log": f"{FUNCTION} CREATE TRIGGER t BEFORE INSERT ON status_check_logs {EACH}",
    "before COMMIT": f"{FUNCTION} CREATE CONSTRAINT TRIGGER t AFTER INSERT ON status_check_logs "
    f"DEFERRABLE INITIALLY DEFERRED {EACH}",
    "by a rule": f"CREATE RULE t AS ON INSERT TO status_check_logs DO ALSO {UNDO}",
    "with the last run": f"{FUNCTION} CREATE TRIGGER t AFTER INSERT OR UPDATE ON fivrec.last_run {EACH}",
    "with the stamp": "CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS "
    "$$BEGIN NEW.is_locked = false; RETURN NEW; END$$; "
    f"CREATE TRIGGER t BEFORE UPDATE ON instance_config {EACH}",
    "after the stamp": f"{FUNCTION} CREATE TRIGGER t AFTER UPDATE OF last_status_check ON instance_config {EACH}",
}
LOCKED = "SELECT is_locked, status FROM instance_config"


async def locked(url: Secret, keys: KeyRing, folder: Path, wrong: str) -> Run:
    """Make a suspended and locked instance, then run this SQL in its database."""
    run = run_of(keys, folder)
    assert (await reconcile(desired_of(document(), url), run)).error is None
    connect_says(folder, "suspended")
    assert (await reconcile(desired_of(document(), url), replace(run, id="run-0"))).outcome == "changed"
    assert await run_sql(url, LOCKED) == [(True, "suspended")]
    await run_sql(url, wrong)
    return run


def assert_refused(report: InstanceReport | None, code: str, command: str) -> None:
    """Check the error, which names the trigger; a worker reports only to its queue."""
    if report is None:
        return
    assert report.error is not None, command
    assert (report.exit_code, report.error.code) == (1, code), command
    assert code == "table_unfit" or "(trigger t on " in report.error.message, command


async def assert_kept(url: Secret, run: Run, name: str, commands: Sequence[str]) -> None:
    """Check the lock after each command, which fails and leaves its check."""
    for number, command in enumerate(commands, start=1):
        report = await check_as(command, url, replace(run, id=f"run-{number}"))
        assert_refused(report, "table_unfit" if "rule" in name else "not_converged", command)
        assert await run_sql(url, LOCKED) == [(True, "suspended")], command
        checks = "SELECT count(*) FROM status_check_logs WHERE status_received = 'suspended'"
        assert await run_sql(url, checks) == [(number + 1,)], command


@pytest.mark.parametrize("name", UNDONE)
async def test_recording_a_check_takes_no_lock_back(database: Secret, keys: KeyRing, tmp_path: Path, name: str) -> None:
    run = await locked(database, keys, tmp_path, UNDONE[name])
    # A check that changes nothing is no run, and leaves no record of one.
    await assert_kept(database, run, name, ("apply",) if "last run" in name else ("apply", "check"))


async def test_no_command_takes_a_lock_back(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    name = "after the log"
    await assert_kept(database, await locked(database, keys, tmp_path, UNDONE[name]), name, COMMANDS[2:])


async def test_a_lock_is_kept_while_connect_is_silent(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    run = await locked(database, keys, tmp_path, UNDONE["after the log"])
    silent = desired_of(document(), database, connect="http://127.0.0.1:1")
    report = await reconcile(silent, replace(run, id="run-1"))
    assert (report.exit_code, report.error and report.error.code) == (1, "not_converged")
    assert await run_sql(database, LOCKED) == [(True, "suspended")]
    assert await run_sql(database, "SELECT outcome, error FROM fivrec.last_run") == [("failed", "not_converged")]


@pytest.mark.parametrize("typed", ["uuid USING id::uuid", "jsonb USING to_jsonb(id)", "text[] USING ARRAY[id]"])
async def test_a_row_is_found_again_by_an_id_of_any_type(
    database: Secret, keys: KeyRing, tmp_path: Path, typed: str
) -> None:
    run = await locked(
        database, keys, tmp_path, f"ALTER TABLE instance_config ALTER id DROP DEFAULT, ALTER id TYPE {typed}"
    )
    reports = [await reconcile(desired_of(document(), database), replace(run, id=f"run-{number}")) for number in (1, 2)]
    assert [report.error for report in reports] == [None, None]
    assert reports[1].outcome == "in_sync"


async def test_a_suspended_manifest_keeps_the_lock(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    run = await locked(database, keys, tmp_path, UNDONE["after the log"])
    report = await reconcile(desired_of(document(), database, suspend=True), replace(run, id="run-1"))
    assert (report.exit_code, report.error and report.error.code) == (1, "not_converged")
    assert await run_sql(database, LOCKED) == [(True, "suspended")]


async def test_a_rotation_undone_by_a_trigger_fails(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    run = await locked(
        database,
        keys,
        tmp_path,
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.instance_key = OLD.instance_key; "
        "RETURN NEW; END$$; CREATE TRIGGER t BEFORE UPDATE ON instance_config FOR EACH ROW EXECUTE FUNCTION keep()",
    )
    stored = "SELECT instance_key, fields FROM instance_config, fivrec.applied WHERE kind = 'config'"
    before = await run_sql(database, stored)
    both = replace(run, id="run-1", keys=KeyRing((*KeyRing.passing().keys, *keys.keys)))
    report = await rotate(desired_of(document(), database), both)
    assert (report.exit_code, report.error and report.error.code) == (1, "not_converged")
    assert "trigger t on instance_config" in report.error.message
    assert await run_sql(database, stored) == before


async def test_a_rotation_keeps_the_lock(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    run = await locked(database, keys, tmp_path, UNDONE["with the stamp"])
    both = replace(run, id="run-1", keys=KeyRing((*KeyRing.passing().keys, *keys.keys)))
    report = await rotate(desired_of(document(), database), both)
    assert (report.exit_code, report.error and report.error.code) == (1, "not_converged")
    assert await run_sql(database, LOCKED) == [(True, "suspended")]


TWIN = (
    "INSERT INTO instance_config (id, instance_id, instance_key, connect_api_url, status, is_locked, created_at) "
    "SELECT 'twin', instance_id, instance_key, connect_api_url, 'active', false, now() + interval '1 day' "
    "FROM instance_config"
)
"""What the app's `POST /api/instance/config` does if it inserts instead of updating."""


async def test_each_row_of_an_instance_is_locked(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    """The row that fivrec reads is locked, but the app reads another one."""
    run = await locked(database, keys, tmp_path, TWIN)
    for command in ("check", "apply"):
        await run_sql(database, "UPDATE instance_config SET is_locked = false, status = 'active' WHERE id = 'twin'")
        report = await check_as(command, database, replace(run, id=f"run-{command}"))
        assert report is not None
        assert [(change.key.kind, change.cause) for change in report.changes] == [("status", "drift")], command
        assert await run_sql(database, LOCKED) == [(True, "suspended"), (True, "suspended")], command
    again = await reconcile(desired_of(document(), database), replace(run, id="run-3"))
    assert (again.outcome, again.changes) == ("in_sync", ())


async def test_rows_that_disagree_are_adopted_as_one(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    run = await locked(database, keys, tmp_path, f"DROP SCHEMA fivrec CASCADE; {TWIN}")
    first, again = [await reconcile(desired_of(document(), database), replace(run, id=f"run-{n}")) for n in (1, 2)]
    assert (first.outcome, first.error) == ("changed", None)
    assert await run_sql(database, LOCKED) == [(True, "suspended"), (True, "suspended")]
    assert (again.outcome, again.changes) == ("in_sync", ())
