"""After the first apply, on a real PostgreSQL: what a reverted manifest undoes, and what is kept and shown."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from reconciler.connect.emulator.state import EmulatorState
from reconciler.connect.emulator.state_file import StateFile
from reconciler.database.status_queries import HistoryFilter, read_history, read_status
from reconciler.engine.observe import build_scope
from reconciler.engine.observe import database as opened
from reconciler.engine.reconcile import preview, reconcile
from reconciler.engine.status_and_logs import verify_history
from reconciler.model.secret import Secret
from reconciler.model.types import Key
from reconciler.planning.report import InstanceReport
from reconciler.support.crypto.keyring import KeyRing
from tests.support.engine import INSTANCE, desired_of, document, run_of

ADMIN = document()["admin"]


def queues(*names: str, **more: Any) -> dict[str, Any]:
    items = more.pop("items", [{"name": name} for name in names])
    return {"items": items, "unmanaged": "keep", "former": "deactivate", **more}


class Life:
    """One instance whose manifest changes. `at` is the time of its runs."""

    def __init__(self, url: Secret, keys: KeyRing, folder: Path) -> None:
        self.url, self.keys, self.folder = url, keys, folder
        self.number = 0

    def of(self, **sections: Any) -> Any:
        return desired_of(document(**sections), self.url)

    async def apply(self, *, accept: str | None = None, **sections: Any) -> InstanceReport:
        self.number += 1
        run = run_of(self.keys, self.folder, self.number, accept=frozenset({accept} if accept else ()))
        return await reconcile(self.of(**sections), run)

    async def diff(self, **more: Any) -> InstanceReport:
        sections = {name: more.pop(name) for name in list(more) if name in document()}
        return await preview(self.of(**sections), run_of(self.keys, self.folder, 99, **more))

    async def rows(self, query: str, *params: object) -> list[tuple[Any, ...]]:
        async with await psycopg.AsyncConnection.connect(self.url.reveal(), autocommit=True) as conn:
            cursor = await conn.execute(query, params)
            return await cursor.fetchall() if cursor.description else []

    async def last_run(self) -> Any:
        desired, run = self.of(), run_of(self.keys, self.folder, 98)
        async with opened(desired, run) as conn:
            view = await read_status(conn, build_scope(desired))
            assert view is not None
            return view.last_run


@pytest.fixture
def life(database: Secret, keys: KeyRing, tmp_path: Path) -> Life:
    return Life(database, keys, tmp_path)


def found(report: InstanceReport) -> list[tuple[str, str, str]]:
    assert report.error is None, report.error
    return [(str(change.key), change.action, change.cause) for change in report.changes]


QUEUES = "SELECT name, is_active FROM queues ORDER BY name"


async def test_a_reverted_queue_is_switched_off_and_on_again(life: Life) -> None:
    await life.apply(queues=queues("Sales"))
    await life.apply(queues=queues("Sales", "Night"))
    reverted = await life.apply(queues=queues("Sales"))
    assert found(reverted) == [("queue/Night", "deactivate", "intent")]
    assert await life.rows(QUEUES) == [("Night", False), ("Sales", True)]
    again = await life.apply(queues=queues("Sales"))
    assert (again.outcome, again.former) == ("in_sync", ())
    assert found(await life.apply(queues=queues("Sales", "Night"))) == [("queue/Night", "update", "intent")]
    assert found(await life.apply(queues=queues("Sales"))) == [("queue/Night", "deactivate", "intent")]
    assert await life.rows(QUEUES) == [("Night", False), ("Sales", True)]


@pytest.mark.parametrize("policy", [{"former": "remove"}, {"unmanaged": "remove"}])
@pytest.mark.parametrize("made_by", ["fivrec", "the app"])
async def test_a_new_policy_for_rows_that_fivrec_switched_off_is_intent(
    life: Life, policy: dict[str, str], made_by: str
) -> None:
    if made_by == "the app":
        await life.apply(queues=queues("Sales"))
        await life.rows("INSERT INTO queues (name, environment) VALUES ('Night', 'production')")
    await life.apply(queues=queues("Sales", "Night"))
    off = await life.apply(queues=queues("Sales", unmanaged="deactivate"))
    assert found(off) == [("queue/Night", "deactivate", "intent")]
    wanted = queues("Sales", **{"unmanaged": "deactivate", **policy})
    gone = [] if (made_by, "former" in policy) == ("the app", True) else [("queue/Night", "remove", "intent")]
    assert [
        (str(change.key), change.action, change.cause) for change in (await life.diff(queues=wanted)).changes
    ] == gone
    await life.rows("UPDATE queues SET is_active = true WHERE name = 'Night'")
    by_hand = await life.apply(queues=queues("Sales", unmanaged="deactivate"))
    assert found(by_hand) == [("queue/Night", "deactivate", "drift")]


async def test_adopted_or_changed_rows_are_kept_and_shown(life: Life) -> None:
    await life.apply(queues=queues("Sales"))
    await life.rows("INSERT INTO queues (name, environment) VALUES ('Theirs', 'production')")
    await life.apply(queues=queues("Sales", "Night", "Theirs"))
    await life.rows("UPDATE queues SET description = 'open till late' WHERE name = 'Night'")
    kept = await life.apply(queues=queues("Sales"))
    assert found(kept) == []
    assert [(str(item.key), item.run_id[-1]) for item in kept.former] == [("queue/Night", "2"), ("queue/Theirs", "2")]
    assert (await life.diff(queues=queues("Sales"))).former == kept.former
    assert (await life.last_run()).former == tuple(
        replace(item, at=item.at.replace(microsecond=0)) for item in kept.former
    )


async def test_a_queue_whose_name_others_gave_to_a_second_row_is_kept_and_shown(life: Life) -> None:
    await life.apply(queues=queues("Sales", "Night"))
    await life.rows("INSERT INTO queues (id, name) VALUES ('theirs', 'Night')")
    report = await life.apply(queues=queues("Sales"))
    assert (report.outcome, [item.key for item in report.former]) == ("in_sync", [Key("queue", "Night")])
    assert await life.rows("SELECT DISTINCT is_active FROM queues WHERE name = 'Night'") == [(True,)]
    await life.rows("DELETE FROM queues WHERE id = 'theirs'")
    assert found(await life.apply(queues=queues("Sales"))) == [("queue/Night", "deactivate", "intent")]


@pytest.mark.parametrize(
    "changed",
    [
        queues(items=[{"name": "Days", "renamed_from": "Night"}, {"name": "Sales"}]),
        queues(items=[{"name": "Night", "is_active": False}, {"name": "Sales"}]),
        queues("Sales", unmanaged="deactivate"),
    ],
    ids=["renamed", "switched off", "not declared"],
)
async def test_a_note_says_that_all_queues_of_a_name_are_changed(life: Life, changed: dict[str, Any]) -> None:
    await life.apply(queues=queues("Sales", "Night"))
    await life.rows("INSERT INTO queues (name) VALUES ('Night')")
    note = "⚠️ queue/Night: several rows have this name; all of them are changed"
    assert (await life.diff(queues=changed)).notes == (note,)
    report = await life.apply(queues=changed)
    assert (report.error, report.notes) == (None, (note,))
    assert await life.rows("SELECT count(*) FROM queues WHERE name = 'Night' AND is_active") == [(0,)]


async def test_a_section_that_is_gone_is_shown_and_left(life: Life) -> None:
    await life.apply(queues=queues("Sales"))
    gone = await life.apply(queues=None, admin=None)
    assert found(gone) == []
    assert [str(item.key) for item in gone.former] == ["admin/admin@empresa.com", "queue/Sales"]
    assert await life.rows(QUEUES) == [("Sales", True)]


async def test_a_setting_that_fivrec_made_goes_and_one_it_found_stays(life: Life) -> None:
    config = {**document()["config"], "former_settings": "remove"}
    await life.apply(config=config)
    await life.rows("""INSERT INTO settings (key, value) VALUES ('theirs', '1')""")
    more = {**config, "settings": {"locale": "pt-BR", "theirs": 1, "beta": True}}
    await life.apply(config=more)
    reverted = await life.apply(config=config)
    assert found(reverted) == [("setting/beta", "remove", "intent")]
    assert [str(item.key) for item in reverted.former] == ["setting/theirs"]
    assert await life.rows("SELECT key FROM settings ORDER BY key") == [("company_name",), ("locale",), ("theirs",)]


async def test_a_secret_setting_that_is_gone_keeps_its_fingerprint(life: Life) -> None:
    config = document()["config"]
    secret = {**config, "settings": {"locale": "pt-BR", "smtp": Secret("s3cret-value")}}
    await life.apply(config=config)
    await life.rows("""INSERT INTO settings (key, value) VALUES ('smtp', '"theirs"')""")
    await life.apply(config=secret)
    known = "SELECT fields FROM fivrec.applied WHERE kind = 'setting' AND name = 'smtp'"
    before = await life.rows(known)
    assert found(await life.apply(config=config)) == []
    assert await life.rows(known) == before
    assert found(await life.apply(config=secret)) == []


@pytest.mark.parametrize(("policy", "password"), [("demote", "kept"), ("lock", "!")])
async def test_a_replaced_administrator_is_one_no_more(life: Life, policy: str, password: str) -> None:
    old = {**ADMIN, "former": policy}
    new = {**old, "email": "nova@empresa.com"}
    await life.apply(admin=old)
    before = dict(await life.rows("SELECT email, password FROM users"))
    replaced = await life.apply(admin=new)
    assert found(replaced) == [
        ("admin/admin@empresa.com", "update", "intent"),
        ("admin/nova@empresa.com", "create", "new"),
    ]
    roles = "SELECT email, role FROM users ORDER BY email"
    assert await life.rows(roles) == [("admin@empresa.com", "agent"), ("nova@empresa.com", "admin")]
    after = dict(await life.rows("SELECT email, password FROM users"))
    assert after["admin@empresa.com"] == (before["admin@empresa.com"] if password == "kept" else password)
    again = await life.apply(admin=new)
    assert (again.outcome, again.former) == ("in_sync", ())
    back = await life.apply(admin=old)
    assert {change.cause for change in back.changes} == {"intent"}
    assert await life.rows(roles) == [("admin@empresa.com", "admin"), ("nova@empresa.com", "agent")]
    assert (await life.rows("SELECT password FROM users WHERE email = 'admin@empresa.com'"))[0][0].startswith("$2b$")


async def test_a_later_policy_leaves_the_demoted_alone(life: Life) -> None:
    """That account is a user of the app by now."""
    demoting = {**ADMIN, "former": "demote"}
    await life.apply(admin=demoting)
    await life.apply(admin={**demoting, "email": "nova@empresa.com"})
    before = await life.rows("SELECT email, password FROM users")
    later = await life.apply(admin={**demoting, "email": "nova@empresa.com", "former": "lock"})
    assert (later.outcome, later.former, await life.rows("SELECT email, password FROM users")) == (
        "in_sync",
        (),
        before,
    )


async def test_a_promoted_user_gets_the_old_role_back(life: Life) -> None:
    await life.apply(admin={**ADMIN, "former": "demote"})
    await life.rows(
        "INSERT INTO users (name, email, password, role, environment) "
        "VALUES ('Ana', 'ana@empresa.com', 'x', 'supervisor', 'production')"
    )
    await life.apply(admin={**ADMIN, "name": "Ana", "email": "ana@empresa.com", "former": "demote"})
    await life.apply(admin={**ADMIN, "former": "demote"})
    assert await life.rows("SELECT role FROM users WHERE email = 'ana@empresa.com'") == [("supervisor",)]


async def test_rows_from_before_an_upgrade_count_as_adopted(life: Life) -> None:
    await life.apply(queues=queues("Sales", "Night"))
    await life.rows(
        "ALTER TABLE fivrec.applied DROP COLUMN provenance, DROP COLUMN tenure, DROP COLUMN before;"
        "DROP TABLE fivrec.last_run; DELETE FROM fivrec.migrations WHERE version = 10"
    )
    kept = await life.apply(queues=queues("Sales"))
    assert found(kept) == [("schema/fivrec", "update", "intent")]
    assert [str(item.key) for item in kept.former] == ["queue/Night"]


async def test_a_rename_takes_all_rows_of_the_old_name_along(life: Life) -> None:
    await life.apply(queues=queues("Sales"))
    await life.rows("INSERT INTO queues (name, environment) VALUES ('Sales', 'production')")
    renamed = {"items": [{"name": "Vendas", "renamed_from": "Sales"}], "unmanaged": "deactivate"}
    assert found(await life.apply(queues=renamed)) == [("queue/Vendas", "update", "intent")]
    assert await life.rows(QUEUES) == [("Vendas", True), ("Vendas", True)]
    both = {**renamed, "items": [{"name": "Sales"}, *renamed["items"]]}
    assert found(await life.apply(queues=both)) == [("queue/Sales", "create", "intent")]


async def test_a_reverted_rename_gives_the_row_its_name_back(life: Life) -> None:
    """The conversations belong to the row: a revert that created another would leave them with an inactive queue."""
    vendas = queues(items=[{"name": "Vendas", "renamed_from": "Sales", "description": "x"}])
    await life.apply(queues=queues("Sales"))
    ids = "SELECT id, name, is_active FROM queues"
    (before,) = await life.rows(ids)
    for _ in range(2):  # a second revert works like the first
        assert found(await life.apply(queues=vendas)) == [("queue/Vendas", "update", "intent")]
        shown = await life.diff(queues=queues("Sales"))
        assert found(shown) == [("queue/Sales", "update", "intent")]
        assert ("name", "Vendas", "Sales") in [(one.field, one.before, one.after) for one in shown.changes[0].fields]
        assert found(await life.apply(queues=queues("Sales"))) == [("queue/Sales", "update", "intent")]
        assert await life.rows(ids) == [before]
        assert ((await life.diff(queues=queues("Sales"))).changes, shown.former) == ((), ())


async def test_a_revert_goes_back_over_several_renames(life: Life) -> None:
    await life.apply(queues=queues("Sales", "Support"))
    ids = "SELECT id, name, is_active FROM queues ORDER BY name"
    before = await life.rows(ids)
    for old, new in (("Sales", "Vendas"), ("Vendas", "Comercial")):
        items = [{"name": new, "renamed_from": old}, {"name": "Support"}]
        assert found(await life.apply(queues=queues(items=items))) == [(f"queue/{new}", "update", "intent")]
    assert found(await life.apply(queues=queues("Support"))) == [("queue/Comercial", "deactivate", "intent")]
    assert found(await life.apply(queues=queues("Sales", "Support"))) == [("queue/Sales", "update", "intent")]
    assert await life.rows(ids) == before


async def test_a_row_made_by_others_in_place_of_a_renamed_one_stays(life: Life) -> None:
    await life.apply(queues=queues("Sales", "Support"))
    items = [{"name": "Vendas", "renamed_from": "Sales"}, {"name": "Support"}]
    await life.apply(queues=queues(items=items))
    removed = await life.apply(queues=queues("Support", former="remove"))
    assert found(removed) == [("queue/Vendas", "remove", "intent")]
    await life.rows("INSERT INTO queues (name, environment) VALUES ('Vendas', 'development')")
    assert found(await life.apply(queues=queues("Sales", "Support"))) == [("queue/Sales", "create", "intent")]
    assert await life.rows(QUEUES) == [("Sales", True), ("Support", True), ("Vendas", True)]


async def test_a_name_that_is_free_again_is_a_new_queues(life: Life) -> None:
    """If the new name stays declared, or its row is gone, nothing is reverted."""
    await life.apply(queues=queues("Sales"))
    await life.apply(queues=queues(items=[{"name": "Vendas", "renamed_from": "Sales"}]))
    assert found(await life.apply(queues=queues("Sales", "Vendas"))) == [("queue/Sales", "create", "intent")]
    assert await life.rows(QUEUES) == [("Sales", True), ("Vendas", True)]
    await life.rows("DELETE FROM queues")
    again = await life.apply(queues=queues("Sales"))
    assert [(str(change.key), change.action) for change in again.changes] == [("queue/Sales", "create")]


@pytest.mark.parametrize("update", ["on_create", "always"])
async def test_a_reverted_address_is_the_same_persons(life: Life, update: str) -> None:
    admin = {**document()["admin"], "update_password": update}
    other = {**admin, "email": "bia@empresa.com", "renamed_from": admin["email"]}
    await life.apply(admin=admin)
    users = "SELECT id, email, role, password FROM users"
    before = await life.rows(users)
    assert found(await life.apply(admin=other)) == [("admin/bia@empresa.com", "update", "intent")]
    assert found(await life.apply(admin=admin)) == [(f"admin/{admin['email']}", "update", "intent")]
    assert await life.rows(users) == before
    assert (await life.diff(admin=admin)).changes == ()


@pytest.mark.parametrize("policy", ["demote", "lock"])
async def test_a_former_administrators_address_is_reverted_too(life: Life, policy: str) -> None:
    """Two renames and a replacement, reverted at once: this used to look at administrators only, and make a user."""

    def of(email: str, **more: Any) -> dict[str, Any]:
        return {"admin": {**ADMIN, "email": email, "former": policy, **more}}

    first = of("ana@empresa.com")
    await life.apply(**first)
    (before,) = await life.rows("SELECT id, email, role FROM users")
    await life.apply(**of("bia@empresa.com", renamed_from="ana@empresa.com"))
    await life.apply(**of("carla@empresa.com", renamed_from="bia@empresa.com"))
    await life.apply(**of("rui@empresa.com"))
    assert found(await life.diff(**first)) == [
        ("admin/ana@empresa.com", "update", "intent"),
        ("admin/rui@empresa.com", "update", "intent"),
    ]
    back = await life.apply(**first)
    assert (back.error, back.former) == (None, ())
    assert await life.rows("SELECT id, email, role FROM users WHERE email <> 'rui@empresa.com'") == [before]
    assert await life.rows("SELECT role FROM users WHERE email = 'rui@empresa.com'") == [("agent",)]
    assert (await life.diff(**first)).changes == ()


async def test_an_old_renamed_from_does_not_block_a_later_revert(life: Life) -> None:
    """`renamed_from` may stay in the manifest, so after a revert it may name a row that is long gone."""
    admin, ids = document()["admin"], "SELECT id, name FROM queues ORDER BY name"
    first = {
        "queues": queues(items=[{"name": "Vendas", "renamed_from": "Sales"}, {"name": "Support"}]),
        "admin": {**admin, "email": "bia@empresa.com", "renamed_from": admin["email"]},
    }
    second = {
        "queues": queues(items=[{"name": "Comercial", "renamed_from": "Vendas"}, {"name": "Support"}]),
        "admin": {**admin, "email": "carla@empresa.com", "renamed_from": "bia@empresa.com"},
    }
    await life.apply(queues=queues("Sales", "Support"), admin=admin)
    await life.apply(**first)
    before = [await life.rows(ids), await life.rows("SELECT id, email, role FROM users")]
    await life.apply(**second)
    reverted = [("admin/bia@empresa.com", "update", "intent"), ("queue/Vendas", "update", "intent")]
    assert found(await life.apply(**first)) == reverted
    assert [await life.rows(ids), await life.rows("SELECT id, email, role FROM users")] == before
    assert (await life.diff(**first)).changes == ()


async def test_a_rename_from_a_row_that_is_there_comes_before_a_revert(life: Life) -> None:
    await life.apply(queues=queues("Sales", "Support"))
    await life.apply(queues=queues(items=[{"name": "Vendas", "renamed_from": "Sales"}, {"name": "Support"}]))
    ids = dict(await life.rows("SELECT name, id FROM queues"))
    await life.apply(queues=queues(items=[{"name": "Sales", "renamed_from": "Support"}], former="keep"))
    assert dict(await life.rows("SELECT name, id FROM queues")) == {"Sales": ids["Support"], "Vendas": ids["Vendas"]}


async def test_a_manual_rename_declared_afterwards_is_reverted_too(life: Life) -> None:
    """`pull` leaves a changed name to be edited by hand: then nothing is to be done, but it still is a rename."""
    admin = document()["admin"]
    await life.apply(queues=queues("Sales"), admin=admin)
    before = [await life.rows("SELECT id, name FROM queues"), await life.rows("SELECT id, email FROM users")]
    await life.rows("UPDATE queues SET name = 'Vendas'")
    await life.rows("UPDATE users SET email = 'bia@empresa.com'")
    bia = {**admin, "email": "bia@empresa.com", "renamed_from": admin["email"]}
    written = {"queues": queues(items=[{"name": "Vendas", "renamed_from": "Sales"}]), "admin": bia}
    assert found(await life.apply(**written)) == []
    reverted = [(f"admin/{admin['email']}", "update", "intent"), ("queue/Sales", "update", "intent")]
    assert found(await life.apply(queues=queues("Sales"), admin=admin)) == reverted
    assert [await life.rows("SELECT id, name FROM queues"), await life.rows("SELECT id, email FROM users")] == before
    assert (await life.diff(queues=queues("Sales"), admin=admin)).changes == ()


async def test_a_part_of_a_manifest_reverts_no_rename(life: Life) -> None:
    """It does not say which names are no longer declared: the newer one may still be."""
    admin = document()["admin"]
    await life.apply(admin=admin, queues=queues("Sales"))
    vendas = queues(items=[{"name": "Vendas", "renamed_from": "Sales"}])
    await life.apply(admin={**admin, "email": "bia@empresa.com", "renamed_from": admin["email"]}, queues=vendas)
    part = replace(life.of(admin=admin, queues=queues("Sales", former="keep")), whole=False)
    report = await reconcile(part, run_of(life.keys, life.folder, 50))
    assert found(report) == [(f"admin/{admin['email']}", "create", "intent"), ("queue/Sales", "create", "intent")]


async def test_adopting_a_database_does_not_waive_its_environment(life: Life) -> None:
    await life.apply()
    key = "SELECT instance, sealed FROM fivrec.audit_key"
    before = await life.rows(key)
    moved = document(instance="other", admin=None, environment={**document()["environment"], "name": "development"})
    desired = desired_of(moved, life.url, connect=None)
    report = await reconcile(desired, run_of(life.keys, life.folder, 7, adopt=True))
    assert report.error is not None
    assert (report.exit_code, report.error.code) == (3, "guard")
    assert "would change from production to development" in report.error.message
    # Nothing was taken over: the log's key is still the owner's, who finds nothing wrong with it.
    assert await life.rows(key) == before
    verified = await verify_history(desired_of(document(), life.url), run_of(life.keys, life.folder, 8), None)
    assert verified.finding is None


class TestLastRun:
    async def test_a_no_op_run_is_on_record_too(self, life: Life) -> None:
        await life.apply()
        await life.apply()
        last = await life.last_run()
        assert (last.run_id[-1], last.command, last.actor, last.outcome) == ("2", "apply", "test", "in_sync")
        assert (last.changes, last.drift, last.error) == (0, 0, None)

    async def test_a_refusal_and_what_it_found(self, life: Life) -> None:
        await life.apply(queues=queues("A", "B", unmanaged="deactivate"))
        await life.rows("UPDATE queues SET description = 'x' WHERE name = 'A'")
        refused = await life.apply(queues={"items": [{"name": "A", "is_active": False}], "unmanaged": "deactivate"})
        assert refused.outcome == "refused"
        last = await life.last_run()
        assert (last.outcome, last.error, last.changes, last.drift) == ("refused", "guard", 0, 1)
        assert [str(item.key) for item in last.open_drift] == ["queue/A"]

    async def test_drift_has_the_time_of_the_run_that_saw_it_first(self, life: Life) -> None:
        await life.apply()
        await life.rows("UPDATE settings SET value = '\"en\"' WHERE key = 'locale'")
        first = datetime(2026, 3, 1, tzinfo=UTC)
        key = Key("setting", "locale")
        assert (await life.diff()).since == {}
        for day in (first, first.replace(day=2)):
            run = run_of(life.keys, life.folder, 5, report_only=True)
            report = await reconcile(life.of(), replace(run, now=lambda day=day: day))
            assert report.outcome == "skipped"
        assert (await life.diff()).since == {key: first}
        assert await life.rows("SELECT value FROM settings WHERE key = 'locale'") == [("en",)]
        assert found(await life.apply()) == [("setting/locale", "update", "drift")]
        assert ((await life.diff()).since, (await life.last_run()).drift) == ({}, 1)

    async def test_suspended_runs_are_on_record(self, life: Life) -> None:
        await life.apply()
        await reconcile(replace(life.of(), suspend=True), run_of(life.keys, life.folder, 6))
        assert (await life.last_run()).outcome == "skipped"

    async def test_a_failure_before_anything_was_read(self, life: Life) -> None:
        await life.apply()
        await life.rows("ALTER TABLE queues RENAME COLUMN name TO title")
        report = await life.apply()
        last = await life.last_run()
        assert (report.outcome, last.outcome, last.error) == ("failed", "failed", report.error and report.error.code)


async def test_report_only_follows_the_lock_and_nothing_else(life: Life) -> None:
    await life.apply()
    audit = await life.rows("SELECT count(*) FROM fivrec.audit_log")

    def suspend(state: EmulatorState) -> EmulatorState:
        return state.with_instance(INSTANCE, replace(state.instances[INSTANCE], status="suspended"))

    StateFile(life.folder / "connect.json").update(suspend)
    report = await reconcile(
        life.of(queues=queues("Sales", "New")), run_of(life.keys, life.folder, 5, report_only=True)
    )
    assert report.outcome == "skipped"
    assert await life.rows("SELECT is_locked FROM instance_config") == [(True,)]
    assert ("New", True) not in await life.rows(QUEUES)
    assert await life.rows("SELECT count(*) - %s FROM fivrec.audit_log WHERE kind <> 'status'", audit[0][0] - 1) == [
        (0,)
    ]


async def test_drift_alone_is_shown_field_by_field(life: Life) -> None:
    first = {"items": [{"name": "Sales", "description": "we sell"}], "unmanaged": "keep"}
    await life.apply(queues=first)
    await life.rows("UPDATE queues SET description = 'by hand'")
    wanted = {
        "items": [{"name": "Sales", "description": "we sell", "is_active": False}, {"name": "New"}],
        "unmanaged": "keep",
    }
    report = await life.diff(queues=wanted, drift_only=True)
    assert found(report) == [("queue/Sales", "update", "drift")]
    assert [field.field for field in report.changes[0].fields] == ["description"]
    assert (report.notes, report.former) == ((), ())


async def test_history_of_drift_alone(life: Life) -> None:
    await life.apply()
    await life.rows("UPDATE settings SET value = '1' WHERE key = 'locale'")
    await life.apply()
    desired, run = life.of(), run_of(life.keys, life.folder, 98)
    async with opened(desired, run) as conn:
        entries = await read_history(conn, build_scope(desired), HistoryFilter(cause="drift"))
    assert [(entry.kind, entry.name) for entry in entries] == [("setting", "locale")]
