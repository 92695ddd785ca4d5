"""A database's owner decides with which search_path sessions begin: no statement of fivrec's resolves a name by it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from reconciler.database import connection
from reconciler.database.connection import Connection, database_exists, list_databases
from reconciler.database.pipeline import Limits
from reconciler.database.pool import ConnectionPool
from reconciler.database.store import Scope
from reconciler.database.transaction import lock_key, open_locked
from reconciler.engine.reconcile import preview, reconcile
from reconciler.model.errors import Busy
from reconciler.model.secret import Secret
from reconciler.support.crypto.keyring import KeyRing
from tests.support.connections import Connect, lent
from tests.support.engine import INSTANCE, desired_of, document, run_of

SHADOWS = """
CREATE SCHEMA shadows;
DO $do$
DECLARE
  f record;
BEGIN
  FOR f IN
    SELECT p.proname, p.provolatile, p.proisstrict, format_type(p.prorettype, NULL) AS returned,
           string_agg(format_type(a.type, NULL), ', ' ORDER BY a.at) AS types,
           string_agg('$' || a.at, ', ' ORDER BY a.at) AS passed
    FROM pg_proc p LEFT JOIN LATERAL unnest(p.proargtypes) WITH ORDINALITY AS a (type, at) ON true
    WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND NOT p.proretset AND p.provariadic = 0
      AND NOT EXISTS (
        SELECT FROM pg_type t WHERE t.typtype = 'p' AND t.oid = ANY (p.prorettype || p.proargtypes::oid[]))
    GROUP BY p.oid
  LOOP
    EXECUTE format(
      'CREATE FUNCTION shadows.%I(%s) RETURNS %s LANGUAGE plpgsql %s %s AS $f$BEGIN RETURN pg_catalog.%I(%s); END$f$',
      f.proname, f.types, f.returned,
      CASE f.provolatile WHEN 'i' THEN 'IMMUTABLE' WHEN 's' THEN 'STABLE' ELSE 'VOLATILE' END,
      CASE WHEN f.proisstrict THEN 'STRICT' ELSE '' END, f.proname, f.passed);
  END LOOP;
  FOR f IN
    SELECT o.oprname, format_type(o.oprleft, NULL) AS one, format_type(o.oprright, NULL) AS other, p.proname
    FROM pg_operator o JOIN pg_proc p ON p.oid = o.oprcode
    WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND o.oprleft <> 0
      AND to_regprocedure(format('shadows.%I(%s, %s)', p.proname, o.oprleft::regtype, o.oprright::regtype)) IS NOT NULL
  LOOP
    EXECUTE format('CREATE OPERATOR shadows.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = shadows.%I)',
                   f.oprname, f.one, f.other, f.proname);
  END LOOP;
  EXECUTE format('ALTER DATABASE %I SET search_path = shadows, pg_catalog, public', current_database());
  EXECUTE format('ALTER DATABASE %I SET track_functions = ''all''', current_database());
END
$do$;
"""
"""Functions and operators like nearly all of pg_catalog's, which a session finds first; each call is counted."""


async def called(database: Secret, until: int = 0) -> list[str]:
    """Returns the functions of `shadows` that were called, once all other sessions have ended, which count until then;
    at least `until` of them."""
    with psycopg.connect(database.reveal(), autocommit=True) as conn:
        conn.execute("SET search_path = pg_catalog")
        while True:
            others = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            (left,) = conn.execute(others).fetchone() or (0,)
            found = conn.execute(
                "SELECT DISTINCT funcname FROM pg_stat_user_functions WHERE schemaname = 'shadows' AND calls > 0"
            )
            names = [row[0] for row in found.fetchall()]
            if not left and len(names) >= until:
                return names
            await asyncio.sleep(0.05)


@pytest.fixture
async def shadowed(database: Secret, direct: None) -> Secret:
    with psycopg.connect(database.reveal(), autocommit=True) as conn:
        conn.execute(SHADOWS)
    with psycopg.connect(database.reveal(), autocommit=True) as conn:
        conn.execute("SELECT current_database()")
    assert await called(database, until=1) == ["current_database"]
    with psycopg.connect(database.reveal(), autocommit=True) as conn:
        conn.execute("SELECT pg_catalog.pg_stat_reset()")
    return database


async def test_runs_call_nothing_of_a_schema_that_sessions_find_first(
    shadowed: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    desired, run = desired_of(document(), shadowed), run_of(keys, tmp_path)
    assert (await preview(desired, run)).outcome == "changed"
    assert (await reconcile(desired, run)).outcome == "changed"
    deep = run_of(keys, tmp_path, 2, deep=True)
    assert [(await work(desired, deep)).outcome for work in (reconcile, preview)] == ["in_sync", "in_sync"]
    assert await called(shadowed) == []


async def test_whoever_waits_for_the_lock_or_keeps_a_connection_calls_nothing_of_it(
    shadowed: Secret, open_connection: Connect
) -> None:
    holder: Connection = await open_connection(shadowed)
    waiting = await open_connection(shadowed, limits=Limits(lock_wait_s=0.3))
    await holder.execute("BEGIN")
    await holder.execute("SELECT pg_catalog.pg_advisory_xact_lock(%s::bigint)", [lock_key(INSTANCE)])
    with pytest.raises(Busy, match=f"pid {holder.info.backend_pid}"):
        await open_locked(waiting, {}, {}, scope=Scope(INSTANCE, "production"))
    pool = ConnectionPool()
    for _ in range(2):
        async with lent(pool, shadowed):
            pass
    await pool.aclose()
    await holder.close()
    await waiting.close()
    assert await called(shadowed) == []


async def test_nor_does_the_look_for_a_database_or_the_list_of_databases(
    shadowed: Secret, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They ask in a database that every server has: it may belong to anybody."""
    monkeypatch.setattr(connection, "_MAINTENANCE", (urlsplit(shadowed.reveal()).path.lstrip("/"),))
    assert await database_exists(shadowed)
    assert (await list_databases(shadowed))[0]
    assert await called(shadowed) == []


async def test_nor_do_indexes_that_an_adoption_left_for_later(shadowed: Secret, keys: KeyRing, tmp_path: Path) -> None:
    desired, index = desired_of(document(), shadowed), "public.conversations_development_idx"
    assert (await reconcile(desired, run_of(keys, tmp_path))).error is None
    with psycopg.connect(shadowed.reveal(), autocommit=True) as conn:
        conn.execute("SET search_path = pg_catalog")
        conn.execute(f"DROP INDEX {index}; UPDATE fivrec.migrations SET finished = false".encode())
        conn.execute("INSERT INTO public.conversations (id, environment) VALUES ('c', 'development')")
    assert (await reconcile(desired, run_of(keys, tmp_path, 2))).error is None
    with psycopg.connect(shadowed.reveal(), autocommit=True) as conn:
        assert conn.execute("SELECT pg_catalog.to_regclass(%s::text) IS NULL", [index]).fetchone() == (False,)
        conn.execute("INSERT INTO public.conversations (id, environment) VALUES ('d', 'development')")
    assert await called(shadowed) == []
