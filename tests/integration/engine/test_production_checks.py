"""production-test: what each check finds, and that it leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from reconciler.database.schema import latest_version
from reconciler.engine.production_checks import production_test
from reconciler.engine.reconcile import preview, reconcile
from reconciler.model.secret import Secret
from reconciler.model.types import EnvironmentSpec
from reconciler.planning.guards import STRONG_LOGIN
from reconciler.support.crypto.key_files import generate_key
from reconciler.support.crypto.keyring import KeyRing
from tests.support.engine import desired_of, document, run_of
from tests.support.isolated import Isolated, environment

NAMES = ["schema", "isolation", "admin", "passwords", "queues", "plans", "key", "usage", "connect"]
TABLES = (
    "users", "clients", "queues", "conversations", "messages", "plans", "settings", "instance_config",
    "status_check_logs", "fivrec.applied", "fivrec.audit_log", "fivrec.usage_outbox",
)  # fmt: skip


def everything(url: str) -> dict[str, Any]:
    """Returns every row with its place and writer, and every policy and flag."""
    with psycopg.connect(url) as conn:
        found: dict[str, Any] = {
            table: conn.execute(f"SELECT ctid, xmin, t::text FROM {table} t ORDER BY ctid").fetchall()
            for table in TABLES
        }
        found["policies"] = conn.execute("SELECT polrelid, polname FROM pg_policy ORDER BY 1, 2").fetchall()
        found["roles"] = conn.execute("SELECT rolname FROM pg_roles ORDER BY 1").fetchall()
        return found


async def checked(url: Secret, keys: KeyRing, folder: Path, **sections: Any) -> dict[str, tuple[bool, str]]:
    whole = document(**sections)
    spec = EnvironmentSpec(**whole["environment"])
    desired = replace(desired_of(whole, url), environment=spec)
    checks = await production_test(desired, run_of(keys, folder), allow_embedded=True)
    return {check.name: (check.passed, check.message) for check in checks}


async def applied(url: Secret, keys: KeyRing, folder: Path, **sections: Any) -> None:
    report = await reconcile(desired_of(document(**sections), url), run_of(keys, folder))
    assert report.error is None


def failed(found: dict[str, tuple[bool, str]]) -> dict[str, str]:
    return {name: message for name, (passed, message) in found.items() if not passed}


async def test_an_instance_as_declared_passes_every_check(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    await applied(database, keys, tmp_path)
    before = everything(database.reveal())
    found = await checked(database, keys, tmp_path)
    assert (list(found), failed(found)) == (NAMES, {})
    assert found["admin"][1] == "admin@empresa.com logs in with the declared password"
    assert found["plans"][1] == "3 as at Connect"
    assert everything(database.reveal()) == before


async def test_enforced_isolation_is_probed_too(isolated: Isolated, keys: KeyRing, tmp_path: Path) -> None:
    enforced = {"environment": environment(isolation="enforced")}
    await applied(isolated.owner, keys, tmp_path, **enforced)
    before = everything(isolated.admin)
    found = await checked(isolated.owner, keys, tmp_path, **enforced)
    assert failed(found) == {}
    assert found["isolation"][1] == "enforced: a probe row in each direction was refused"
    assert everything(isolated.admin) == before


@pytest.mark.parametrize(("own", "other"), [("development", "production"), ("production", "development")])
async def test_rows_of_each_environment_that_break_the_rules_are_named(
    own: str, other: str, isolated: Isolated, keys: KeyRing, tmp_path: Path
) -> None:
    enforced = {"environment": environment(isolation="enforced")}
    await applied(isolated.owner, keys, tmp_path, **enforced)
    key = "messages_conversation_id_environment_fkey"
    with psycopg.connect(isolated.admin, autocommit=True) as conn:
        conn.execute(f"ALTER TABLE messages DROP CONSTRAINT {key}")
        conn.execute("UPDATE messages SET conversation_id = %s WHERE id = %s", (f"k{other}", f"m{own}"))
        conn.execute(
            f"ALTER TABLE messages ADD CONSTRAINT {key} FOREIGN KEY (conversation_id, environment) "
            "REFERENCES conversations (id, environment) NOT VALID"
        )
    found = await checked(isolated.owner, keys, tmp_path, **enforced)
    assert failed(found) == {"isolation": f"messages m{own} breaks the rules of environments (conversation_id)"}


async def test_a_probe_row_that_the_app_refuses_fails_its_check_alone(
    isolated: Isolated, keys: KeyRing, tmp_path: Path
) -> None:
    enforced = {"environment": environment(isolation="enforced")}
    await applied(isolated.owner, keys, tmp_path, **enforced)
    with psycopg.connect(isolated.admin, autocommit=True) as conn:
        conn.execute("UPDATE queues SET description = 'x'; ALTER TABLE queues ALTER description SET NOT NULL")
    found = await checked(isolated.owner, keys, tmp_path, **enforced)
    assert list(found) == NAMES
    assert "a probe row could not be made: queues description" in failed(found)["isolation"]


async def test_a_development_instance_is_tested_as_production(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    admin = {**document()["admin"], "email": "dev@empresa.com"}
    await applied(database, keys, tmp_path, environment=environment("development"), admin=admin)
    before = everything(database.reveal())
    found = await checked(database, keys, tmp_path, environment=environment("development"))
    assert failed(found) == {}
    assert everything(database.reveal()) == before
    taken = await checked(database, keys, tmp_path, environment=environment("development"), admin=admin)
    assert failed(taken) == {}  # the administrator moves along
    assert everything(database.reveal()) == before


@pytest.mark.parametrize("name", ["development", "production"])
async def test_an_instance_never_applied_is_not_called_ready(
    migrated: Secret, keys: KeyRing, tmp_path: Path, name: str
) -> None:
    """As after the setup script alone: the rehearsal would judge rows that nobody has made yet."""
    found = await checked(migrated, keys, tmp_path, environment=environment(name))
    said = f"version {latest_version()}, but nothing was ever applied to it, so nothing else can be tested: run"
    assert found == {"schema": (False, f"{said} `fivrec apply` once")}


async def test_a_key_that_only_the_rehearsal_stores_is_not_tested(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    """As after `setup`, which makes no row of instance_config."""
    await applied(database, keys, tmp_path, environment=environment("development"))
    with psycopg.connect(database.reveal(), autocommit=True) as conn:
        conn.execute("DELETE FROM instance_config")
    found = await checked(database, keys, tmp_path, environment=environment("development"))
    assert failed(found) == {"key": "no instance key is stored (run `fivrec apply` once)"}


async def test_the_rehearsal_deletes_the_test_data_first(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    """As going live does: test rows that refer to the administrator don't prevent its move."""
    going = {"environment": environment("development", purge_development_data=True)}
    await applied(database, keys, tmp_path, **going)
    with psycopg.connect(database.reveal(), autocommit=True) as conn:
        conn.execute("INSERT INTO conversations (user_id, environment) SELECT id, environment FROM users")
    before = everything(database.reveal())
    assert failed(await checked(database, keys, tmp_path, **going)) == {}
    assert everything(database.reveal()) == before


@pytest.mark.parametrize(
    ("damage", "check", "said"),
    [
        ("DELETE FROM queues WHERE name = 'Sales'", "queues", "queue/Sales is to create (is_active)"),
        ("UPDATE plans SET price = 1 WHERE id = 'plan_starter'", "plans", "plan/plan_starter is to update (price)"),
        ("UPDATE users SET role = 'agent'", "admin", "admin/admin@empresa.com is to update (role)"),
        ("UPDATE users SET environment = 'development'", "admin", "a user of the other environment"),
        ("UPDATE instance_config SET instance_key = 'aberta'", "key", "is to update (instance_key)"),
        (
            "ALTER TABLE conversations DROP CONSTRAINT conversations_queue_id_environment_fkey",
            "isolation",
            "a production conversation could be put into a development queue",
        ),
        (
            "ALTER TABLE clients DROP CONSTRAINT clients_environment_check",
            "isolation",
            "a staging row could be written",
        ),
        (
            "INSERT INTO users (name, email, password) VALUES ('b', 'b@c.d', 'senha'), ('e', 'e@f.g', '$argon2id$v$x')",
            "passwords",
            "in clear text in users.password: b@c.d",
        ),
        (
            "ALTER TABLE plans DROP COLUMN features",
            "schema",
            "schema/fivrec is to update (plans.features)",
        ),
    ],
)
async def test_each_damage_fails_its_check(  # noqa: PLR0917 (fixtures)
    damage: str, check: str, said: str, database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    await applied(database, keys, tmp_path)
    with psycopg.connect(database.reveal(), autocommit=True) as conn:
        conn.execute(damage)
    found = failed(await checked(database, keys, tmp_path))
    assert said in found.get(check, ""), found


@pytest.mark.parametrize(
    ("weakened", "lost"),
    [
        ("queues DROP CONSTRAINT queues_environment_check", "queues: queues_environment_check"),
        ("users DROP CONSTRAINT users_email_key", "users: unique (email)"),
        ("messages ALTER environment DROP NOT NULL", "messages: environment not null"),
        ("clients ALTER environment SET DEFAULT 'development'", "clients: environment default"),
    ],
)
async def test_weakened_schemas_fail_until_the_suggested_apply(
    weakened: str, lost: str, database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    await applied(database, keys, tmp_path)
    with psycopg.connect(database.reveal(), autocommit=True) as conn:
        conn.execute(f"ALTER TABLE {weakened}")
    found = await checked(database, keys, tmp_path)
    assert found["schema"] == (False, f"schema/fivrec is to update ({lost}): run `fivrec apply --deep` once")
    report = await reconcile(desired_of(document(), database), run_of(keys, tmp_path, deep=True))
    assert [(str(change.key), change.cause) for change in report.changes] == [("schema/fivrec", "drift")]
    assert failed(await checked(database, keys, tmp_path)) == {}


HASHES = (
    "pbkdf2_sha256$600000$abcdefghijkl$Zm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyZm8=",
    "bcrypt_sha256$$2b$12$abcdefghijklmnopqrstuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu",
    "argon2$argon2id$v=19$m=102400,t=2,p=8$c29tZXNhbHQ$aGFzaGhhc2g",
    "scrypt:32768:8:1$abcdefgh$0123456789abcdef0123456789abcdef",
    "pbkdf2:sha256:600000$abcdefgh$0123456789abcdef",
    f"{'ab' * 64}.{'01' * 16}",
    f"!{'a1' * 20}",
)
CLEAR = ("scrypt", "bcrypt$curta", "!senha", "argon2$", "abc.def", "pbkdf2_sha256$1", "deadbeef:deadbeef")


@pytest.mark.parametrize("stored", [*HASHES, *CLEAR])
async def test_the_hashes_of_other_frameworks_are_no_clear_text(
    stored: str, database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    await applied(database, keys, tmp_path)
    with psycopg.connect(database.reveal(), autocommit=True) as conn:
        conn.execute("INSERT INTO users (name, email, password) VALUES ('b', 'b@c.d', %s)", (stored,))
    assert ("passwords" in failed(await checked(database, keys, tmp_path))) == (stored in CLEAR)


async def test_a_changed_password_fails_if_it_must_be_the_declared_one(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    await applied(database, keys, tmp_path)
    changed = {**document()["admin"], "password": Secret("outra-senha")}
    kept = await checked(database, keys, tmp_path, admin=changed)
    assert kept["admin"] == (True, "admin@empresa.com is there; its password is not the declared one, and is kept")
    always = await checked(database, keys, tmp_path, admin={**changed, "update_password": "always"})
    assert failed(always) == {"admin": "admin/admin@empresa.com is to update (password)"}


async def test_a_key_of_another_ring_does_not_decrypt(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    await applied(database, keys, tmp_path)
    others = KeyRing.from_environ({"FIVREC_ENCRYPTION_KEY": generate_key()})
    found = failed(await checked(database, others, tmp_path))
    assert list(found) == ["key"]
    assert "encrypted with" in found["key"]


async def test_an_embedded_connect_is_not_production(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    await applied(database, keys, tmp_path)
    checks = await production_test(desired_of(document(), database), run_of(keys, tmp_path))
    assert [check.name for check in checks if not check.passed] == ["connect"]


async def test_a_database_that_is_missing_fails(absent_database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    found = await checked(absent_database, keys, tmp_path)
    assert list(failed(found)) == ["schema"]
    assert "is to create" in found["schema"][1]


@pytest.mark.usefixtures("direct")
@pytest.mark.parametrize("attributes", ["SUPERUSER", "CREATEROLE", "BYPASSRLS", "IN ROLE pg_read_all_settings", ""])
async def test_a_login_that_may_do_more_than_it_needs_is_noted(
    attributes: str, database: Secret, owner_of: Callable[[Secret], Secret], keys: KeyRing, tmp_path: Path
) -> None:
    owner = owner_of(database)
    name = urlsplit(owner.reveal()).username
    with psycopg.connect(database.reveal(), autocommit=True) as conn:
        conn.execute(f"ALTER ROLE {name} NOCREATEROLE".encode())
        if "IN ROLE" in attributes:
            conn.execute(f"GRANT {attributes.removeprefix('IN ROLE ')} TO {name}".encode())
        elif attributes:
            conn.execute(f"ALTER ROLE {name} {attributes}".encode())
    await applied(owner, keys, tmp_path)
    desired, deep = desired_of(document(), owner), run_of(keys, tmp_path, 2, deep=True)
    notes = [STRONG_LOGIN] if attributes else []
    for report in (await preview(desired, deep), await reconcile(desired, deep)):
        assert (report.outcome, list(report.notes)) == ("in_sync", notes)
    assert (await preview(desired, run_of(keys, tmp_path, 3))).notes == ()
    passed, message = (await checked(owner, keys, tmp_path))["schema"]
    assert (passed, STRONG_LOGIN in message) == (True, bool(attributes))
