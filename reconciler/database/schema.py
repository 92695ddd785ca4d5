"""The database's schema as fivrec ships it: migrations, the setup script made of them, and what a catalogue lacks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from reconciler.database.statements import query
from reconciler.model.records import dataclass
from reconciler.support.package_files import read_text, resource_path

if TYPE_CHECKING:
    from psycopg import AsyncConnection

_HEADER = """\
-- The database of one Fi.V App instance: everything that fivrec needs, in plain SQL.
--
--   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -1
--   \\i sql/database-setup-script.sql
--
-- For an empty database and for one that the app already made: tables keep their rows and gain what they lack.
-- Running it again changes nothing. `fivrec apply` runs the same statements.
-- Made from sql/migrations by `fivrec sql`; edit those.

SET client_min_messages = warning;
"""
_FOOTER = "\nRESET client_min_messages;\n"


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of sql/migrations. Idempotent: it may run on any state that an earlier one left."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


@cache
def migrations() -> tuple[Migration, ...]:
    """All migrations, in order."""
    names = sorted(path.stem for path in resource_path("sql/migrations").glob("[0-9]*.sql"))
    return tuple(Migration(int(name[:4]), name[5:], read_text(f"sql/migrations/{name}.sql")) for name in names)


def latest_version() -> int:
    """The schema version that this fivrec ships."""
    return migrations()[-1].version


def parse_version(rows: Iterable[tuple[int, str]]) -> int | None:
    """The schema version that recorded (version, checksum) rows amount to; None for none.

    The last of our migrations up to which all are recorded as they are now. A database that a newer fivrec
    migrated has its own, higher number.
    """
    recorded = dict(rows)
    if not recorded:
        return None
    reached = 0
    for migration in migrations():
        if recorded.get(migration.version) != migration.checksum:
            return reached
        reached = migration.version
    return max(reached, *recorded)


def build_migration_sql() -> str:
    """Every migration in order, and their recording: what both apply and the setup script run."""
    parts = [f"-- {item.version:04d} {item.name}\n\n{item.text.strip()}\n" for item in migrations()]
    return "\n".join([*parts, _recording()])


def build_setup_script() -> str:
    """The text of sql/database-setup-script.sql."""
    return f"{_HEADER}\n{build_migration_sql()}{_FOOTER}"


def _recording() -> str:
    # Names and checksums come from our own file names and hex digits: nothing here needs quoting.
    rows = ",\n".join(f"  ({item.version}, '{item.name}', '{item.checksum}')" for item in migrations())
    return (
        "-- Which migrations this database has.\n"
        "INSERT INTO fivrec.migrations (version, name, checksum) VALUES\n"
        f"{rows}\n"
        "ON CONFLICT (version) DO UPDATE\n"
        "SET name = EXCLUDED.name, checksum = EXCLUDED.checksum, applied_at = now()\n"
        "WHERE migrations.checksum <> EXCLUDED.checksum;\n"
    )


@cache
def expected_catalogue() -> frozenset[str]:
    """What a migrated database has (sql/catalogue.txt): `users.environment`, `users: users_environment_check`."""
    return frozenset(line for line in read_text("sql/catalogue.txt").splitlines() if line)


async def read_catalogue(conn: AsyncConnection[Any]) -> frozenset[str]:
    """What this database has, in the words of `expected_catalogue`, and what else its schemas hold."""
    from psycopg.rows import dict_row

    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query("catalogue", "columns"), {})
        columns = [f"{_table(row)}.{row['column_name']}" for row in await cursor.fetchall()]
        named: list[str] = []
        for part in ("constraints", "rules", "indexes"):
            await cursor.execute(query("catalogue", part), {})
            named += [f"{_table(row)}: {row['name']}" for row in await cursor.fetchall()]
    return frozenset((*columns, *named))


async def read_missing(conn: AsyncConnection[Any]) -> tuple[str, ...]:
    """What a migrated database would have and this one has not, sorted."""
    return tuple(sorted(expected_catalogue() - await read_catalogue(conn)))


def _table(row: Mapping[str, str]) -> str:
    schema, table = row["table_schema"], row["table_name"]
    return f"fivrec.{table}" if schema == "fivrec" else table
