"""Checks after every failed apply, whatever its test is about, that no row has changed but the apply's record. Reads
the server as its superuser, past proxies, poolers and policies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from reconciler.engine import reconcile as engine
from reconciler.engine.run import Run
from reconciler.model.types import Desired
from reconciler.planning.report import InstanceReport
from tests.support.databases import with_database

Rows = dict[str, Any]
TABLES = ("users", "queues", "plans", "settings", "clients", "conversations", "messages", "instance_config")
RECORD = ("status", "billing_status", "enabled_features", "is_locked", "last_status_check")
"""What a check writes to instance_config, whatever happened to the rest."""
OF_OTHERS = frozenset({"busy", "commit_unknown", "database_conflict"})
"""Errors after which rows may differ: another process writes, or the outcome is unknown."""
BIG = 20_000_000
COLUMNS = """
SELECT n.nspname, c.relname, array_agg(a.attname::text ORDER BY a.attname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped AND pg_relation_size(c.oid) < %s
  AND (n.nspname = %s AND c.relname = ANY (%s) AND NOT (c.relname = 'instance_config' AND a.attname = ANY (%s))
       OR n.nspname = 'fivrec' AND c.relname IN ('applied', 'migrations', 'audit_key'))
GROUP BY n.nspname, c.relname
"""
DIGEST = "SELECT count(*), md5(string_agg(r::text, ' ' ORDER BY r::text)) FROM (SELECT {columns} FROM {table} {but}) r"


@dataclass
class Unwritten:
    """`wrong`: what a failed apply changed. `compared`: how many failed applies were compared."""

    server: str
    compared: int = 0
    wrong: list[str] = field(default_factory=list)
    _before: ContextVar[Rows | None] = field(default_factory=lambda: ContextVar("before", default=None))

    @contextmanager
    def watching(self) -> Iterator[None]:
        opening, ending = engine._open_and_apply, engine.build_failed_report

        async def opened(desired: Desired, run: Run, attempt: Any) -> InstanceReport:
            self._before.set(self._rows(desired))
            report = await opening(desired, run, attempt)
            self._before.set(None)
            return report

        def ended(desired: Desired, *rest: Any) -> InstanceReport:
            report = ending(desired, *rest)
            self._compare(desired, report)
            return report

        engine._open_and_apply, engine.build_failed_report = opened, ended
        try:
            yield
        finally:
            engine._open_and_apply, engine.build_failed_report = opening, ending

    def _compare(self, desired: Desired, report: InstanceReport) -> None:
        before, code = self._before.get(), report.error.code if report.error else ""
        self._before.set(None)
        if before is None or code in OF_OTHERS:
            return
        after = self._rows(desired)
        if after is not None:
            self.compared += 1
            changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
            self.wrong += [f"{desired.instance} ended with {code}, and {name} was changed" for name in changed]

    def _rows(self, desired: Desired) -> Rows | None:
        """Returns a digest of each table: no entries if the database does not exist, None if the rows can't be read."""
        name = urlsplit(desired.database.url.reveal()).path.lstrip("/")
        try:
            url = with_database(self.server, name)
            with psycopg.connect(url, connect_timeout=5, client_encoding="UTF8") as conn:
                # LOCAL: through PgBouncer the session is another client's afterwards.
                conn.execute(
                    "SET LOCAL lock_timeout = '200ms'; SET LOCAL search_path = pg_catalog; SET LOCAL row_security = off"
                )
                found = conn.execute(COLUMNS, (BIG, desired.database.schema, [*TABLES], [*RECORD])).fetchall()
                return {f"{schema}.{table}": _digest(conn, schema, table, names) for schema, table, names in found}
        except psycopg.errors.InvalidCatalogName:
            return {}
        except (psycopg.Error, UnicodeError):
            return None


def _digest(conn: psycopg.Connection[Any], schema: str, table: str, names: list[str]) -> Any:
    columns = sql.SQL(", ").join(map(sql.Identifier, names))
    # Leave out Connect's status: the failed run's check records it too.
    but = sql.SQL("WHERE kind <> 'status'" if (schema, table) == ("fivrec", "applied") else "")
    text = sql.SQL(DIGEST).format(columns=columns, table=sql.Identifier(schema, table), but=but)
    return conn.execute(text).fetchone()
