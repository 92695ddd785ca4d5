"""Many instances, one operator: missing settings of one, retries, one consent for one review."""

from __future__ import annotations

import base64
import json
import re
import signal
import time
from collections.abc import Callable

import psycopg
import pytest

from reconciler.model.secret import Secret
from tests.support.harness import PASSWORD, Ended, Fivrec, manifest, rows, run_sql
from tests.support.watching import another, receiving, until, watching

NAMES = ("a", "b", "c")


def declare(fleet: Fivrec, name: str, **more: str) -> None:
    pieces = {
        "url": f"env: DATABASE_URL|env: DB_{name.upper()}",
        "environment": "environment: production|environment: development",
        "api": '{env: FIV_APP_API_URL}|"embedded:"',
        "key": '{env: FIV_APP_API_KEY}|{env: FIV_APP_API_KEY, default: "embedded:"}',
    }
    fleet.write(manifest(name, **pieces, **more), f"m/{name}.yaml")


@pytest.fixture
def fleet(bare: Fivrec, make_database: Callable[[], Secret]) -> Fivrec:
    """Three instances with a database each; the variables DB_A, DB_B, DB_C name them."""
    bare.env["FIVREC_ENCRYPTION_KEY"] = base64.urlsafe_b64encode(bytes(range(32))).decode()
    bare.env["FIV_ADMIN_PASSWORD"] = PASSWORD
    for name in NAMES:
        bare.env[f"DB_{name.upper()}"] = make_database().reveal()
        declare(bare, name)
    return bare


def outcomes(ended: Ended) -> dict[str, str]:
    return {item["instance"]: item["outcome"] for item in ended.json["instances"]}


def test_what_one_lacks_fails_that_one_alone(fleet: Fivrec) -> None:
    del fleet.env["DB_B"]
    stopped = fleet.run("apply", "m", "-o", "json")
    assert (stopped.code, stopped.json["instances"]) == (78, [])
    ended = fleet.run("apply", "m", "-o", "json", "--keep-going")
    assert (ended.code, outcomes(ended)) == (5, {"a": "changed", "b": "failed", "c": "changed"})
    error = ended.json["instances"][1]["error"]
    assert error == {
        "code": "missing_setting",
        "message": "database.url: the variable DB_B is not set",
        "hint": "set what is missing",
        "docs": "docs/errors.md#missing_setting",
    }


def test_keep_going_records_the_failure(fleet: Fivrec) -> None:
    assert fleet.run("apply", "m", "-q").code == 0
    declare(fleet, "b", password="{env: FIV_ADMIN_PASSWORD}|{env: NOWHERE}")
    assert fleet.run("apply", "m", "-q", "--keep-going").code == 5
    shown = fleet.run("status", "m", "--problems", "-o", "json").json["instances"]
    assert [(item["instance"], item["last_run"]["outcome"], item["last_run"]["error"]) for item in shown] == [
        ("b", "failed", "missing_setting")
    ]
    declare(fleet, "b")
    assert fleet.run("apply", "m", "-q").code == 0
    assert fleet.run("status", "m", "--problems", "-o", "json").json["instances"] == []


@pytest.mark.parametrize("command", ["status", "status --problems", "logs", "history", "usage"])
def test_what_one_lacks_keeps_no_other_from_being_read(fleet: Fivrec, command: str) -> None:
    assert fleet.run("apply", "m", "-q").code == 0
    del fleet.env["DB_B"]
    ended = fleet.run(*command.split(), "m", "-o", "json")
    read = {item["instance"]: item["error"] and item["error"]["message"] for item in ended.json["instances"]}
    lacking = {"b": "database.url: the variable DB_B is not set"}
    assert (ended.code, read) == (5, lacking if "--problems" in command else {"a": None, **lacking, "c": None})
    text = fleet.run(*command.split(), "m")
    assert (text.code, "b: [missing_setting] database.url: the variable DB_B is not set" in text.stderr) == (5, True)
    del fleet.env["DB_A"], fleet.env["DB_C"]
    none = fleet.run(*command.split(), "m", "-o", "json")
    assert (none.code, none.json["instances"], none.json["error"]["code"]) == (78, [], "missing_setting")


TABLE = """\
version: 1
defaults:
  environment: development
  database: {url: {env: "DB_{{ instance | upper }}"}}
  config:
    connect_api_url: "embedded:"
    instance_key: {env: FIV_APP_API_KEY, default: "embedded:"}
    company_name: Empresa
    check_interval_minutes: "{{ minutes | int }}"
  queues: [{name: Sales}]
instances: {csv: clients.csv}
"""
ROWS = {"a": "60", "b": "60", "c": "60"}


def declare_table(fleet: Fivrec, **minutes: str) -> None:
    fleet.write(TABLE, "t/fleet.yaml")
    lines = [f"{name},{value}" for name, value in {**ROWS, **minutes}.items()]
    fleet.write("\n".join(["instance,minutes", *lines, ""]), "t/clients.csv")


@pytest.mark.parametrize("command", ["status", "status --problems", "logs", "history", "usage", "history --verify"])
def test_a_broken_row_keeps_no_other_from_being_read(fleet: Fivrec, command: str) -> None:
    declare_table(fleet)
    assert fleet.run("apply", "t", "-q").code == 0
    declare_table(fleet, b="soon")
    ended = fleet.run(*command.split(), "t", "-o", "json")
    read = {item["instance"]: item["error"] and item["error"]["code"] for item in ended.json["instances"]}
    shown = {"b": "manifest_invalid"} if "--problems" in command else {"a": None, "c": None, "b": "manifest_invalid"}
    assert (ended.code, read) == (5, shown)
    (problem,) = ended.json["error"]["problems"]
    assert (problem["instance"], problem["row"], problem["value"]) == ("b", "t/clients.csv:3", '"soon"')
    text = fleet.run(*command.split(), "t")
    assert (text.code, text.stderr.count("t/clients.csv:3")) == (5, 1)


@pytest.mark.parametrize(
    "command", ["apply --keep-going", "diff --keep-going", "drift --keep-going", "status", "check --keep-going"]
)
def test_a_missing_setting_names_its_row(fleet: Fivrec, command: str) -> None:
    declare_table(fleet)
    assert fleet.run("apply", "t", "-q").code == 0
    del fleet.env["DB_B"]
    ended = fleet.run(*command.split(), "t", "-o", "json")
    found = {
        item["instance"]: (item["row"], item["error"] and item["error"]["message"]) for item in ended.json["instances"]
    }
    said = "database.url: the variable DB_B is not set (t/clients.csv:3)"
    expected = {"a": ("t/clients.csv:2", None), "b": ("t/clients.csv:3", said), "c": ("t/clients.csv:4", None)}
    assert (ended.code, found) == (5, expected)
    text = fleet.run(*command.split(), "t")
    assert (text.stdout + text.stderr).count("t/clients.csv:3") == 1
    fleet.env["DB_B"] = "postgresql://u@127.0.0.1:1/b"
    away = fleet.run(*command.split(), "t")
    assert (away.stdout + away.stderr).count("(t/clients.csv:3)") == 1


def test_two_on_one_database_keep_no_other_from_being_read(fleet: Fivrec) -> None:
    declare_table(fleet)
    assert fleet.run("apply", "t", "-q").code == 0
    fleet.env["DB_B"] = fleet.env["DB_A"]
    ended = fleet.run("status", "t", "-o", "json")
    found = {item["instance"]: item["error"] and item["error"]["code"] for item in ended.json["instances"]}
    assert (ended.code, found) == (5, {"a": "manifest_invalid", "b": "manifest_invalid", "c": None})
    said = fleet.run("status", "t").stderr
    assert ("its database is also that of a" in said, "its database is also that of b" in said) == (True, True)
    assert fleet.run("apply", "t", "-o", "json", "--keep-going").code == 65


def test_psql_and_completion_go_on_beside_a_broken_row(fleet: Fivrec) -> None:
    declare_table(fleet)
    assert fleet.run("apply", "t", "-q").code == 0
    declare_table(fleet, b="soon")
    query = ("--", "-Atc", "SELECT name FROM queues")
    assert fleet.run("psql", "t", "-l", "a", *query).stdout == "Sales\n"
    assert [fleet.run("psql", "t", *more, *query).code for more in ((), ("-l", "b"), ("-l", "a,b"))] == [65, 65, 64]
    words = {"_FIVREC_COMPLETE": "bash_complete", "COMP_WORDS": "fivrec status t -l ", "COMP_CWORD": "4"}
    assert fleet.run(**words).stdout == "plain,a\nplain,c\n"


def test_a_report_shows_the_others_beside_what_cannot_be_read(fleet: Fivrec) -> None:
    declare_table(fleet)
    assert fleet.run("apply", "t", "-q").code == 0
    del fleet.env["DB_B"]
    declare_table(fleet, c="soon")
    ended = fleet.run("report", "t", "--out", "report.html")
    page = (fleet.folder / "report.html").read_text()
    assert (ended.code, page.count("<article"), "the variable DB_B is not set" in page) == (5, 3, True)
    assert "is not a whole number" in page
    assert ("t/clients.csv:3" in ended.stderr, "t/clients.csv:4" in ended.stderr) == (True, True)


def test_a_broken_row_that_limit_does_not_choose_is_not_reported(fleet: Fivrec) -> None:
    declare_table(fleet)
    assert fleet.run("apply", "t", "-q").code == 0
    declare_table(fleet, b="soon")
    ended = fleet.run("status", "t", "-o", "json", "-l", "a")
    assert (ended.code, [item["instance"] for item in ended.json["instances"]], ended.stderr) == (0, ["a"], "")
    assert fleet.run("status", "t", "-o", "json", "-l", "b").code == 65
    assert fleet.run("apply", "t", "-o", "json", "-l", "a").code == 65  # a writing command takes all instances or none


def test_a_watch_starts_with_the_rows_that_are_whole(fleet: Fivrec) -> None:
    declare_table(fleet, b="soon")
    with receiving() as receiver, watching(fleet, "t/", "--every", "1s", "--notify-url", receiver.url) as watch:
        until(lambda: watch.of("status_check", instance="a", success=True))
        (broken,) = until(lambda: watch.alerts("manifest_broken"))
        assert "t/clients.csv:3" in broken["message"]
        until(lambda: (None, "manifest_broken") in receiver.alerts())
        assert watch.of("status_check", instance="b") == []
        declare_table(fleet)
        until(lambda: watch.of("status_check", instance="b", success=True))
        until(lambda: watch.alerts("recovered"))
    assert fleet.run("watch", "t/", "nowhere.yaml", "--every", "1s").code == 65


def test_status_says_that_no_instance_needs_attention(fleet: Fivrec) -> None:
    assert fleet.run("apply", "m", "-q").code == 0
    ended = fleet.run("status", "m", "--problems")
    assert (ended.code, ended.stderr) == (0, "✅ none of 3 instances needs attention\n")


def test_outdated_checks_are_mentioned_beside_the_all_clear(fleet: Fivrec) -> None:
    """The watch has not run since Tuesday, so the rows are that old too."""
    assert fleet.run("apply", "m", "-q").code == 0
    run_sql(fleet.env["DB_B"], "UPDATE status_check_logs SET created_at = created_at - interval '3 hours'")
    ended = fleet.run("status", "m", "--problems")
    assert (ended.code, ended.stderr.splitlines()) == (
        0,
        [
            "⚠️ no check of 1 instance for more than two intervals: b; is the watch running?",
            "✅ none of 3 instances needs attention",
        ],
    )


def test_keep_going_ends_with_78_if_all_lack_something(fleet: Fivrec) -> None:
    for name in NAMES:
        del fleet.env[f"DB_{name.upper()}"]
    ended = fleet.run("apply", "m", "-o", "json", "--keep-going")
    assert (ended.code, outcomes(ended)) == (78, dict.fromkeys(NAMES, "failed"))


def test_a_retry_takes_what_was_not_done(fleet: Fivrec) -> None:
    url = fleet.env.pop("DB_B")
    first = fleet.run("apply", "m", "-o", "json", "--keep-going")
    fleet.write(first.stdout, "report.json")
    fleet.env["DB_B"] = url
    ended = fleet.run("apply", "m", "-o", "json", "--retry", "report.json")
    assert (ended.code, outcomes(ended)) == (0, {"b": "changed"})
    fleet.write(ended.stdout, "second.json")
    nothing = fleet.run("apply", "m", "-o", "json", "--retry", "second.json")
    assert (nothing.code, outcomes(nothing)) == (0, {})


def test_a_retry_that_tries_nothing_is_no_success(fleet: Fivrec) -> None:
    """With the paths of another folder, or a limit: what was not done is still not done."""
    url = fleet.env.pop("DB_B")
    fleet.write(fleet.run("apply", "m", "-o", "json", "--keep-going").stdout, "report.json")
    fleet.env["DB_B"] = url
    ended = fleet.run("apply", "m", "-o", "json", "--retry", "report.json", "-l", "a")
    assert (ended.code, ended.json["error"]["code"]) == (64, "usage")
    assert ended.json["error"]["message"] == (
        "what report.json says was not done is not chosen here, or no longer declared: b"
    )


def test_a_retry_of_a_run_that_failed_whole_takes_all(fleet: Fivrec) -> None:
    url = fleet.env.pop("DB_B")
    fleet.write(fleet.run("apply", "m", "-o", "json").stdout, "report.json")
    fleet.env["DB_B"] = url
    ended = fleet.run("apply", "m", "-o", "json", "--retry", "report.json")
    assert (ended.code, outcomes(ended)) == (0, dict.fromkeys(NAMES, "changed"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is not JSON"),
        ("[]", "is not a report of an apply"),
        ('{"version": 1, "command": "diff", "instances": []}', "is not a report of an apply"),
        (None, "cannot be read"),
    ],
)
def test_a_retry_of_no_report_is_64(bare: Fivrec, text: str | None, said: str) -> None:
    bare.write(manifest())
    if text is not None:
        bare.write(text, "report.json")
    ended = bare.run("apply", "client.yaml", "--retry", "report.json", "-o", "json")
    assert (ended.code, said in ended.json["error"]["message"]) == (64, True)


def add_queue(fleet: Fivrec, instance: str, name: str) -> None:
    query = f"INSERT INTO queues (name, environment) VALUES ('{name}', 'development')"
    run_sql(fleet.env[f"DB_{instance.upper()}"], query)


def _remove_a_queue_of_each(fleet: Fivrec) -> None:
    assert fleet.run("apply", "m", "-q").code == 0
    for name in NAMES:
        add_queue(fleet, name, "Old")
        declare(fleet, name, queues="queues:|queues:\n  unmanaged: remove\n  items:")


def test_one_digest_lets_the_whole_reviewed_plan_through(fleet: Fivrec) -> None:
    _remove_a_queue_of_each(fleet)
    refused = fleet.run("apply", "m", "-o", "json")
    assert (refused.code, outcomes(refused)) == (3, dict.fromkeys(NAMES, "refused"))
    digest = fleet.run("diff", "m", "-o", "json").json["digest"]
    assert f"plan {digest}" in fleet.run("diff", "m").stdout.splitlines()[-1]
    ended = fleet.run("apply", "m", "-o", "json", "--accept", digest)
    assert (ended.code, outcomes(ended)) == (0, dict.fromkeys(NAMES, "changed"))
    again = fleet.run("apply", "m", "-o", "json", "--accept", digest)
    assert (again.code, again.json["instances"], again.json["error"]["code"]) == (64, [], "usage")


def test_a_digest_that_fits_no_plan_is_64_and_writes_nothing(fleet: Fivrec) -> None:
    _remove_a_queue_of_each(fleet)
    whole = fleet.run("diff", "m", "-o", "json").json["digest"]
    add_queue(fleet, "c", "Newer")
    for digest in (whole, "0123456789abcdef"):
        for dry in ((), ("--check",)):
            ended = fleet.run("apply", "m", "-o", "json", "--accept", digest, *dry)
            assert (ended.code, ended.json["instances"]) == (64, [])
            assert f"--accept {digest} fits no plan of this run" in ended.json["error"]["message"]
    fitting = fleet.run("diff", "m", "-o", "json").json["digest"]
    assert fleet.run("apply", "m", "--check", "--accept", fitting).code == 2
    assert rows(fleet.env["DB_A"], "SELECT count(*) FROM queues") == [(3,)]


def test_an_instances_own_digest_lets_that_one_through(fleet: Fivrec) -> None:
    _remove_a_queue_of_each(fleet)
    found = fleet.run("diff", "m", "-o", "json").json["instances"]
    ended = fleet.run("apply", "m", "-o", "json", "--accept", found[1]["digest"])
    assert (ended.code, outcomes(ended)) == (5, {"a": "refused", "b": "changed", "c": "refused"})


def test_a_saved_plan_is_not_made_of_what_could_not_be_compared(fleet: Fivrec) -> None:
    del fleet.env["DB_B"]
    ended = fleet.run("diff", "m", "-o", "json", "--keep-going", "--out", "plan.json")
    assert ended.code == 5
    assert (json.loads(ended.stdout)["summary"]["failed"], (fleet.folder / "plan.json").exists()) == (1, False)


def wait_for_a_blocked_session(url: str) -> None:
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    for _ in range(600):
        if rows(url, query) != [(0,)]:
            return
        time.sleep(0.05)
    raise AssertionError("nobody waits")


def test_ctrl_c_skips_what_runs_and_what_was_not_begun(fleet: Fivrec) -> None:
    assert fleet.run("apply", "m", "-q").code == 0
    declare(fleet, "a", queue="{name: Sales}|{name: Sales, description: new}")
    with psycopg.connect(fleet.env["DB_A"]) as conn:
        conn.execute("LOCK TABLE queues IN ACCESS EXCLUSIVE MODE")
        process = fleet.start("apply", "m", "--forks", "1")
        wait_for_a_blocked_session(fleet.env["DB_A"])
        process.send_signal(signal.SIGINT)
        stdout, _ = process.communicate(timeout=60)
    recap = [re.sub(r"\d+ ms", "N ms", line) for line in stdout.splitlines()[-4:]]
    none = "ok=0 changed=0 conflicts=0 failed=0 skipped=1  status=unknown billing=unknown  N ms"
    assert (process.returncode, recap) == (
        130,
        [
            f"a : {none}  stopped by a signal; what was not committed was rolled back",
            f"b : {none}  not attempted: the run was stopped by a signal",
            f"c : {none}  not attempted: the run was stopped by a signal",
            "3 instances: skipped=3  N ms",
        ],
    )


def test_watch_starts_with_the_instances_that_are_complete(fleet: Fivrec) -> None:
    """The secret is a file: nobody can set another process's variables while it runs."""
    declare(fleet, "b", password="{env: FIV_ADMIN_PASSWORD}|{file: secret}")
    declare(fleet, "c", stage="environment: development|environment: {env: STAGE_OF_C}")
    with watching(fleet, "m/", "--every", "1s") as watch:
        until(lambda: watch.of("status_check", instance="a", success=True))
        (missing,) = until(lambda: watch.of("reconcile", instance="b", error="missing_setting"))[:1]
        assert "admin.password" in missing["message"]
        assert until(lambda: watch.of("reconcile", instance="c", error="missing_setting"))
        fleet.write(f"{PASSWORD}\n", "m/secret")
        until(lambda: watch.of("status_check", instance="b", success=True))


def test_a_missing_password_keeps_no_lock_open(fivrec: Fivrec, url: str, make_database: Callable[[], Secret]) -> None:
    """All that its check needs is there: it is made, it locks, and the failure is recorded, for status and after a
    kill.

    Another instance is complete: watch does not start if all of them lack something.
    """
    assert fivrec.apply().code == 0
    fivrec.write((fivrec.folder / another(fivrec, "whole", make_database().reveal())).read_text(), "also/whole.yaml")
    fivrec.write(manifest(password="{env: FIV_ADMIN_PASSWORD}|{env: NOWHERE}"), "client.yaml")
    fivrec.connect_set("--status", "suspended")
    with watching(fivrec, "client.yaml", "also/", "--every", "1s") as watch:
        until(lambda: rows(url, "SELECT is_locked FROM instance_config") == [(True,)])
        (failing,) = until(lambda: watch.alerts("failing"))
        until(lambda: watch.alerts("suspended"))
    said = "admin.password: the variable NOWHERE is not set (set what is missing, or add generate: true)"
    assert failing["message"] == f"❌ cannot be reconciled: {said}"
    assert rows(url, "SELECT outcome, error FROM fivrec.last_run") == [("failed", "missing_setting")]
    waiting = "SELECT alert FROM fivrec.alert_outbox WHERE sent_at IS NULL ORDER BY alert"
    assert rows(url, waiting) == [("failing",), ("suspended",)]


def test_a_check_that_locks_does_not_end_a_failed_apply(fivrec: Fivrec, url: str) -> None:
    """Neither does one that unlocks; a successful apply does."""
    assert fivrec.apply().code == 0
    run_sql(url, "ALTER TABLE queues ADD CONSTRAINT no_nights CHECK (name <> 'Night')")
    fivrec.write(manifest(night="plans:|  - {name: Night}\nplans:"), "client.yaml")
    assert fivrec.apply().code == 1
    seen = []
    for status in ("suspended", "active"):
        fivrec.connect_set("--status", status)
        fivrec.run("check", "client.yaml")
        shown = fivrec.run("status", "client.yaml", "--problems", "-o", "json").one
        seen.append((shown["is_locked"], shown["last_run"]["command"], shown["last_run"]["outcome"]))
    assert seen == [(True, "apply", "failed"), (False, "apply", "failed")]
    run_sql(url, "ALTER TABLE queues DROP CONSTRAINT no_nights")
    assert fivrec.apply().code == 0
    assert fivrec.run("status", "client.yaml", "--problems", "-o", "json").json["instances"] == []


@pytest.mark.parametrize("amount", ["0", "0%", "0.0%"])
def test_a_wave_of_nothing_is_64(bare: Fivrec, amount: str) -> None:
    bare.write(manifest())
    ended = bare.run("apply", "client.yaml", "--serial", amount)
    assert (ended.code, f'"{amount}" is too small: write 1 or more' in ended.stderr) == (64, True)


def test_a_timeout_says_that_the_database_was_slow(fleet: Fivrec) -> None:
    assert fleet.run("apply", "m/a.yaml", "-q").code == 0
    with psycopg.connect(fleet.env["DB_A"]) as conn:
        conn.execute("LOCK TABLE queues IN ACCESS EXCLUSIVE MODE")  # 2 s later it would be a lock_timeout
        ended = fleet.run("diff", "m/a.yaml", "-o", "json", "--timeout", "1900ms")
    said = "not done within 1.9 s, waiting for the database; what was not committed was rolled back"
    assert ended.json["instances"][0]["error"] == {
        "code": "timeout",
        "message": said,
        "hint": "--timeout sets the limit",
        "docs": "docs/errors.md#timeout",
    }


def test_a_timeout_says_that_connect_was_slow(fivrec: Fivrec) -> None:
    assert fivrec.apply().code == 0
    fivrec.connect_set("--delay", "20s")
    ended = fivrec.diff("--timeout", "3s")
    assert ended.one["error"]["message"].startswith("not done within 3 s, waiting for Fi.V Connect; ")


@pytest.mark.parametrize("command", ["apply", "check"])
def test_a_run_that_connect_kept_waiting_is_on_record(fivrec: Fivrec, command: str) -> None:
    assert fivrec.apply().code == 0
    fivrec.connect_set("--delay", "20s")
    ended = fivrec.run(command, "client.yaml", "--timeout", "3s", "-o", "json")
    assert (ended.code, ended.one["outcome"], ended.one["error"]["code"]) == (1, "failed", "timeout")
    (check,) = fivrec.run("logs", "client.yaml", "--failed", "-o", "json").json["instances"][0]["checks"]
    said = "connect_timeout: Fi.V Connect did not answer completely within 3 s"
    assert (check["type"], check["received"], check["error"]) == ("manual", None, said)
    history = fivrec.run("history", "client.yaml", "--kind", "run", "-o", "json").json
    assert [entry["action"] for entry in history["instances"][0]["entries"]] == ["failed"]
    if command == "apply":
        (known,) = fivrec.run("status", "client.yaml", "-o", "json").json["instances"]
        assert (known["last_run"]["outcome"], known["last_run"]["error"]) == ("failed", "timeout")
