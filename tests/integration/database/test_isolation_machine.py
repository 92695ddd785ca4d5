"""Random operations in one environment: the other's rows never change and are never read.

Enforced: whatever an app's login tries. Constraints: an app that filters, whatever its rows try to refer to.
FIVREC_TEST_OPERATIONS sets the number for the former, 10,000 in CI; a tenth of it is run for the latter.
"""

from __future__ import annotations

import os
import secrets
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from psycopg import errors

from reconciler.model.secret import Secret
from reconciler.support.crypto.keyring import KeyRing
from tests.support.isolated import ROWS, SHARED, Isolated, apply, fill

OPERATIONS = int(os.environ.get("FIVREC_TEST_OPERATIONS", "10000" if os.environ.get("CI") else "2000"))
STEPS = 50
OTHER = {"production": "development", "development": "production"}
TOKEN = f"segredo-{secrets.token_hex(8)}"
"""In every text of the other environment's rows, and in none of the statements."""

LEAK = """CREATE OR REPLACE FUNCTION pg_temp.leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS
$$ BEGIN RAISE NOTICE '%', $1; RETURN true; END $$"""
AS_OTHER = """DO $$ BEGIN PERFORM set_config('fiv.environment', '{other}', {local});
UPDATE {table} SET environment = environment; DELETE FROM messages; END $$"""

READS = (
    "SELECT * FROM {table}",
    "SELECT string_agg(t::text, ',') FROM {table} t",
    "SELECT * FROM {table} WHERE environment = '{other}'",
    "SELECT * FROM {table} WHERE id = '{id}' FOR UPDATE",
    (
        "SELECT m.*, u.*, c.*, q.* FROM messages m FULL JOIN conversations k ON k.id = m.conversation_id "
        "FULL JOIN users u ON u.id = k.user_id FULL JOIN clients c ON c.id = k.client_id "
        "FULL JOIN queues q ON q.id = k.queue_id"
    ),
    "SELECT * FROM {table} UNION ALL TABLE {table}",
    "WITH RECURSIVE r AS (SELECT * FROM {table}) SELECT * FROM r",
    "SELECT query_to_xml('SELECT * FROM {table}', true, true, '')",
    "SELECT table_to_xml('{table}', true, true, '')",
    "SELECT * FROM {table} WHERE pg_temp.leak({table}::text)",
    "SELECT * FROM talk",
    "SELECT row_to_json(t) FROM {table} t ORDER BY random()",
    "EXPLAIN (ANALYZE, VERBOSE, COSTS off) SELECT * FROM {table}",
    "SELECT * FROM {table} TABLESAMPLE SYSTEM (100)",
)
WRITES = (
    "INSERT INTO clients (id, name, environment) VALUES ('{fresh}', 'x', '{environment}')",
    "INSERT INTO queues (id, name, environment) VALUES ('{fresh}', 'x', '{environment}') RETURNING *",
    (
        "INSERT INTO users (id, name, email, password, environment) VALUES ('{fresh}', 'x', '{fresh}@x', 'x', "
        "'{environment}')"
    ),
    "INSERT INTO users (id, name, email, password) VALUES ('{fresh}', 'x', 'u@{other}.test', 'x')",
    (
        "INSERT INTO conversations (id, client_id, queue_id, user_id, environment) "
        "VALUES ('{fresh}', '{id}', '{id}', '{id}', '{environment}')"
    ),
    "INSERT INTO messages (id, conversation_id, content, environment) VALUES ('{fresh}', '{id}', 'x', '{environment}')",
    "INSERT INTO {table} SELECT * FROM {table} WHERE environment = '{other}'",
    (
        "INSERT INTO queues (id, name, environment) VALUES ('{id}', 'x', '{environment}') "
        "ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name, environment = EXCLUDED.environment RETURNING *"
    ),
    "INSERT INTO clients (id, name, environment) VALUES ('{id}', 'x', '{environment}') ON CONFLICT DO NOTHING",
    "UPDATE {table} SET environment = '{environment}'",
    "UPDATE {table} SET created_at = now() WHERE id = '{id}' RETURNING *",
    "UPDATE conversations SET queue_id = '{id}', client_id = '{id}'",
    "UPDATE messages m SET content = 'x' FROM conversations k WHERE k.environment = '{other}' RETURNING m.*, k.*",
    "UPDATE users SET name = 'x', password = 'x' WHERE email LIKE '%'",
    "DELETE FROM {table}",
    "DELETE FROM {table} WHERE id = '{id}' RETURNING *",
    "DELETE FROM messages USING conversations k WHERE k.environment = '{other}'",
    "WITH gone AS (DELETE FROM messages RETURNING *) SELECT * FROM gone",
    (
        "MERGE INTO queues q USING (SELECT '{id}' AS id) s ON q.id = s.id WHEN MATCHED THEN UPDATE SET name = 'x' "
        "WHEN NOT MATCHED THEN INSERT (id, name, environment) VALUES ('{fresh}', 'x', '{environment}')"
    ),
    "MERGE INTO {table} t USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE",
    AS_OTHER,
    "TRUNCATE {table} CASCADE",
    "LOCK TABLE {table}",
    "CREATE TEMP TABLE copied ON COMMIT DROP AS SELECT * FROM {table}; SELECT * FROM copied",
    "DECLARE c CURSOR FOR SELECT * FROM {table}; FETCH ALL FROM c",
)
POWERS = (
    "SET row_security = off",
    'SET ROLE "{group}"',
    'SET SESSION AUTHORIZATION "{group}"',
    "ALTER TABLE {table} DISABLE ROW LEVEL SECURITY",
    "ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY",
    "DROP POLICY fivrec_environment ON {table}",
    "CREATE POLICY mine ON {table} USING (true)",
    "SELECT fivrec.set_isolation('constraints')",
    "ALTER TABLE {table} DROP CONSTRAINT {table}_environment_check",
    'GRANT "{group}" TO CURRENT_USER',
    "RESET ALL",
    "DISCARD ALL",
)
COPIES = (
    "COPY {table} TO STDOUT",
    "COPY (SELECT * FROM {table}) TO STDOUT",
    "COPY clients (id, name, environment) FROM STDIN",
)
FILTERED = (
    "SELECT * FROM {table} WHERE environment = '{own}'",
    (
        "SELECT k, q, c, u FROM conversations k JOIN queues q ON q.id = k.queue_id LEFT JOIN clients c "
        "ON c.id = k.client_id LEFT JOIN users u ON u.id = k.user_id WHERE k.environment = '{own}'"
    ),
    (
        "SELECT m, k, u FROM messages m LEFT JOIN conversations k ON k.id = m.conversation_id "
        "LEFT JOIN users u ON u.id = m.user_id WHERE m.environment = '{own}'"
    ),
    (
        "INSERT INTO conversations (id, client_id, queue_id, user_id, environment) "
        "VALUES ('{fresh}', 'c{any}', 'q{any}', 'u{any}', '{own}')"
    ),
    (
        "INSERT INTO messages (id, conversation_id, user_id, content, environment) "
        "VALUES ('{fresh}', 'k{any}', 'u{any}', 'x', '{own}')"
    ),
    "INSERT INTO {table} SELECT * FROM {table} WHERE environment = '{own}' ON CONFLICT DO NOTHING",
    (
        "INSERT INTO queues AS q (id, name, environment) VALUES ('{id}', 'x', '{own}') "
        "ON CONFLICT (id) DO UPDATE SET name = 'x' WHERE q.environment = '{own}' RETURNING *"
    ),
    "UPDATE conversations SET queue_id = 'q{any}', client_id = 'c{any}' WHERE environment = '{own}'",
    "UPDATE messages SET conversation_id = 'k{any}' WHERE environment = '{own}'",
    "UPDATE {table} SET environment = 'staging' WHERE environment = '{own}'",
    (
        "UPDATE {table} SET environment = '{other}' WHERE id IN ('uproduction', 'cproduction', 'qproduction', "
        "'kproduction', 'udevelopment', 'cdevelopment', 'qdevelopment', 'kdevelopment') AND environment = '{own}' "
        "AND EXISTS (SELECT FROM messages WHERE id = 'm{own}') AND '{table}' <> 'messages'"
    ),
    "UPDATE {table} SET id = id || 'x' WHERE environment = '{own}'",
    "DELETE FROM {table} WHERE environment = '{own}' AND id <> '{id}'",
)
POINTING = """
SELECT count(*) FROM conversations k LEFT JOIN clients c ON c.id = k.client_id LEFT JOIN queues q ON q.id = k.queue_id
  LEFT JOIN users u ON u.id = k.user_id LEFT JOIN messages m ON m.conversation_id = k.id
  LEFT JOIN users v ON v.id = m.user_id
WHERE k.environment NOT IN ('production', 'development') OR c.environment <> k.environment
  OR q.environment <> k.environment OR u.environment <> k.environment OR m.environment <> k.environment
  OR v.environment <> m.environment
"""
SETTINGS = ("own", "own", "own", "other", "none", "empty", "session other", "session own")


class Machine(RuleBasedStateMachine):
    """One login of the app with two kept connections, as a pool lends them."""

    def __init__(self, world: Isolated, counted: Counter[str]) -> None:
        super().__init__()
        self.world, self.counted = world, counted
        self.pool: list[psycopg.Connection] = []
        self.said: list[str] = []
        self.committed = False

    @initialize(own=st.sampled_from(["production", "development"]))
    def begin(self, own: str) -> None:
        self.own, self.other = own, OTHER[own]
        self.admin = psycopg.connect(self.world.admin, autocommit=True)
        for table in reversed(SHARED):
            self.admin.execute(f"DELETE FROM {table} WHERE environment = %s", (own,))
        self.admin.execute(ROWS.format(e=own))
        for table, column in (("users", "name"), ("clients", "name"), ("queues", "name"), ("messages", "content")):
            self.admin.execute(
                f"UPDATE {table} SET {column} = %s WHERE environment = %s AND {column} <> %s",
                (TOKEN, self.other, TOKEN),
            )
            self.admin.execute(f"UPDATE {table} SET {column} = 'x' WHERE environment = %s", (own,))
        self.before = self.state()
        self.pool = [self._connect() for _ in range(2)]

    def _connect(self) -> psycopg.Connection:
        conn = psycopg.connect(self.world.of(self.own), autocommit=True)
        conn.add_notice_handler(lambda diag: self.said.append(str(diag.message_primary)))
        conn.execute(LEAK)
        return conn

    def teardown(self) -> None:
        for conn in (*self.pool, getattr(self, "admin", None)):
            if conn is not None:
                conn.close()

    def state(self) -> Any:
        """Returns a hash of the other environment's rows, and the schema that guards them."""
        parts = " UNION ALL ".join(
            f"SELECT '{table}' AS n, t.id, t::text || t.xmin || t.ctid AS row FROM {table} t "
            f"WHERE environment = '{self.other}'"
            for table in SHARED
        )
        return self.admin.execute(
            f"SELECT (SELECT md5(string_agg(n || row, ',' ORDER BY n, id)) FROM ({parts}) p), fivrec.leaking_views(), "
            "(SELECT md5(string_agg(p::text, ',' ORDER BY oid)) FROM pg_policy p)"
        ).fetchall()

    def run(
        self, *, statement: str, table: str, names: tuple[str, bool, bool], setting: str, slot: int, commits: bool
    ) -> None:
        kind, of_other, as_other = names
        text = statement.format(
            table=table,
            own=self.own,
            other=self.other,
            environment=self.other if as_other else self.own,
            id=f"{kind}{self.other if of_other else self.own}",
            any=self.other if of_other else self.own,
            fresh=secrets.token_hex(4),
            local=str(commits).lower(),
            group=f"{self.world.admin.rpartition('/')[2]}_{self.other}",
        )
        shown = ""
        conn = self.pool[slot]
        self.committed = commits
        try:
            self._set(conn, setting)
            with conn.transaction(force_rollback=not commits):
                if setting in ("own", "other", "empty"):
                    value = {"own": self.own, "other": self.other, "empty": ""}[setting]
                    conn.execute("SELECT set_config('fiv.environment', %s, true)", (value,))
                shown = self._run(conn, text)
            self.counted["done"] += 1
        except psycopg.Error as exc:
            self.counted["refused"] += 1
            shown = f"{exc} {exc.diag.message_detail} {exc.diag.message_hint} {exc.diag.context}"
            if isinstance(exc, errors.SyntaxError):
                raise
        if conn.closed or "DISCARD" in text:
            self.pool[slot] = self._connect()
        self.counted[statement.split(maxsplit=1)[0]] += 1
        assert TOKEN not in shown, (text, setting)
        assert not any(TOKEN in line for line in self.said), (text, setting)

    def _set(self, conn: psycopg.Connection, setting: str) -> None:
        """A session's setting stays on the connection for the next borrower."""
        if setting.startswith("session"):
            value = self.other if setting.endswith("other") else self.own
            conn.execute("SELECT set_config('fiv.environment', %s, false)", (value,))

    def _run(self, conn: psycopg.Connection, text: str) -> str:
        if not text.startswith("COPY"):
            found = conn.execute(text)
            while found.nextset():
                pass
            return str(found.fetchall()) if found.description else ""
        with conn.cursor().copy(text) as copy:
            if "FROM STDIN" in text:
                copy.write_row((secrets.token_hex(4), "x", self.other))
                return ""
            return b"".join(bytes(part) for part in copy).decode()

    @invariant()
    def the_other_environment_is_as_it_was(self) -> None:
        if self.committed:
            assert self.state() == self.before


AROUND = {
    "table": st.sampled_from(SHARED),
    "names": st.tuples(st.sampled_from("uckqmf"), st.booleans(), st.booleans()),
    "setting": st.sampled_from(SETTINGS),
    "slot": st.integers(0, 1),
    "commits": st.booleans(),
}


class Enforced(Machine):
    """A login that tries everything."""

    @rule(
        statement=st.sampled_from(READS) | st.sampled_from(WRITES) | st.sampled_from(WRITES + POWERS + COPIES), **AROUND
    )
    def operate(self, **drawn: Any) -> None:
        self.run(**drawn)


class Constrained(Machine):
    """The app as in the seed: every statement filters by its environment; what rows refer to is random."""

    @rule(statement=st.sampled_from(FILTERED), **AROUND)
    def operate(self, **drawn: Any) -> None:
        self.run(**drawn)

    @invariant()
    def no_row_points_across(self) -> None:
        if self.committed:
            assert self.admin.execute(POINTING).fetchone() == (0,)


def run_machine(machine: type[Machine], world: Isolated, operations: int) -> Counter[str]:
    """Run at least that many operations. Returns how many of each kind."""
    counted: Counter[str] = Counter()
    while counted["done"] + counted["refused"] < operations:
        left = operations - counted["done"] - counted["refused"]
        run_state_machine_as_test(
            lambda: machine(world, counted),
            settings=settings(
                max_examples=max(1, left // STEPS),
                stateful_step_count=STEPS,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
            ),
        )
    return counted


@pytest.mark.slow
def test_random_operations_never_touch_the_other_environment(isolated: Isolated) -> None:
    with psycopg.connect(isolated.admin, autocommit=True) as conn:
        conn.execute("CREATE VIEW talk WITH (security_invoker = true) AS SELECT * FROM messages")
        conn.execute("GRANT SELECT ON talk TO PUBLIC")
        conn.execute("GRANT USAGE ON SCHEMA fivrec TO PUBLIC")
    counted = run_machine(Enforced, isolated, OPERATIONS)
    assert min(counted["done"], counted["refused"]) > OPERATIONS // 10, counted


async def test_an_app_that_filters_never_touches_the_other_environment(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    assert (await apply(database, keys, tmp_path)).error is None
    url = database.reveal()
    fill(url, "production", "development")
    counted = run_machine(Constrained, Isolated(url, database, url, url), OPERATIONS // 10)
    assert counted["done"], counted
