"""`isolation: enforced`, as the server enforces it: who sees what, what is refused, and how to leave it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import errors, sql

from reconciler.database.schema import migrations
from reconciler.engine.production_checks import production_test
from reconciler.engine.reconcile import preview
from reconciler.model.secret import Secret
from reconciler.support.crypto.keyring import KeyRing
from tests.support.engine import desired_of, document, run_of
from tests.support.isolated import SHARED, Isolated, apply, environment, fill

OTHER = {"production": "development", "development": "production"}


def contents(url: str, table: str, setting: str | None) -> list[str]:
    """Returns the environments of the rows that a login sees with this fiv.environment."""
    with psycopg.connect(url) as conn:
        if setting is not None:
            conn.execute("SELECT set_config('fiv.environment', %s, true)", (setting,))
        found = conn.execute(sql.SQL("SELECT DISTINCT environment FROM {} ORDER BY 1").format(sql.Identifier(table)))
        return [row[0] for row in found]


@pytest.mark.parametrize("own", ["production", "development"])
def test_a_login_sees_rows_of_its_environment_only(own: str, isolated: Isolated) -> None:
    for table in SHARED:
        assert contents(isolated.of(own), table, own) == [own]
        assert contents(isolated.of(own), table, OTHER[own]) == []  # the role decides, whatever was set


@pytest.mark.parametrize("who", ["production", "development", "owner"])
@pytest.mark.parametrize("setting", [None, "", "staging", "production,development"])
def test_without_an_environment_nothing_is_read_or_written(who: str, setting: str | None, isolated: Isolated) -> None:
    for table in SHARED:
        assert contents(isolated.of(who), table, setting) == []
    with psycopg.connect(isolated.of(who), autocommit=True) as conn:
        if setting is not None:
            conn.execute("SELECT set_config('fiv.environment', %s, false)", (setting,))
        for name in ("production", "development"):
            with pytest.raises(errors.InsufficientPrivilege):
                conn.execute("INSERT INTO clients (name, environment) VALUES ('x', %s)", (name,))
        assert conn.execute("UPDATE clients SET name = 'x'").rowcount == 0
        assert conn.execute("DELETE FROM messages").rowcount == 0


def test_the_setting_ends_with_its_transaction(isolated: Isolated) -> None:
    with psycopg.connect(isolated.production, autocommit=True) as conn:
        with conn.transaction():
            conn.execute("SELECT set_config('fiv.environment', 'production', true)")
            assert conn.execute("SELECT count(*) FROM messages").fetchone() == (1,)
        assert conn.execute("SELECT count(*) FROM messages").fetchone() == (0,)


@pytest.mark.parametrize("own", ["production", "development"])
def test_a_write_into_the_other_environment_is_an_error(own: str, isolated: Isolated) -> None:
    other = OTHER[own]
    with psycopg.connect(isolated.of(own), autocommit=True) as conn:
        for setting in (own, other):
            conn.execute("SELECT set_config('fiv.environment', %s, false)", (setting,))
            for statement in (
                f"INSERT INTO clients (name, environment) VALUES ('x', '{other}')",
                f"INSERT INTO queues (id, name) VALUES ('q{other}', 'x') ON CONFLICT (id) DO UPDATE SET name = 'x'",
                "COPY clients (name, environment) FROM STDIN",
            ):
                with pytest.raises((errors.InsufficientPrivilege, errors.FeatureNotSupported)):
                    _write(conn, statement, other)
        conn.execute("SELECT set_config('fiv.environment', %s, false)", (own,))
        with pytest.raises(errors.InsufficientPrivilege):
            conn.execute("UPDATE clients SET environment = %s", (other,))


def _write(conn: psycopg.Connection, statement: str, other: str) -> None:
    if not statement.startswith("COPY"):
        conn.execute(statement)
        return
    with conn.cursor().copy(statement) as copy:
        copy.write_row(("x", other))


def test_writing_an_email_reveals_it_in_the_other_environment(isolated: Isolated) -> None:
    """UNIQUE (email) is the app's and spans both: the only thing to learn is that an address is taken."""
    with psycopg.connect(isolated.production, autocommit=True) as conn:
        conn.execute("SELECT set_config('fiv.environment', 'production', false)")
        with pytest.raises(errors.UniqueViolation):
            conn.execute("INSERT INTO users (name, email, password) VALUES ('x', 'u@development.test', 'x')")


async def test_a_second_apply_changes_nothing(isolated: Isolated, keys: KeyRing, tmp_path: Path) -> None:
    report = await apply(isolated.owner, keys, tmp_path, environment=environment(isolation="enforced"))
    assert (report.outcome, report.changes) == ("in_sync", ())


@pytest.mark.parametrize(
    "damage",
    [
        "DROP POLICY fivrec_environment ON messages",
        "DROP POLICY fivrec_development ON users",
        "ALTER POLICY fivrec_environment ON clients USING (true)",
        "ALTER POLICY fivrec_development ON clients USING (environment = 'production')",
        "ALTER POLICY fivrec_production ON queues TO PUBLIC",
        "ALTER TABLE conversations NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE messages DISABLE ROW LEVEL SECURITY",
    ],
)
async def test_weakened_isolation_is_drift_and_is_repaired(
    damage: str, isolated: Isolated, keys: KeyRing, tmp_path: Path
) -> None:
    with psycopg.connect(isolated.admin, autocommit=True) as conn:
        conn.execute(damage)
    report = await apply(isolated.owner, keys, tmp_path, environment=environment(isolation="enforced"))
    (change,) = report.changes
    assert (str(change.key), change.cause) == ("environment/client-abc-123", "drift")
    assert [field.shown() for field in change.fields] == [
        {"field": "isolation", "before": "partial", "after": "enforced"}
    ]
    test_a_login_sees_rows_of_its_environment_only("development", isolated)


async def refusals_shown(url: Secret, keys: KeyRing, folder: Path) -> tuple[str, ...]:
    """Returns a dry run's notes about `isolation: enforced`."""
    whole = document(plans=None, environment=environment(isolation="enforced"))
    report = await preview(desired_of(whole, url, connect=None), run_of(keys, folder))
    assert (report.outcome, report.error) == ("changed", None)
    return tuple(note.removeprefix("apply refuses this (isolation_refused): ") for note in report.notes)


async def test_a_superuser_is_refused_with_a_hint(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    shown = await refusals_shown(database, keys, tmp_path)
    assert shown == ("isolation: enforced can't bind this login: postgres is a superuser or has BYPASSRLS",)
    report = await apply(database, keys, tmp_path, environment=environment(isolation="enforced"))
    assert (report.outcome, report.exit_code) == ("refused", 3)
    assert report.error is not None
    assert report.error.code == "isolation_refused"
    assert "postgres is a superuser or has BYPASSRLS" in report.error.message
    assert "NOSUPERUSER NOBYPASSRLS CREATEROLE" in report.error.hint


async def test_a_login_that_is_not_bound_does_not_claim_it(isolated: Isolated, keys: KeyRing, tmp_path: Path) -> None:
    with psycopg.connect(isolated.admin, autocommit=True) as conn:
        owner = urlsplit(isolated.owner.reveal()).username or ""
        conn.execute(sql.SQL("ALTER ROLE {} BYPASSRLS").format(sql.Identifier(owner)))
    desired = desired_of(
        document(plans=None, environment=environment(isolation="enforced")), isolated.owner, connect=None
    )
    report = await preview(desired, run_of(keys, tmp_path))
    (change,) = report.changes
    assert [field.shown() for field in change.fields] == [
        {"field": "isolation", "before": "unbound", "after": "enforced"}
    ]
    report = await apply(isolated.owner, keys, tmp_path, environment=environment(isolation="enforced"))
    assert report.error is not None
    assert report.error.code == "isolation_refused"


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("CREATE POLICY mine ON users FOR SELECT USING (true)", "policies that are not fivrec's let rows through"),
        ("CREATE VIEW everybody AS SELECT * FROM users", "these show rows of both environments"),
        ("CREATE MATERIALIZED VIEW everybody AS SELECT * FROM messages", "these show rows of both environments"),
        (
            """CREATE VIEW inner_one WITH (security_invoker = true) AS SELECT * FROM users;
            CREATE VIEW everybody AS SELECT * FROM inner_one""",
            "to whoever may read them: everybody",
        ),
        (
            "CREATE TABLE old_users () INHERITS (users); GRANT SELECT ON old_users TO PUBLIC",
            "to whoever may read them: old_users",
        ),
        (
            "CREATE TABLE old_users () INHERITS (users); GRANT SELECT (email) ON old_users TO PUBLIC",
            "to whoever may read them: old_users",
        ),
        (
            "CREATE TABLE old () INHERITS (clients); CREATE VIEW everybody AS SELECT * FROM old",
            "to whoever may read them: everybody",
        ),
    ],
)
async def test_a_hole_is_refused_by_name_also_if_made_later(
    made: str, said: str, isolated: Isolated, keys: KeyRing, tmp_path: Path
) -> None:
    with psycopg.connect(isolated.admin, autocommit=True) as conn:
        conn.execute(made)
    (shown,) = await refusals_shown(isolated.owner, keys, tmp_path)
    assert said in shown
    report = await apply(isolated.owner, keys, tmp_path, environment=environment(isolation="enforced"))
    assert report.error is not None
    assert (report.error.code, said in report.error.message) == ("isolation_refused", True), report.error


async def test_holes_unknown_to_an_older_fivrec_are_refused_by_name(
    isolated: Isolated, keys: KeyRing, tmp_path: Path
) -> None:
    with psycopg.connect(isolated.owner.reveal(), autocommit=True) as conn:
        conn.execute(migrations()[5].text.encode())
        conn.execute("DELETE FROM fivrec.migrations WHERE version > 11")
        conn.execute("CREATE TABLE old_users () INHERITS (users); GRANT SELECT ON old_users TO PUBLIC")
        report = await apply(isolated.owner, keys, tmp_path, environment=environment(isolation="enforced"))
        assert report.error is not None
        assert (report.error.code, "old_users" in report.error.message) == ("isolation_refused", True), report.error
        assert "REVOKE what others were granted" in report.error.hint
        conn.execute("REVOKE SELECT ON old_users FROM PUBLIC")
        report = await apply(isolated.owner, keys, tmp_path, environment=environment(isolation="enforced"))
        assert [str(change.key) for change in report.changes] == ["schema/fivrec"]


def test_a_security_invoker_view_shows_what_its_reader_may_see(isolated: Isolated) -> None:
    with psycopg.connect(isolated.admin, autocommit=True) as conn:
        conn.execute("CREATE VIEW talk WITH (security_invoker = true) AS SELECT * FROM messages")
        conn.execute("GRANT SELECT ON talk TO PUBLIC")
        assert conn.execute("SELECT count(*) FROM fivrec.leaking_views()").fetchone() == (0,)
    assert contents(isolated.development, "talk", "development") == ["development"]
    assert contents(isolated.development, "talk", "production") == []


@contextmanager
def role(conn: psycopg.Connection[Any], name: str) -> Iterator[None]:
    """Create a role that bypasses row-level security, as backups use."""
    conn.execute(f"CREATE ROLE {name} BYPASSRLS")  # type: ignore[call-overload]
    try:
        yield
    finally:
        conn.execute(f"DROP OWNED BY {name}")  # type: ignore[call-overload]
        conn.execute(f"DROP ROLE {name}")  # type: ignore[call-overload]


async def test_an_inheriting_table_without_grants_hides_its_rows(
    isolated: Isolated, keys: KeyRing, tmp_path: Path
) -> None:
    backup = f"backup_{urlsplit(isolated.admin).path.lstrip('/')}"
    with psycopg.connect(isolated.owner.reveal(), autocommit=True) as conn:
        conn.execute("CREATE TABLE old_users () INHERITS (users)")
        conn.execute("GRANT REFERENCES ON old_users TO PUBLIC")
    with psycopg.connect(isolated.admin, autocommit=True) as conn, role(conn, backup):
        conn.execute(f"GRANT SELECT ON old_users TO {backup}")
        assert conn.execute("SELECT count(*) FROM fivrec.leaking_views()").fetchone() == (0,)
    report = await apply(isolated.owner, keys, tmp_path, environment=environment(isolation="enforced"))
    assert (report.outcome, report.error) == ("in_sync", None)


async def test_a_login_that_may_not_make_roles_is_told_which_ones(
    database: Secret, owner_of: Callable[[Secret], Secret], keys: KeyRing, tmp_path: Path
) -> None:
    owner = owner_of(database)
    name, user = urlsplit(database.reveal()).path.lstrip("/"), urlsplit(owner.reveal()).username
    with psycopg.connect(database.reveal(), autocommit=True) as conn:
        conn.execute(sql.SQL("ALTER ROLE {} NOCREATEROLE").format(sql.Identifier(user or "")))
        missing = f"the roles {name}_production and {name}_development are missing, and {user} may not make them"
        assert await refusals_shown(owner, keys, tmp_path) == (missing,)
        report = await apply(owner, keys, tmp_path, environment=environment(isolation="enforced"))
        assert report.error is not None
        assert (report.exit_code, report.error.code) == (3, "isolation_refused")
        assert f"the role {name}_production is missing, and {user} may not make it" in report.error.message
        assert f"CREATE ROLE {name}_production NOLOGIN; CREATE ROLE {name}_development NOLOGIN" in report.error.hint
        for kind in ("production", "development"):
            conn.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(f"{name}_{kind}")))
    report = await apply(owner, keys, tmp_path, environment=environment(isolation="enforced"))
    assert report.outcome == "changed", report.error


CATALOGUE = """
SELECT 'table', relname, relrowsecurity::text || relforcerowsecurity::text || COALESCE(relacl::text, '-')
  FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
UNION ALL SELECT 'policy', polname, '' FROM pg_policy
UNION ALL SELECT 'role', rolname, '' FROM pg_roles WHERE rolname LIKE current_database() || '\\_%'
UNION ALL SELECT 'schema', nspname, COALESCE(nspacl::text, '-') FROM pg_namespace WHERE nspname = 'public'
ORDER BY 1, 2
"""


async def test_leaving_takes_everything_back(
    database: Secret, owner_of: Callable[[Secret], Secret], keys: KeyRing, tmp_path: Path
) -> None:
    owner = owner_of(database)
    await apply(owner, keys, tmp_path)
    with psycopg.connect(database.reveal(), autocommit=True) as conn:
        before = _described(conn)
        assert (await apply(owner, keys, tmp_path, environment=environment(isolation="enforced"))).error is None
        assert _described(conn) != before
        report = await apply(owner, keys, tmp_path)
        assert [field.shown() for field in report.changes[0].fields] == [
            {"field": "isolation", "before": "enforced", "after": "constraints"}
        ]
        assert _described(conn) == before
    assert (await apply(owner, keys, tmp_path)).outcome == "in_sync"


def _described(conn: psycopg.Connection) -> list[tuple]:
    """Returns policies, roles, flags and grants; a table's default rights count the same whether written out or not."""
    rows = conn.execute(CATALOGUE).fetchall()
    owner = conn.execute("SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 'users'").fetchone()
    default = f"{{{owner[0]}=arwdDxtm/{owner[0]}}}" if owner else ""
    older = default.replace("arwdDxtm", "arwdDxt")
    return [(kind, name, said.replace(default, "-").replace(older, "-")) for kind, name, said in rows]


async def test_leaving_keeps_the_groups_that_logins_are_members_of(
    isolated: Isolated, keys: KeyRing, tmp_path: Path
) -> None:
    assert (await apply(isolated.owner, keys, tmp_path)).error is None
    assert contents(isolated.production, "clients", None) == ["development", "production"]  # as with constraints


async def test_leaving_leaves_security_that_others_set_up(isolated: Isolated, keys: KeyRing, tmp_path: Path) -> None:
    with psycopg.connect(isolated.admin, autocommit=True) as conn:
        assert (await apply(isolated.owner, keys, tmp_path)).error is None
        conn.execute("CREATE POLICY mine ON users AS RESTRICTIVE USING (role <> 'hidden')")
        conn.execute("CREATE POLICY theirs ON clients AS RESTRICTIVE USING (name <> 'hidden')")
        conn.execute("ALTER TABLE clients ENABLE ROW LEVEL SECURITY")
        flags = "SELECT relname, relforcerowsecurity FROM pg_class WHERE relrowsecurity ORDER BY 1"
        before = conn.execute(flags).fetchall()
        assert before == [("clients", False)]
        assert (
            await apply(isolated.owner, keys, tmp_path, environment=environment(isolation="enforced"))
        ).error is None
        assert (await apply(isolated.owner, keys, tmp_path)).error is None
        assert conn.execute("SELECT polname FROM pg_policy ORDER BY 1").fetchall() == [("mine",), ("theirs",)]
        assert conn.execute(flags).fetchall() == before


async def test_the_owner_enforces_isolation_in_an_apps_database(
    seed_database: Secret, owner_of: Callable[[Secret], Secret], keys: KeyRing, tmp_path: Path
) -> None:
    owner = owner_of(seed_database)
    with psycopg.connect(seed_database.reveal(), autocommit=True) as conn:
        for (table,) in conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall():
            user = sql.Identifier(urlsplit(owner.reveal()).username or "")
            conn.execute(sql.SQL("ALTER TABLE {} OWNER TO {}").format(sql.Identifier(table), user))
        before = conn.execute("SELECT id, email FROM users ORDER BY 1").fetchall()
        report = await apply(owner, keys, tmp_path, environment=environment(isolation="enforced"))
        assert report.error is None
        assert (await apply(owner, keys, tmp_path, environment=environment(isolation="enforced"))).outcome == "in_sync"
        assert set(before) <= set(conn.execute("SELECT id, email FROM users").fetchall())


def test_a_long_name_of_a_database_gets_roles_of_its_own(postgres_url: str) -> None:
    from reconciler.database.schema import build_migration_sql
    from tests.support.databases import drop_database, with_database

    names = ["x" * 60 + "é"[:1], "x" * 59 + "y"]
    found = []
    for name in names:
        with psycopg.connect(postgres_url, autocommit=True) as conn:
            conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            with psycopg.connect(with_database(postgres_url, name), autocommit=True) as conn:
                conn.execute(build_migration_sql("public"))
                row = conn.execute("SELECT fivrec.environment_role('production')").fetchone()
                assert row is not None
                found.append(row[0])
        finally:
            drop_database(postgres_url, name)
    assert len(set(found)) == 2
    assert all(len(role.encode()) <= 63 for role in found)


def test_fill_reaches_every_shared_table(isolated: Isolated) -> None:
    with psycopg.connect(isolated.admin) as conn:
        for table in SHARED:
            counted = conn.execute(f"SELECT count(*) FROM {table} WHERE environment = 'development'").fetchone()
            assert counted == (1,)
    with pytest.raises(errors.UniqueViolation):
        fill(isolated.admin, "production")


@pytest.mark.parametrize("column", ["stage", "char(12)", "varchar(20)", "word"])
async def test_environments_of_other_types_are_enforced_too(
    column: str, database: Secret, owner_of: Callable[[Secret], Secret], keys: KeyRing, tmp_path: Path
) -> None:
    owner = owner_of(database)
    assert (await apply(owner, keys, tmp_path)).error is None
    with psycopg.connect(owner.reveal(), autocommit=True) as conn:
        conn.execute("CREATE TYPE stage AS ENUM ('production', 'development'); CREATE DOMAIN word AS text")
        # As the app made them: without fivrec's keys and checks.
        conn.execute("DROP TABLE messages, conversations, clients, queues, users CASCADE")
        key = "id varchar PRIMARY KEY DEFAULT gen_random_uuid()"
        of = f"environment {column} NOT NULL DEFAULT 'production'"
        conn.execute(f"CREATE TABLE queues ({key}, name text NOT NULL, description text, is_active boolean, {of})")
        conn.execute(f"CREATE TABLE users ({key}, name text, email text UNIQUE, password text, role text, {of})")
        conn.execute(f"CREATE TABLE clients ({key}, name text, {of})")
        conn.execute(f"CREATE TABLE conversations ({key}, client_id varchar, queue_id varchar, user_id varchar, {of})")
        conn.execute(f"CREATE TABLE messages ({key}, conversation_id varchar, user_id varchar, {of})")
        conn.execute("INSERT INTO queues (name, environment) VALUES ('x', 'development')")
    wanted = environment(isolation="enforced")
    report = await apply(owner, keys, tmp_path, environment=wanted)
    assert (report.outcome, report.error) == ("changed", None)
    for own in OTHER:
        assert [word.rstrip() for word in contents(owner.reveal(), "queues", own)] == [own]
    assert (await apply(owner, keys, tmp_path, environment=wanted)).outcome == "in_sync"


async def test_an_apply_names_rows_that_violate_isolation(seed_database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    with psycopg.connect(seed_database.reveal(), autocommit=True) as conn:
        key = "id varchar PRIMARY KEY DEFAULT gen_random_uuid()"
        conn.execute(f"CREATE TABLE queues ({key}, name text NOT NULL, environment text)")
        conn.execute(f"CREATE TABLE conversations ({key}, queue_id varchar, environment text NOT NULL)")
        conn.execute("INSERT INTO queues VALUES ('q1', 'Suporte', 'production'), ('q2', 'Velha', NULL)")
        conn.execute("INSERT INTO conversations VALUES ('c2', 'q1', 'development')")
        desired = desired_of(document(plans=None), seed_database, connect=None)
        foreseen = (await preview(desired, run_of(keys, tmp_path))).notes
        report = await apply(seed_database, keys, tmp_path)
        assert (report.outcome, report.error) == ("changed", None)
        assert report.notes == (
            "⚠️ conversations c2: queue_id points out of its environment; it is kept, fix it by hand",
            "⚠️ queues q2: it has no environment; it is kept, fix it by hand",
        )
        assert foreseen == report.notes
        assert conn.execute("SELECT count(*) FROM queues WHERE id IN ('q1', 'q2')").fetchone() == (2,)
    checks = {check.name: check for check in await production_test(desired, run_of(keys, tmp_path))}
    assert checks["isolation"].message == (
        "conversations c2 breaks the rules of environments (queue_id); "
        "queues q2 breaks the rules of environments (environment)"
    )


@pytest.mark.parametrize(
    "live",
    [
        environment("production", "enforced"),
        environment("production", "enforced", purge_development_data=True),
        environment("production", "constraints"),
    ],
)
async def test_an_administrator_that_isolation_hides_does_not_move(
    database: Secret, owner_of: Callable[[Secret], Secret], keys: KeyRing, tmp_path: Path, live: dict[str, Any]
) -> None:
    """Otherwise a purge would delete the row as test data, or another would be created, whose email is taken."""
    owner = owner_of(database)
    await apply(owner, keys, tmp_path, environment=environment("development", "enforced"))
    before = _users(database)
    desired = desired_of(document(plans=None, environment=live), owner, connect=None)
    for report in (
        await preview(desired, run_of(keys, tmp_path)),
        await apply(owner, keys, tmp_path, environment=live),
    ):
        assert report.error is not None
        assert (report.outcome, report.error.code) == ("refused", "isolation_refused")
        assert "hides admin@empresa.com, who would move from development to production" in report.error.message
    assert _users(database) == before


async def test_hidden_users_with_another_email_do_not_matter(
    database: Secret, owner_of: Callable[[Secret], Secret], keys: KeyRing, tmp_path: Path
) -> None:
    owner = owner_of(database)
    await apply(owner, keys, tmp_path, environment=environment("development", "enforced"))
    admin = {**document()["admin"], "email": "nova@empresa.com"}
    live = {"environment": environment("production", "enforced"), "admin": admin}
    desired = desired_of(document(plans=None, **live), owner, connect=None)
    digest = (await preview(desired, run_of(keys, tmp_path))).digest
    assert (await apply(owner, keys, tmp_path, **live, accept=frozenset({str(digest)}))).error is None
    assert [row[1:] for row in _users(database)] == [
        ("admin@empresa.com", "development"),
        ("nova@empresa.com", "production"),
    ]


async def test_the_administrator_moves_before_isolation_is_enforced(
    database: Secret, owner_of: Callable[[Secret], Secret], keys: KeyRing, tmp_path: Path
) -> None:
    owner = owner_of(database)
    await apply(owner, keys, tmp_path, environment=environment("development"))
    ((row_id, email, _),) = _users(database)
    live = environment("production", "enforced")
    desired = desired_of(document(plans=None, environment=live), owner, connect=None)
    digest = (await preview(desired, run_of(keys, tmp_path))).digest
    report = await apply(owner, keys, tmp_path, environment=live, accept=frozenset({str(digest)}))
    assert (report.outcome, report.error) == ("changed", None)
    assert _users(database) == [(row_id, email, "production")]
    assert (await apply(owner, keys, tmp_path, environment=live)).outcome == "in_sync"


def _users(database: Secret) -> list[tuple]:
    with psycopg.connect(database.reveal()) as conn:
        return conn.execute("SELECT id, email, environment FROM users ORDER BY email").fetchall()
