"""Write, and see that it holds before it is committed: what is read again must differ in nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from reconciler.database import store
from reconciler.engine import observe
from reconciler.engine.run import Run
from reconciler.model.errors import NotConverged
from reconciler.model.kinds import BY_NAME
from reconciler.model.secret import Secret
from reconciler.model.types import Desired, Key, Snapshot
from reconciler.planning.plan import Plan

if TYPE_CHECKING:
    from psycopg import AsyncConnection


async def write_and_compare(
    conn: AsyncConnection,
    writes: store.Writes,
    plan: Plan,
    desired: Desired,
    run: Run,
    *,
    plan_again: Callable[[Snapshot], Plan],
) -> None:
    """Write into the open transaction, and plan again. NotConverged, naming resources and triggers, if a change is
    left; the transaction is then rolled back by the caller, with all that was written."""
    kinds = None if desired.managed else frozenset(plan.managed)
    found = await store.write(
        conn,
        writes,
        observe.build_scope(desired),
        run.keys if kinds is None or "config" in kinds else None,
        limits=run.limits,
        removed=run.removed,
        deep=run.deep and not writes.migrate,  # what is left of an adoption is made after the commit
        kinds=kinds,
    )
    written = {change.key for change in plan.changes}
    rest = {change.key for change in plan_again(found).changes} | _other_hashes(writes, found)
    if not rest:
        return
    raise NotConverged(
        f"after they were written these still differ: {await _named(conn, desired, run, rest)}; nothing was committed",
        hint="a trigger or rule changes what is written, or the column can't hold it: mend that, or declare the result",
        written=bool(rest & written),
    )


async def _named(conn: AsyncConnection, desired: Desired, run: Run, rest: set[Key]) -> str:
    """The resources, the triggers that may have changed them, and the columns that may not hold them. Rolls back."""
    kinds, schema = {key.kind for key in rest}, desired.database.schema
    triggers = await store.read_triggers(conn, schema, kinds, limits=run.limits)
    columns = await store.read_other_types(conn, schema, kinds)
    named = ", ".join(sorted(str(key) for key in rest))
    why = f" ({', '.join(triggers)})" if triggers else ""
    return f"{named}{why}" + (f"; not as documented: {', '.join(columns)}" if columns else "")


def _other_hashes(writes: store.Writes, found: Snapshot) -> set[Key]:
    """Resources whose stored hash is not the one that was written: verified by its text, as bcrypt would take long."""
    differing: set[Key] = set()
    for row in writes.rows:
        for field, seal in BY_NAME[row.kind].sensitive.items():
            wanted = row.params.get(field)
            if seal != "bcrypt" or wanted is None:
                continue
            key = Key(row.kind, row.params["key"])
            if key not in found.state:
                continue  # no administrator any more; one that should be there is a rest of the plan
            stored = found.state[key].fields.get(field)
            if not isinstance(stored, Secret) or stored.reveal() != wanted:
                differing.add(key)
    return differing
