"""Administrators match by e-mail in any case, names in any Unicode form, plans even if their names are swapped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.engine.reconcile import preview, reconcile
from reconciler.engine.status_and_logs import verify_history
from reconciler.model.secret import Secret
from reconciler.model.types import ConnectPlan, Desired
from reconciler.support.crypto.keyring import KeyRing
from tests.support.databases import run_sql
from tests.support.engine import desired_of, document, run_of

APP_USERS = """
CREATE TABLE users (id varchar PRIMARY KEY DEFAULT gen_random_uuid(), name text NOT NULL, email text NOT NULL,
  password text NOT NULL, role text NOT NULL DEFAULT 'agent', environment text NOT NULL DEFAULT 'production');
INSERT INTO users (name, email, password, role) VALUES ('Bia', 'bia@empresa.com', 'x', 'agent');
"""
MADE = {
    "plain": "",
    "UNIQUE (email)": "ALTER TABLE users ADD UNIQUE (email)",
    "UNIQUE (lower(email))": "CREATE UNIQUE INDEX users_lower ON users (lower(email))",
    "citext": "CREATE EXTENSION citext; ALTER TABLE users ALTER email TYPE citext, ADD UNIQUE (email)",
}


@pytest.mark.parametrize("role", ["admin", "agent"])
@pytest.mark.parametrize("made", MADE)
async def test_the_administrator_is_found_in_any_case_of_the_email(
    database: Secret, keys: KeyRing, tmp_path: Path, made: str, role: str
) -> None:
    await run_sql(database, APP_USERS + MADE[made])
    there = f"INSERT INTO users (name, email, password, role) VALUES ('A', 'Admin@Empresa.com', 'x', '{role}')"
    await run_sql(database, there)
    desired, run = desired_of(document(), database), run_of(keys, tmp_path)
    report = await reconcile(desired, run)
    assert report.error is None
    found = await run_sql(database, "SELECT email::text, name, role FROM users ORDER BY 1")
    assert found == [("admin@empresa.com", "Administrador", "admin"), ("bia@empresa.com", "Bia", "agent")]
    assert (await reconcile(desired, replace(run, id="second"))).outcome == "in_sync"
    applied = "SELECT name FROM fivrec.applied WHERE kind = 'admin'"
    assert await run_sql(database, applied) == [("admin@empresa.com",)]


async def test_several_administrators_are_ambiguous_nothing_is_written(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    desired, run = desired_of(document(), database), run_of(keys, tmp_path)
    await reconcile(replace(desired, managed={**desired.managed, "admin": replace(desired.managed["admin"])}), run)
    await run_sql(
        database,
        "UPDATE users SET email = 'Admin@empresa.com'; UPDATE queues SET description = 'by hand';"
        "INSERT INTO users (name, email, password, role) VALUES ('b', 'ADMIN@empresa.com', 'x', 'agent')",
    )
    report = await reconcile(desired, replace(run, id="second"))
    assert report.error is not None
    assert (report.exit_code, report.error.code) == (1, "ambiguous")
    assert "ADMIN@empresa.com, Admin@empresa.com" in report.error.message
    assert await run_sql(database, "SELECT DISTINCT description FROM queues") == [("by hand",)]
    exact = "UPDATE users SET email = 'admin@empresa.com' WHERE email = 'Admin@empresa.com'"
    await run_sql(database, exact)
    assert (await reconcile(desired, replace(run, id="third"))).error is None


async def test_a_queue_keeps_its_row_in_another_unicode_form(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    first = document(queues={"items": [{"name": "Sai\u0301da"}], "unmanaged": "keep"})
    second = document(queues={"items": [{"name": "Sa\u00edda"}], "unmanaged": "keep"})
    run = run_of(keys, tmp_path)
    await reconcile(desired_of(first, database), run)
    before = await run_sql(database, "SELECT id FROM queues")
    assert (await reconcile(desired_of(second, database), replace(run, id="second"))).error is None
    assert await run_sql(database, "SELECT id, name FROM queues") == [(before[0][0], "Sa\u00edda")]


DOUBLE = "⚠️ queue/Sales: several rows have this name; the oldest active one is compared, the others stay as they are"


@pytest.mark.parametrize("lost", ["", "DROP SCHEMA fivrec CASCADE"])
async def test_a_queue_that_is_there_twice_is_noted(database: Secret, keys: KeyRing, tmp_path: Path, lost: str) -> None:
    desired, run = desired_of(document(), database), run_of(keys, tmp_path)
    assert (await reconcile(desired, run)).notes == ()
    await run_sql(
        database,
        "INSERT INTO queues (name, description, environment) SELECT name, 'other', environment FROM queues; "
        f"INSERT INTO queues (name, environment) VALUES ('Own', 'development'), ('Own', 'development'); {lost}",
    )
    shown, done = await preview(desired, run), await reconcile(desired, replace(run, id="second"))
    for report in (shown, done):
        assert report.error is None
        assert [note for note in report.notes if "several rows" in note] == [
            DOUBLE,
            DOUBLE.replace("Sales", "Technical Support"),
        ]
    assert await run_sql(database, "SELECT count(*) FROM queues WHERE description = 'other'") == [(2,)]


def with_plans(url: Secret, **names: str) -> Desired:
    items = [
        {"id": key, "name": name, "price": 100, "billing_interval": "month", "features": []}
        for key, name in names.items()
    ]
    for item in items:
        ConnectPlan(**item)
    return desired_of(document(plans={"source": "manifest", "unmanaged": "deactivate", "items": items}), url)


TWICE = {
    "a setting": (
        """ALTER TABLE settings DROP CONSTRAINT settings_pkey;
        INSERT INTO settings (key, value) VALUES ('locale', '"en"')""",
        "SELECT DISTINCT value #>> '{}' FROM settings WHERE key = 'locale'",
        [("pt-BR",)],
    ),
    "a setting of a table that inherits": (
        """CREATE TABLE old () INHERITS (settings); INSERT INTO old VALUES ('locale', '"pt-BR"');
        UPDATE ONLY settings SET value = '"en"' WHERE key = 'locale'""",
        "SELECT DISTINCT value #>> '{}' FROM settings WHERE key = 'locale'",
        [("pt-BR",)],
    ),
    "a plan": (
        """ALTER TABLE plans DROP CONSTRAINT plans_pkey CASCADE; INSERT INTO plans SELECT * FROM plans WHERE id = 'p1';
        UPDATE plans SET price = 1 WHERE ctid = (SELECT min(ctid) FROM plans WHERE id = 'p1')""",
        "SELECT DISTINCT price FROM plans WHERE id = 'p1'",
        [(100,)],
    ),
    "a plan that is sold no more": (
        """ALTER TABLE plans DROP CONSTRAINT plans_pkey CASCADE;
        UPDATE plans SET id = 'p9', is_active = false WHERE id = 'p2';
        INSERT INTO plans SELECT * FROM plans WHERE id = 'p9';
        UPDATE plans SET is_active = true WHERE ctid = (SELECT max(ctid) FROM plans WHERE id = 'p9')""",
        "SELECT DISTINCT is_active FROM plans WHERE id = 'p9'",
        [(False,)],
    ),
}


@pytest.mark.parametrize("case", TWICE)
async def test_rows_of_one_key_are_compared_and_written_together(
    database: Secret, keys: KeyRing, tmp_path: Path, case: str
) -> None:
    """A unique index prevents duplicates only while it exists, and never those in an inheriting table."""
    made, query, expected = TWICE[case]
    desired, run = with_plans(database, p1="Starter", p2="Pro"), run_of(keys, tmp_path)
    await reconcile(desired, run)
    if "sold no more" in case:
        desired = with_plans(database, p1="Starter")
    for statement in made.split(";"):
        await run_sql(database, statement)
    assert (await preview(desired, run)).outcome == "changed"
    assert (await reconcile(desired, replace(run, id="second"))).error is None
    assert await run_sql(database, query) == expected
    assert (await reconcile(desired, replace(run, id="third"))).outcome == "in_sync"


async def test_a_guard_counts_plans_of_which_any_row_is_sold(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    run = run_of(keys, tmp_path)
    await reconcile(with_plans(database, p1="A", p2="B", p3="C"), run)
    await run_sql(
        database,
        "ALTER TABLE plans DROP CONSTRAINT plans_pkey CASCADE;"
        "UPDATE plans SET is_active = false; INSERT INTO plans SELECT * FROM plans;"
        "UPDATE plans SET is_active = true WHERE ctid IN (SELECT max(ctid) FROM plans GROUP BY id)",
    )
    report = await reconcile(with_plans(database, p1="A"), replace(run, id="second"))
    assert report.outcome == "refused"
    shown = [field.shown() for change in report.changes for field in change.fields if change.action == "deactivate"]
    assert shown in ([], 2 * [{"field": "is_active", "before": True, "after": False}])
    found = await preview(with_plans(database, p1="A"), run)
    shown = [field.shown() for change in found.changes for field in change.fields if change.action == "deactivate"]
    assert shown == 2 * [{"field": "is_active", "before": True, "after": False}]


async def test_a_duplicate_former_administrator_is_shown_and_left_alone(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    run = run_of(keys, tmp_path)
    first = document()["admin"]
    await reconcile(desired_of(document(), database), run)
    await run_sql(
        database,
        "ALTER TABLE users DROP CONSTRAINT users_email_key;"
        "INSERT INTO users (name, email, password, role, environment)"
        " SELECT name, email, password, role, environment FROM users",
    )
    other = {**first, "email": "other@empresa.com", "former": "lock"}
    report = await reconcile(desired_of(document(admin=other), database), replace(run, id="second"))
    assert report.error is None
    assert [str(former.key) for former in report.former] == [f"admin/{first['email']}"]
    roles = await run_sql(database, f"SELECT DISTINCT role FROM users WHERE email = '{first['email']}'")
    assert roles == [("admin",)]


async def test_an_address_that_stands_there_twice_is_ambiguous(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    desired, run = desired_of(document(), database), run_of(keys, tmp_path)
    await reconcile(desired, run)
    await run_sql(
        database,
        "ALTER TABLE users DROP CONSTRAINT users_email_key; UPDATE users SET role = 'agent';"
        "INSERT INTO users (name, email, password, role) SELECT name, email, password, 'admin' FROM users",
    )
    report = await reconcile(desired, replace(run, id="second"))
    assert report.error is not None
    assert (report.exit_code, report.error.code) == (1, "ambiguous")
    assert "admin/admin@empresa.com could be any of 2 users" in report.error.message


async def test_a_secret_setting_that_is_there_twice_is_compared_as_one(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    config = {**document()["config"], "settings": {"smtp_password": Secret("canary")}}
    desired, run = desired_of(document(config=config), database), run_of(keys, tmp_path)
    await reconcile(desired, run)
    await run_sql(
        database,
        "ALTER TABLE settings DROP CONSTRAINT settings_pkey;"
        "UPDATE settings SET value = '1' WHERE key = 'smtp_password';"
        "INSERT INTO settings (key, value) VALUES ('smtp_password', '\"canary\"')",
    )
    report = await reconcile(desired, replace(run, id="second"))
    assert (report.error, [change.fields[0].sensitive for change in report.changes]) == (None, [True])
    assert "canary" not in f"{report}"
    found = await run_sql(database, "SELECT DISTINCT value::text FROM settings WHERE key = 'smtp_password'")
    assert found == [('"canary"',)]


@pytest.mark.parametrize(
    "after",
    [
        {"p1": "Basic", "p2": "Pro", "p3": "Starter"},
        {"p1": "Pro", "p2": "Starter"},
        {"p1": "Pro", "p2": "Max"},
        {"p2": "Starter", "p1": "Max"},
        {"p1": "Pro", "p2": "Starter", "p0": "Max"},
    ],
)
async def test_names_of_plans_change_hands_under_unique(
    database: Secret, keys: KeyRing, tmp_path: Path, after: dict[str, str]
) -> None:
    run = run_of(keys, tmp_path)
    assert (await reconcile(with_plans(database, p1="Starter", p2="Pro"), run)).error is None
    await run_sql(database, "ALTER TABLE plans ADD CONSTRAINT plans_name_key UNIQUE (name)")
    wanted = with_plans(database, **after)
    report = await reconcile(wanted, replace(run, id="second"))
    assert report.error is None
    assert dict(await run_sql(database, "SELECT id, name FROM plans")) == after
    assert (await reconcile(wanted, replace(run, id="third"))).outcome == "in_sync"


@pytest.mark.parametrize("unique", ["stripe_price_id", "stripe_product_id", "lower(name)"])
async def test_unique_values_of_plans_can_be_swapped(
    database: Secret, keys: KeyRing, tmp_path: Path, unique: str
) -> None:
    run, wanted = run_of(keys, tmp_path), desired_of(document(), database)
    await reconcile(wanted, run)
    await run_sql(
        database,
        f"CREATE UNIQUE INDEX ON plans ({unique});"
        "UPDATE plans SET name = id, stripe_price_id = id, stripe_product_id = id;"
        "UPDATE plans SET name = upper('Professional'), stripe_price_id = 'price_professional',"
        " stripe_product_id = 'prod_professional' WHERE id = 'plan_starter';"
        "UPDATE plans SET name = upper('Starter'), stripe_price_id = 'price_starter',"
        " stripe_product_id = 'prod_starter' WHERE id = 'plan_professional'",
    )
    report = await reconcile(wanted, replace(run, id="second"))
    assert report.error is None
    found = "SELECT name, stripe_price_id, stripe_product_id FROM plans WHERE id = 'plan_starter'"
    assert await run_sql(database, found) == [("Starter", "price_starter", "prod_starter")]
    assert (await reconcile(wanted, replace(run, id="third"))).outcome == "in_sync"


async def test_a_change_of_owner_is_shown_with_the_former_one(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    run = run_of(keys, tmp_path)
    await reconcile(desired_of(document(instance="former"), database, connect=None), run)
    taking = replace(run, id="second", adopt=True)
    report = await reconcile(desired_of(document(), database, connect=None), taking)
    assert report.error is None
    told = [item.shown() for change in report.changes if change.key.kind == "config" for item in change.fields]
    owner = {"field": "instance_id", "before": "former", "after": "client-abc-123"}
    assert told == [owner, {"field": "instance_key", "sensitive": True}]
    audited = "SELECT fields -> 0 ->> 'before' FROM fivrec.audit_log WHERE run_id = 'second' AND kind = 'config'"
    assert await run_sql(database, audited) == [("former",)]


async def test_only_the_columns_that_change_are_written(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    """What the app commits to an accepted column after it was read is not overwritten."""
    run = run_of(keys, tmp_path)
    await reconcile(desired_of(document(), database), run)
    await run_sql(
        database,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'no'; END$$;"
        "CREATE TRIGGER t BEFORE UPDATE OF is_active, name ON queues FOR EACH ROW EXECUTE FUNCTION refuse();"
        "CREATE TRIGGER t BEFORE UPDATE OF name, price, features ON plans FOR EACH ROW EXECUTE FUNCTION refuse();"
        "CREATE TRIGGER t BEFORE UPDATE OF password, email ON users FOR EACH ROW EXECUTE FUNCTION refuse();"
        "CREATE TRIGGER t BEFORE UPDATE OF instance_key, instance_id, status ON instance_config"
        " FOR EACH ROW EXECUTE FUNCTION refuse();"
        "UPDATE queues SET description = 'by hand'; UPDATE plans SET max_users = 7; UPDATE users SET role = 'agent';"
        "UPDATE instance_config SET check_interval_minutes = 7, is_locked = true",
    )
    report = await reconcile(desired_of(document(), database), replace(run, id="second"))
    assert (report.outcome, report.error) == ("changed", None)
    assert (await reconcile(desired_of(document(), database), replace(run, id="third"))).outcome == "in_sync"


async def made_by_setup(url: Secret, keys: KeyRing, folder: Path) -> None:
    """As `fivrec setup` does, which knows no name but the database's."""
    bare = document(instance="fivapp-abc", config={"company_name": "X"}, plans=None)
    report = await reconcile(desired_of(bare, url, connect=None), run_of(keys, folder))
    assert report.error is None


async def test_an_instance_made_by_setup_is_taken_over_with_its_log(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    await made_by_setup(database, keys, tmp_path)
    desired, run = desired_of(document(), database), run_of(keys, tmp_path, 2)
    shown = await preview(desired, run)
    report = await reconcile(desired, run)
    assert (report.outcome, report.error, report.digest) == ("changed", None, shown.digest)
    said = "taken over from fivapp-abc, under which name this database was made"
    assert (said in shown.notes, said in report.notes) == (True, True)
    audited = "SELECT fields::text, instance FROM fivrec.audit_log WHERE kind = 'audit' AND name = 'owner'"
    ((fields, instance),) = await run_sql(database, audited)
    assert json.loads(fields) == [{"field": "instance", "before": "fivapp-abc", "after": "client-abc-123"}]
    assert instance == "client-abc-123"
    assert (await verify_history(desired, run, None)).finding is None
    assert (await reconcile(desired, run_of(keys, tmp_path, 3))).notes == ()
    assert len(await run_sql(database, audited)) == 1


GONE = {
    "deleted": "DELETE FROM instance_config",
    "dropped": "DROP TABLE instance_config CASCADE",
    "without a name": "ALTER TABLE instance_config ALTER instance_id DROP NOT NULL;"
    "UPDATE instance_config SET instance_id = NULL",
}


@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.parametrize("how", GONE)
async def test_the_owner_is_on_record_if_its_row_is_gone(
    how: str, keyed: bool, database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    desired, run = desired_of(document(instance="other"), database, connect=None), run_of(keys, tmp_path)
    await reconcile(desired_of(document(), database, connect=None), run)
    await run_sql(database, GONE[how] + ("" if keyed else "; DELETE FROM fivrec.audit_key"))
    for refused in (await preview(desired, run), await reconcile(desired, replace(run, id="second"))):
        assert refused.error is not None
        assert (refused.exit_code, refused.error.code) == (3, "wrong_instance")
        assert refused.error.message == 'the database belongs to instance "client-abc-123", not to "other"'
        assert "--adopt" in refused.error.hint
    report = await reconcile(desired, replace(run, id="third", adopt=True))
    assert report.error is None
    assert "taken over from client-abc-123" in report.notes
    assert not keyed or (await verify_history(desired, run, None)).finding is None
    assert (await reconcile(desired, replace(run, id="fourth"))).outcome == "in_sync"


@pytest.mark.parametrize("kind", ["text", "citext"])
async def test_a_queue_that_differs_only_in_case_is_noted(
    database: Secret, keys: KeyRing, tmp_path: Path, kind: str
) -> None:
    """A column of type citext refuses the second one; the diff only said that it would be created."""
    run, first = run_of(keys, tmp_path), document(queues={"items": [{"name": "sales"}], "unmanaged": "keep"})
    await reconcile(desired_of(first, database), run)
    await run_sql(
        database,
        f"CREATE EXTENSION citext; ALTER TABLE queues ALTER name TYPE {kind}; CREATE UNIQUE INDEX ON queues (name)",
    )
    items = [{"name": "Sales"}]
    desired = desired_of(document(queues={"items": items, "unmanaged": "keep"}), database)
    (note,) = [note for note in (await preview(desired, run)).notes if "queue/Sales" in note]
    assert note.startswith("⚠️ queue/Sales: there is queue/sales, which differs only in case")
    report = await reconcile(desired, replace(run, id="second"))
    assert (report.error and report.error.code) == (None if kind == "text" else "rows_unfit")
    if kind == "citext":
        items[0]["renamed_from"] = "sales"
        desired = desired_of(document(queues={"items": items, "unmanaged": "keep"}), database)
        assert (await reconcile(desired, replace(run, id="third"))).error is None
        assert await run_sql(database, "SELECT name::text FROM queues") == [("Sales",)]
