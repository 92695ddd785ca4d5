"""What was written is read again before the commit: any remaining change rolls it all back, except the check."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from reconciler.engine.reconcile import preview, reconcile
from reconciler.model.secret import Secret
from reconciler.support.crypto.keyring import KeyRing
from tests.support.databases import run_sql
from tests.support.engine import desired_of, document, run_of
from tests.support.fault_proxy import FaultProxy, server_of, through

UPPER = """
CREATE FUNCTION up() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.name := upper(NEW.name); RETURN NEW; END$$;
CREATE TRIGGER shout BEFORE INSERT OR UPDATE ON queues FOR EACH ROW EXECUTE FUNCTION up();
"""
DROPPED = """
CREATE FUNCTION gone() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;
CREATE TRIGGER swallow BEFORE INSERT ON queues FOR EACH ROW EXECUTE FUNCTION gone();
"""
RULE = "CREATE RULE nothing AS ON INSERT TO queues DO INSTEAD NOTHING;"
ELSEWHERE = """
CREATE FUNCTION also() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
  UPDATE public.settings SET value = '"en"' WHERE key = 'locale'; RETURN NEW; END$$;
CREATE TRIGGER meddler AFTER INSERT ON queues FOR EACH ROW EXECUTE FUNCTION also();
"""
REHASH = """
CREATE FUNCTION rehash() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.password := '$2b$04$' || repeat('x', 53);
  RETURN NEW; END$$;
CREATE TRIGGER hasher BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION rehash();
"""
DEFERRED = """
CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
  UPDATE public.queues SET description = 'late' WHERE id = NEW.id AND description IS DISTINCT FROM 'late';
  RETURN NULL; END$$;
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON queues DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION late();
"""
NIGHT = {"items": [{"name": "Sales"}, {"name": "Technical Support"}, {"name": "Night"}], "unmanaged": "keep"}


@pytest.mark.parametrize(
    ("trouble", "named"),
    [
        (UPPER, "queue/Night (trigger shout on queues)"),
        (DROPPED, "queue/Night (trigger swallow on queues)"),
        (RULE, "queue/Night (rule nothing on queues)"),
        (DEFERRED, "queue/Night (trigger later on queues)"),
    ],
)
async def test_changes_by_triggers_or_rules_are_rolled_back_and_named(
    database: Secret, keys: KeyRing, tmp_path: Path, trouble: str, named: str
) -> None:
    run = run_of(keys, tmp_path)
    await reconcile(desired_of(document(), database), run)
    await run_sql(database, trouble)
    desired = desired_of(document(queues=NIGHT), database)
    for number in (2, 3, 4):
        report = await reconcile(desired, replace(run, id=f"run-{number}"))
        assert report.error is not None
        said = f"after they were written these still differ: {named}; nothing was committed"
        assert (report.outcome, report.exit_code) == ("failed", 1)
        assert (report.error.code, report.error.message) == ("not_converged", said)
    assert await run_sql(database, "SELECT name FROM queues ORDER BY 1") == [("Sales",), ("Technical Support",)]
    entries = "SELECT kind, name, action FROM fivrec.audit_log WHERE run_id LIKE 'run-%' ORDER BY seq"
    assert await run_sql(database, entries) == [("run", "failed", "failed")] * 3
    checks = "SELECT success, count(*) FROM status_check_logs GROUP BY 1"
    assert await run_sql(database, checks) == [(True, 4)]


async def test_a_key_that_a_trigger_cuts_is_no_row_to_be_put_back(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    run = run_of(keys, tmp_path)
    await reconcile(desired_of(document(config=None), database, connect=None), run)
    cut = """CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
    NEW.instance_key := left(NEW.instance_key, 40); RETURN NEW; END$$;
    CREATE TRIGGER cutter BEFORE INSERT ON instance_config FOR EACH ROW EXECUTE FUNCTION cut()"""
    await run_sql(database, cut)
    report = await reconcile(desired_of(document(), database), replace(run, id="second"))
    assert report.error is not None
    assert report.error.code == "not_converged"
    assert "these still differ: config/client-abc-123 (trigger cutter on instance_config);" in report.error.message


ANY_CASE = """
CREATE COLLATION any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
ALTER TABLE queues ALTER name TYPE text COLLATE any_case; INSERT INTO queues (name) VALUES ('NIGHT')
"""


async def test_a_collation_that_takes_two_names_for_one_is_named(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    run = run_of(keys, tmp_path)
    await reconcile(desired_of(document(), database), run)
    try:
        await run_sql(database, ANY_CASE)
    except psycopg.errors.FeatureNotSupported as exc:
        pytest.skip(f"the embedded server has no ICU: {exc.diag.message_primary}")
    report = await reconcile(desired_of(document(queues=NIGHT), database), replace(run, id="second"))
    assert report.error is not None
    assert "queue/Night; not as documented: queues.name is text COLLATE any_case;" in report.error.message
    renamed = {**NIGHT, "items": [*NIGHT["items"][:2], {"name": "Night", "renamed_from": "NIGHT"}]}
    desired = desired_of(document(queues=renamed), database)
    assert (await reconcile(desired, replace(run, id="third"))).error is None
    assert (await reconcile(desired, replace(run, id="fourth"))).outcome == "in_sync"


async def test_a_trigger_that_changes_what_was_in_sync_is_a_rest_too(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    run = run_of(keys, tmp_path)
    await reconcile(desired_of(document(), database), run)
    await run_sql(database, ELSEWHERE)
    report = await reconcile(desired_of(document(queues=NIGHT), database), replace(run, id="second"))
    assert report.error is not None
    assert (report.error.code, "setting/locale" in report.error.message) == ("not_converged", True)
    assert await run_sql(database, "SELECT value FROM settings WHERE key = 'locale'") == [("pt-BR",)]


async def test_a_second_try_corrects_another_sessions_change(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    """Once: a trigger acts as that other session would. Sequences don't roll back."""
    run = run_of(keys, tmp_path)
    await reconcile(desired_of(document(), database), run)
    once = ELSEWHERE.replace("key = 'locale'", "key = 'locale' AND nextval('public.times') = 1")
    await run_sql(database, "CREATE SEQUENCE times; " + once)
    report = await reconcile(desired_of(document(queues=NIGHT), database), replace(run, id="second"))
    assert (report.outcome, report.error) == ("changed", None)
    assert await run_sql(database, "SELECT value FROM settings WHERE key = 'locale'") == [("pt-BR",)]


@pytest.mark.parametrize("more", [{"suspend": True}, {}], ids=["suspended", "report only"])
async def test_report_only_writes_nothing_into_an_empty_database(
    more: dict[str, bool], database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    run = run_of(keys, tmp_path, report_only=not more)
    report = await reconcile(replace(desired_of(document(), database), **more), run)
    assert (report.outcome, report.error) == ("skipped", None)
    assert await run_sql(database, "SELECT count(*) FROM pg_class WHERE relname = 'queues'") == [(0,)]


SWALLOW = """
CREATE FUNCTION gone() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;
CREATE TRIGGER swallow BEFORE INSERT OR UPDATE ON {0} FOR EACH ROW EXECUTE FUNCTION gone();
"""
NOTHING = "CREATE RULE nothing AS ON INSERT TO {0} DO INSTEAD NOTHING"


@pytest.mark.parametrize(
    "case",
    [
        (SWALLOW, "public.status_check_logs", "trigger swallow on status_check_logs"),
        (NOTHING, "public.status_check_logs", "rule nothing on status_check_logs"),
        (SWALLOW, "fivrec.audit_log", "trigger swallow on audit_log"),
        (SWALLOW, "fivrec.applied", "trigger swallow on applied"),
        (SWALLOW, "fivrec.last_run", "trigger swallow on last_run"),
    ],
)
async def test_a_record_that_is_not_stored_is_named_and_rolled_back(
    database: Secret, keys: KeyRing, tmp_path: Path, case: tuple[str, str, str]
) -> None:
    run, (trouble, table, named) = run_of(keys, tmp_path), case
    await reconcile(desired_of(document(), database), run)
    await run_sql(database, trouble.format(table))
    report = await reconcile(desired_of(document(queues=NIGHT), database), replace(run, id="second"))
    assert report.error is not None
    assert (report.outcome, report.exit_code, report.error.code) == ("failed", 1, "not_converged")
    assert report.error.message.endswith(f": {table} did not store what was written ({named})")
    assert await run_sql(database, "SELECT name FROM queues ORDER BY 1") == [("Sales",), ("Technical Support",)]


@pytest.mark.parametrize("check_only", [False, True])
async def test_a_check_that_is_not_stored_is_no_success(
    database: Secret, keys: KeyRing, tmp_path: Path, check_only: bool
) -> None:
    run, desired = run_of(keys, tmp_path), desired_of(document(), database)
    await reconcile(desired, run)
    await run_sql(database, SWALLOW.format("status_check_logs"))
    report = await reconcile(desired, replace(run, id="second", check_only=check_only))
    assert report.error is not None
    assert (report.outcome, report.error.code) == ("failed", "not_converged")


async def test_a_check_that_a_trigger_puts_into_a_part_is_stored(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    run, desired = run_of(keys, tmp_path), desired_of(document(), database)
    await reconcile(desired, run)
    await run_sql(
        database,
        """CREATE TABLE checks_2026 () INHERITS (status_check_logs);
        CREATE FUNCTION put() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
          INSERT INTO public.checks_2026 SELECT NEW.*; RETURN NULL; END$$;
        CREATE TRIGGER part BEFORE INSERT ON status_check_logs FOR EACH ROW EXECUTE FUNCTION put()""",
    )
    assert (await reconcile(desired, replace(run, id="second"))).outcome == "in_sync"
    assert (await reconcile(desired_of(document(queues=NIGHT), database), replace(run, id="third"))).error is None
    assert await run_sql(database, "SELECT count(*) FROM checks_2026") == [(2,)]


@pytest.mark.parametrize("policy", ["on_create", "always"])
async def test_a_stored_hash_other_than_the_one_written_is_a_rest(
    database: Secret, keys: KeyRing, tmp_path: Path, policy: str
) -> None:
    run = run_of(keys, tmp_path)
    await reconcile(desired_of(document(admin=None), database), run)
    await run_sql(database, REHASH)
    admin = {**document()["admin"], "update_password": policy}
    report = await reconcile(desired_of(document(admin=admin), database), replace(run, id="second"))
    assert report.error is not None
    assert report.error.message == (
        "after they were written these still differ: admin/admin@empresa.com (trigger hasher on users); "
        "nothing was committed"
    )
    assert await run_sql(database, "SELECT count(*) FROM users") == [(0,)]


@pytest.mark.parametrize(
    ("body", "state"),
    [
        ("INSERT INTO public.queues (name) VALUES ('again')", "54001"),
        ("EXECUTE 'SELEC'", "42601"),
        ("RAISE SQLSTATE '0A000'", "0A000"),
        ("RAISE SQLSTATE 'AA123'", "AA123"),
        ("PERFORM pg_catalog.pg_read_file('nowhere')", "58P01"),
        *(
            (f"RAISE SQLSTATE '{state}' USING MESSAGE = 'run it', SCHEMA = 'fivrec', TABLE = 'users'", state)
            for state in ("42P01", "42703", "42501", "23505", "25006", "53100", "55P03", "57014", "57P03")
        ),
        ("RAISE SQLSTATE 'FV001' USING MESSAGE = 'run it', HINT = 'run it'", "FV001"),
        ("RAISE SQLSTATE 'FV002' USING MESSAGE = 'run it', HINT = 'run it'", "FV002"),
    ],
)
async def test_any_failure_within_a_trigger_names_its_function(
    database: Secret, keys: KeyRing, tmp_path: Path, body: str, state: str
) -> None:
    run = run_of(keys, tmp_path)
    await reconcile(desired_of(document(), database), run)
    made = f"CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {body}; RETURN NEW; END$$;"
    await run_sql(database, f"{made} CREATE TRIGGER t BEFORE INSERT ON queues FOR EACH ROW EXECUTE FUNCTION odd()")
    report = await reconcile(desired_of(document(queues=NIGHT), database), replace(run, id="second"))
    assert report.error is not None
    assert (report.outcome, "public.odd()" in report.error.message, state in report.error.message) == (
        ("failed", True, True)
    )
    assert report.error.code in ("trigger_refused", "app_function_failed")
    assert "run it" not in f"{report.error}"
    assert await run_sql(database, "SELECT count(*) FROM queues") == [(2,)]


async def test_comparing_costs_an_apply_one_round_trip(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    run = run_of(keys, tmp_path)
    await reconcile(desired_of(document(), database), run)
    turns = []
    for number, queues in enumerate((document()["queues"], NIGHT), start=2):
        async with FaultProxy(*server_of(database)) as proxy:  # one each: a connection's end counts as a trip too
            desired = desired_of(document(queues=queues), through(database, proxy.port))
            report = await reconcile(desired, replace(run, id=f"run-{number}"))
            assert report.error is None
            turns.append(proxy.traffic.turns)
    assert turns[1] - turns[0] == 1


async def test_a_first_apply_and_the_dry_run_after_it_agree(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    desired, run = desired_of(document(), database), run_of(keys, tmp_path)
    assert (await reconcile(desired, run)).outcome == "changed"
    assert (await preview(desired, run)).outcome == "in_sync"
