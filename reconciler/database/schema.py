"""The database's schema as fivrec ships it: migrations, the setup script made of them, and what a database lacks."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
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

-- The app's tables are in schema public, or in another one: psql -v schema=NAME

\\if :{?schema}
\\else
  \\set schema public
\\endif
SET client_min_messages = warning;
SET search_path = pg_catalog, pg_temp;
SET plpgsql.extra_errors = 'none';
"""
_FOOTER = "\nRESET plpgsql.extra_errors;\nRESET search_path;\nRESET client_min_messages;\n"
_IDENTIFIER, _LITERAL = ':"schema"', ":'schema'"
_AT_ONCE = (
    "SELECT set_config('search_path', 'pg_catalog, pg_temp', true), set_config('fivrec.defer', '', true),"
    # A server, database or login may set it for the app's functions; fivrec's have a variable named `found`.
    " set_config('plpgsql.extra_errors', 'none', true);"
)
# Building on new tables blocks nobody: in a database without the app's tables, everything is done at once.
_DEFER = _AT_ONCE.replace(
    "'fivrec.defer', ''",
    "'fivrec.defer', CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_class c"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname = :'schema' AND c.relname IN ('users', 'clients', 'queues', 'conversations', 'messages'))"
    " THEN 'on' ELSE '' END",
)
_MADE = _AT_ONCE.replace(" set_config('fivrec.defer', '', true),", "")
_QUEUES = f"CREATE TABLE IF NOT EXISTS {_IDENTIFIER}.queues ("
# What is added for ids and environments has the types of those that are there: no foreign key goes from text to a
# number, a UUID or an enum. Of a domain it is the base type, as checks are the code of the app: none if that is a
# domain too. A superuser uses no type of another role's, which could give its name to a domain meanwhile.
_TYPES = """\
DO $$
DECLARE
  lacking record;
BEGIN
  FOR lacking IN
    WITH shared (place, tbl) AS (
      VALUES (1, 'users'), (2, 'clients'), (3, 'queues'), (4, 'conversations'), (5, 'messages')
    ), found AS (
      SELECT s.place, s.tbl, a.attname AS col, b.typcategory IN ('N', 'U', 'E') AND b.typtype <> 'd' AND (
               b.typnamespace = 'pg_catalog'::regnamespace OR o.rolsuper OR o.rolname = session_user
               OR NOT (SELECT me.rolsuper FROM pg_roles me WHERE me.rolname = session_user)) AS special,
             format_type(b.oid, NULL) AS type
      FROM shared s
      JOIN pg_attribute a ON a.attrelid = fivrec.app_table(s.tbl) AND a.attnum > 0 AND NOT a.attisdropped
      JOIN pg_type t ON t.oid = a.atttypid
      JOIN pg_type b ON b.oid = COALESCE(NULLIF(t.typbasetype, 0), t.oid)
      JOIN pg_roles o ON o.oid = b.typowner
    ), made AS (
      SELECT link.child, link.reference AS col, f.type, '' AS rest
      FROM (VALUES
        ('conversations', 'client_id', 'clients'),
        ('conversations', 'queue_id', 'queues'),
        ('conversations', 'user_id', 'users'),
        ('messages', 'conversation_id', 'conversations'),
        ('messages', 'user_id', 'users')
      ) AS link (child, reference, parent)
      JOIN found f ON f.tbl = link.parent AND f.col = 'id' AND f.special
      UNION ALL
      SELECT s.tbl, 'environment', (
        SELECT f.type FROM found f WHERE f.col = 'environment' AND f.special ORDER BY f.place LIMIT 1
      ), ' NOT NULL DEFAULT ''production'''
      FROM shared s
    )
    SELECT m.*
    FROM made m
    WHERE m.type IS NOT NULL AND NOT EXISTS (SELECT FROM found f WHERE f.tbl = m.child AND f.col = m.col)
  LOOP
    IF fivrec.app_table(lacking.child) IS NULL THEN
      EXECUTE format('CREATE TABLE %I.%I (id varchar PRIMARY KEY DEFAULT gen_random_uuid())',
                     fivrec.app_schema(), lacking.child);
    END IF;
    EXECUTE format('ALTER TABLE %I.%I ADD COLUMN %I %s%s',
                   fivrec.app_schema(), lacking.child, lacking.col, lacking.type, lacking.rest);
  END LOOP;
END
$$;"""
_RUN_AS = {
    _QUEUES: f"{_TYPES}\n\n{_QUEUES}",
    "DO $$ BEGIN PERFORM fivrec.build(ARRAY['unique']); END $$;\n": "",
    "DO $$ BEGIN PERFORM fivrec.build(ARRAY['check', 'foreign key']); END $$;\n": "",
    "DO $$ BEGIN PERFORM fivrec.validate(); END $$;\n": "",
    "DO $$ BEGIN PERFORM fivrec.build(ARRAY['index']); END $$;\n": """\
DO $$ BEGIN
  PERFORM fivrec.build(ARRAY['unique', 'index', 'check', 'foreign key']);
  PERFORM fivrec.validate();
END $$;
""",
    # The app's own constraint under another name: if it is not validated, fivrec's, which does not exist, must not be
    # validated either; if it is, no row lacks an environment.
    "WHERE c.conrelid = w.rel AND CASE w.kind": """\
WHERE c.conrelid = w.rel AND (c.convalidated OR c.conname = w.name) AND CASE w.kind""",
    "SELECT c.conrelid, c.contype,": "SELECT c.conrelid, c.conname, c.contype,",
    "ON c.conrelid = fivrec.app_table(w.tbl) AND c.conname = w.name AND c.convalidated": """\
ON c.conrelid = fivrec.app_table(w.tbl) AND c.contype = 'c' AND c.convalidated AND (
    c.conname = w.name
    OR replace(pg_get_expr(c.conbin, c.conrelid), '"', '') LIKE '((environment IS NOT NULL) AND %')""",
    # Under row-level security VALIDATE calls a foreign key valid that only hidden rows break. So look at each
    # environment first. Rows of any other are never seen, but they break the CHECK, whose VALIDATE sees all rows.
    "WHEN j.state = 'unvalidated' THEN format(": """\
WHEN j.state = 'unvalidated' AND j.kind = 'foreign key' AND row_security_active(j.rel) THEN format(
             'DO $do$ BEGIN IF fivrec.is_broken(%L) THEN RAISE foreign_key_violation; END IF; '
             'ALTER TABLE %s VALIDATE CONSTRAINT %I; END $do$', j.name, j.rel, j.name)
           WHEN j.state = 'unvalidated' THEN format(""",
    "  rule record;\n  broken boolean;\n": """\
  rule record;
  broken boolean;
  own text := current_setting('fiv.environment', true);
  seen text;
""",
    "  ELSE\n    EXECUTE format(\n      'SELECT EXISTS (SELECT FROM %s c WHERE": """\
  ELSE
    broken := row_security_active(fivrec.app_table(rule.tbl)) AND EXISTS (
      SELECT FROM pg_constraint c WHERE c.conrelid = fivrec.app_table(rule.tbl)
        AND c.conname = rule.tbl || '_environment_check' AND NOT c.convalidated);
    FOREACH seen IN ARRAY CASE WHEN row_security_active(fivrec.app_table(rule.tbl))
      THEN ARRAY['production', 'development'] ELSE ARRAY[own] END LOOP
    EXIT WHEN broken;
    PERFORM set_config('fiv.environment', seen, true);
    EXECUTE format(
      'SELECT EXISTS (SELECT FROM %s c WHERE""",
    "fivrec.app_table(rule.parent)) INTO broken;\n": """\
fivrec.app_table(rule.parent)) INTO broken;
    END LOOP;
    PERFORM set_config('fiv.environment', own, true);
""",
}
"""Text that runs in place of released text: fivrec 0.2 compares the files. Migrations 4 and 5 look four times for what
the tables lack, which is a quarter of PostgreSQL's time for the whole script; looking twice finds the same."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of sql/migrations. Idempotent: it may run on any state that an earlier migration left."""

    version: int
    name: str
    text: str
    checksum: str


@cache
def migrations() -> tuple[Migration, ...]:
    names = sorted(path.stem for path in resource_path("sql/migrations").glob("[0-9]*.sql"))
    texts = {name: read_text(f"sql/migrations/{name}.sql") for name in names}
    return tuple(
        Migration(int(name[:4]), name[5:], text, hashlib.sha256(text.encode()).hexdigest())
        for name, text in texts.items()
    )


def latest_version() -> int:
    """Returns the schema version that this fivrec ships."""
    return migrations()[-1].version


def version_of(name: str) -> int:
    """Returns the first schema version that has what the migration of this name made."""
    return next(one.version for one in migrations() if one.name == name)


def newer_note(version: int) -> str:
    """Returns what reports and logs say about a database that a newer fivrec migrated."""
    return f"⚠️ a newer fivrec migrated this database to schema {version}: apply and check refuse to write to it"


def older_note(version: int) -> str:
    """Returns what the reading commands say about a database that an older fivrec migrated."""
    return (
        f"⚠️ an older fivrec migrated this database to schema {version} of {latest_version()}: run `fivrec apply` once"
    )


def parse_version(rows: Iterable[tuple[int, str]]) -> int | None:
    """Returns the schema version that recorded (version, checksum) rows amount to; None if there are no rows.

    That is the last of our migrations up to which all are recorded with the text that they have now. If another fivrec
    migrated the database, its texts may differ: then it is the newest number there, higher or lower than ours.
    """
    recorded = dict(rows)
    if not recorded:
        return None
    if (newest := max(recorded)) != latest_version():
        return newest
    reached = 0
    for migration in migrations():
        if recorded.get(migration.version) != migration.checksum:
            break
        reached = migration.version
    return reached


@cache
def build_tables_sql(schema: str) -> tuple[str, ...]:
    """Returns statements that make the app's tables as migrations do, and nothing else: nobody else can make them then.
    The first one decides what `defer` would: run the migrations after them with `made`."""
    from psycopg import sql

    quoted = sql.Identifier(schema).as_string()
    pattern = rf"^CREATE TABLE IF NOT EXISTS {_IDENTIFIER}\.\w+ \(.*?^\)|{re.escape(_TYPES)}"
    made = re.findall(pattern, _template(), re.DOTALL | re.MULTILINE)
    name = _literal(schema)

    def place_of(table: re.Match[str]) -> str:
        return f"to_regclass(format('%I.%I', {name}, {table[1]}))"

    # fivrec's functions are made after them.
    texts = (re.sub(r"fivrec\.app_table\((.*?)\)", place_of, text) for text in made)
    tables = (text.replace("fivrec.app_schema()", name).replace(_IDENTIFIER, quoted) for text in texts)
    # Not IF NOT EXISTS, which asks for the right to make schemas first.
    place = f"DO $$ BEGIN IF to_regnamespace(quote_ident({name})) IS NULL THEN CREATE SCHEMA {quoted}; END IF; END $$"
    return _DEFER.replace(_LITERAL, name), place, *tables


@cache
def build_migration_sql(schema: str, *, defer: bool = False, made: bool = False) -> str:
    """Returns all migrations and the statement that records them. apply runs this in its transaction, whose settings it
    changes.

    `schema` holds the app's tables. `defer`: leave what would block readers or writers of a big table to
    `adoption.finish`. `made`: the statements of `build_tables_sql` have just run.
    """
    from psycopg import sql

    text = _template().replace(_IDENTIFIER, sql.Identifier(schema).as_string())
    first = _MADE if made else _DEFER if defer else _AT_ONCE
    return f"{first}\n{text}".replace(_LITERAL, _literal(schema))


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _template() -> str:
    """Returns the same with psql's variable `schema` in place of the schema."""
    parts = [f"-- {item.version:04d} {item.name}\n\n{item.text.strip()}\n" for item in migrations()]
    text = "\n".join([*parts, _recording()])
    for released, run in _RUN_AS.items():
        text = text.replace(released, run)
    return text


def build_setup_script() -> str:
    """Returns the text of sql/database-setup-script.sql."""
    return f"{_HEADER}\n{_template()}{_FOOTER}"


def _recording() -> str:
    # Names and checksums come from our own file names and hex digits: nothing here needs quoting.
    rows = ",\n".join(f"  ({item.version}, '{item.name}', '{item.checksum}')" for item in migrations())
    return (
        "-- Which migrations this database has.\n"
        "INSERT INTO fivrec.migrations (version, name, checksum, app_schema, finished)\n"
        "SELECT version, name, checksum, fivrec.app_schema(),\n"
        "       current_setting('fivrec.defer', true) IS DISTINCT FROM 'skipped'\n"
        f"FROM (VALUES\n{rows}\n) AS shipped (version, name, checksum)\n"
        "ON CONFLICT (version) DO UPDATE\n"
        "SET name = EXCLUDED.name, checksum = EXCLUDED.checksum, applied_at = now(),\n"
        "    app_schema = EXCLUDED.app_schema, finished = EXCLUDED.finished\n"
        "WHERE (migrations.checksum, migrations.app_schema, migrations.finished)\n"
        "  IS DISTINCT FROM (EXCLUDED.checksum, EXCLUDED.app_schema, EXCLUDED.finished);\n"
    )


@cache
def expected_catalogue() -> frozenset[str]:
    """What a migrated database has (sql/catalogue.txt): `users.environment`, `users: users_environment_check`, …"""
    return frozenset(line for line in read_text("sql/catalogue.txt").splitlines() if line)


async def read_catalogue(
    conn: AsyncConnection[Any], schema: str = "public", parts: Sequence[str] = ("rules", "own", "fit")
) -> frozenset[str]:
    """Returns what this database has, in the form of `expected_catalogue`, and whatever else its schemas hold."""
    from psycopg.rows import dict_row

    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query("catalogue", "columns"), {"schema": schema})
        columns = [f"{_table(row)}.{row['column_name']}" for row in await cursor.fetchall()]
        named: list[str] = []
        for part in parts:
            if part == "fit" and not _functions(expected_catalogue()).issubset(named):
                break  # that statement calls them
            await cursor.execute(query("catalogue", part), {"schema": schema})
            named += [f"{_table(row)}: {row['name']}" for row in await cursor.fetchall()]
    return frozenset((*columns, *named))


async def read_missing(conn: AsyncConnection[Any], schema: str) -> tuple[str, ...]:
    """Returns what a migrated database has and this one lacks, sorted. If functions are missing, returns only these:
    they find the rest."""
    missing = expected_catalogue() - await read_catalogue(conn, schema)
    return tuple(sorted(_functions(missing) or missing))


async def read_own_missing(conn: AsyncConnection[Any]) -> tuple[str, ...]:
    """Returns what fivrec's own tables lack, and its functions, sorted. Reads no row, and nothing of the app's."""
    found = await read_catalogue(conn, "fivrec", parts=("own",))
    return tuple(sorted(name for name in expected_catalogue() - found if name.startswith("fivrec.")))


def _functions(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name for name in names if name.endswith(": function"))


def _table(row: Mapping[str, str]) -> str:
    schema, table = row["table_schema"], row["table_name"]
    return f"fivrec.{table}" if schema == "fivrec" else table
