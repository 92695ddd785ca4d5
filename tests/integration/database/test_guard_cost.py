"""What the guard's look for other roles' code costs beside many tables that a cascade reaches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from reconciler.database.statements import query
from reconciler.model.secret import Secret

pytestmark = pytest.mark.usefixtures("direct")  # a pooler would not know the login

TABLES = 40
CODE = query("guard", "foreign_code", "public").replace("%%", "%")


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for one in plan.get("Plans", ()):
        yield from nodes(one)


def test_cascades_are_read_once_and_lead_to_all_they_reach(
    migrated: Secret, owner_of: Callable[[Secret], Secret]
) -> None:
    """Beside them, what inherits from the same table is still looked at, and what a cascade reaches further."""
    with psycopg.connect(owner_of(migrated).reveal(), autocommit=True) as app:
        app.execute("CREATE SCHEMA other; CREATE FUNCTION other.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'")
        with psycopg.connect(migrated.reveal(), autocommit=True) as conn:
            conn.execute("GRANT REFERENCES ON users TO PUBLIC; CREATE TABLE other.heir () INHERITS (users)")
            conn.execute(f"ALTER TABLE other.heir OWNER TO {app.info.user}")
        for number in range(TABLES):
            of = "public.users" if number < TABLES - 1 else "other.t0"
            app.execute(
                f"CREATE TABLE other.t{number} "
                f"(id varchar PRIMARY KEY, up varchar REFERENCES {of} (id) ON DELETE CASCADE)"
            )
        for table in ("heir", f"t{TABLES - 1}"):
            app.execute(f"CREATE TRIGGER t BEFORE DELETE ON other.{table} FOR EACH ROW EXECUTE FUNCTION other.f()")
    with psycopg.connect(migrated.reveal()) as conn:
        conn.execute("SET LOCAL search_path = pg_catalog")
        assert [row[:3] for row in conn.execute(CODE).fetchall()] == [
            ("other.heir", "trigger", "t"),
            (f"other.t{TABLES - 1}", "trigger", "t"),
        ]
        ((plan,),) = conn.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + CODE).fetchall()
        looked = [node for node in nodes(plan[0]["Plan"]) if node.get("Relation Name") == "pg_constraint"]
        # Other parts of the query look up a table's own constraints, by an index if the server has the statistics.
        assert [node["Actual Loops"] for node in looked if "confdeltype" in node.get("Filter", "")] == [1]
