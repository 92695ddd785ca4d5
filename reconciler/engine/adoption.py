"""The parts of adopting a database that run outside its transaction, and the notes about what was found. Builds indexes
and constraints of big tables, moves sequences that are behind their tables, and names rows that break isolation,
tables that another schema has too, and what `--deep` finds beside the catalogue. Changes no row."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from reconciler.database.connection import Connection
from reconciler.engine.observe import build_scope
from reconciler.engine.run import Run
from reconciler.model.errors import DatabaseError, FivrecError
from reconciler.model.types import Desired, ErrorInfo, Managed, Snapshot
from reconciler.planning.plan import Plan
from reconciler.support.cancellation import is_being_stopped

if TYPE_CHECKING:
    from reconciler.database.status_queries import BreakingRow

UNFINISHED = "adoption_unfinished"
MOST = 100
_LIMITS = {
    "statement_timeout": "statement_timeout",
    "lock_timeout": "lock_timeout",
    "idle_timeout": "transaction_timeout",
}
"""What stops CREATE INDEX CONCURRENTLY by its error's code: fivrec can set no limit of its own for it."""


async def finish_adoption(conn: Connection, desired: Desired, run: Run) -> ErrorInfo | None:
    """What kept the adoption from being finished. The run itself was committed, and the next apply continues from
    there."""
    from reconciler.database.adoption import finish

    try:
        if await finish(conn, build_scope(desired)):
            run.log.info("adoption", "🏗️ indexes and constraints of big tables are made", instance=desired.instance)
    except FivrecError as exc:
        return _unfinished(exc.message, exc.code)
    except asyncio.CancelledError:
        if not is_being_stopped():
            raise
        return _unfinished("the run was stopped")
    return None


def _unfinished(why: str, code: str | None = None) -> ErrorInfo:
    message = f"committed, but indexes and constraints of big tables are not all made yet: {why}"
    hint = 'run "fivrec apply" again: it goes on from there'
    if code in _LIMITS:
        hint += "; if it is stopped each time: the limits of the login and the database hold for such an index, which "
        hint += f"no transaction can build: ALTER ROLE … SET {_LIMITS[code]} = 0 for fivrec's login"
    return ErrorInfo(UNFINISHED, message, hint)


async def describe_found(conn: Connection, desired: Desired, run: Run, plan: Plan) -> tuple[str, ...]:
    """Returns notes about findings that were left as they are.

    The run was already committed, so neither an error nor a signal here changes its outcome.
    """
    found = await _describe_violations(conn, desired, plan)
    with suppress(asyncio.CancelledError):
        return (*found, *await describe_twins(conn, desired, run, plan))
    return found


async def _describe_violations(conn: Connection, desired: Desired, plan: Plan) -> tuple[str, ...]:
    """Returns a note per such row, by table and id, after a run that created or changed the schema; at most MOST."""
    if conn.closed or not any(change.key.kind == "schema" for change in plan.changes):
        return ()
    if is_being_stopped():
        return _not_looked_for("the run was stopped")
    from reconciler.database.status_queries import read_breaking_rows

    try:
        rows = await read_breaking_rows(conn, build_scope(desired), limit=MOST + 1)
    except FivrecError as exc:
        return _not_looked_for(exc.message)
    except asyncio.CancelledError:
        return _not_looked_for("the run was stopped")
    return _row_notes(rows)


def _row_notes(rows: Sequence[BreakingRow]) -> tuple[str, ...]:
    found = [f"⚠️ {row.table} {row.id}: {_why(row.reason)}; it is kept, fix it by hand" for row in rows[:MOST]]
    more = [f"⚠️ and more than {MOST} such rows"] if len(rows) > MOST else []
    return (*found, *more)


async def describe_foreseen(
    conn: Connection | None, desired: Desired, run: Run, plan: Plan, snapshot: Snapshot
) -> tuple[str, ...]:
    """Returns what `describe_found` would return after an apply, for a dry run. If fivrec's schema is there, rows were
    named when it was made."""
    twins = await describe_twins(conn, desired, run, plan)
    if conn is None or conn.closed or snapshot.schema_version is not None or snapshot.empty or is_being_stopped():
        return twins
    from reconciler.database.status_queries import read_foreseen_rows

    try:
        rows, big = await read_foreseen_rows(conn, build_scope(desired), limit=MOST + 1)
    except FivrecError as exc:
        return (*_not_looked_for(exc.message), *twins)
    unread = _not_looked_for(f"before the first apply, big tables are not read ({', '.join(big)})") if big else ()
    return (*_row_notes(rows), *unread, *twins)


async def describe_twins(conn: Connection | None, desired: Desired, run: Run, plan: Plan) -> tuple[str, ...]:
    """Returns a note for each other schema that has tables of the app's too, if the schema is created or changed, or
    after a deep look. An app whose search_path finds those first sees no lock."""
    looked = run.deep or any(change.key.kind == "schema" for change in plan.changes)
    if conn is None or conn.closed or not looked or is_being_stopped():
        return ()
    from reconciler.database.preconditions import read_twins

    with suppress(FivrecError):
        declared = desired.database.schema
        return tuple(
            f'⚠️ {found} too: fivrec manages those of schema "{declared}" (database.schema), whatever a search_path says'
            for found in await read_twins(conn, declared)
        )
    return ()


async def describe_deeply(conn: Connection, desired: Desired, managed: Mapping[str, Managed]) -> tuple[str, ...]:
    """Returns a note for each role whose sessions fire no triggers, each check of environments that hidden rows may
    break, each declared row that the app has marked as deleted, and each production user whose password is stored in
    clear text (at most 10). Used by `--deep`."""
    from reconciler.database.isolation_probes import read_deleted, read_hidden, read_open_passwords, read_replicas

    schema = desired.database.schema
    declared = {kind: list(managed[kind].resources) if kind in managed else [] for kind in ("admin", "queue", "plan")}
    names = {kind: [one.key.name for one in some] for kind, some in declared.items()}
    names["admin"] = [name.lower() for name in names["admin"]]
    # A row of a plan that was adopted has an id of its own.
    names["plan"] += [str(one.fields["name"]) for one in declared["plan"]]
    deleted = await read_deleted(conn, schema, desired.environment.name, names)
    return (
        *(f"⚠️ {said}" for said in (*await read_replicas(conn), *await read_hidden(conn, schema))),
        *(
            f"⚠️ {row}: the app has marked a row of it as deleted (deleted_at); fivrec counts it as there"
            for row in deleted
        ),
        *(
            f"⚠️ the password of {email} is stored in users.password in plain text: let its owner set another one"
            for email in await read_open_passwords(conn, schema)
        ),
    )


def _not_looked_for(why: str) -> tuple[str, ...]:
    return (f"⚠️ rows that break the rules of environments could not be looked for: {why}",)


def _why(reason: str) -> str:
    return "it has no environment" if reason == "environment" else f"{reason} points out of its environment"


async def advance_sequences(conn: Connection, desired: Desired, run: Run, refused: DatabaseError) -> bool:
    """Move a sequence that is behind its table, which is why a row was `refused` as a duplicate. Returns whether one
    was moved. Raises DatabaseError, naming the sequences, if this login may not advance them."""
    from reconciler.database.sequences import advance_sequences as advance

    try:
        behind = await advance(conn, build_scope(desired))
    except FivrecError:
        return False  # the original refusal is the better answer
    kept = [one for one in behind if not one.may_advance]
    for one in behind:
        if one.may_advance:
            words = f"🔢 the sequence {one.sequence} was behind {one.column}: advanced to {one.top}"
            run.log.warning(run.command, words, instance=desired.instance)
    if kept and len(kept) == len(behind):
        said = ", ".join(f"{one.sequence} is behind {one.column}" for one in kept)
        statements = " ".join(f"SELECT setval('{one.sequence}', {one.top});" for one in kept)
        hint = f"{statements} as a role that may, then run again"
        raise DatabaseError(f"{refused.message}; the sequence {said}", code=refused.code, hint=hint) from refused
    return bool(behind)
