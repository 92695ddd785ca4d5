"""A status check that depends on nothing else: record Connect's answer and set the lock when the rest of a run is not
possible."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from reconciler.database.connection import Connection
from reconciler.database.status_check import write_lone_check
from reconciler.database.store import CheckRow
from reconciler.engine.alerts import find_check_alerts, report_check, store_alerts
from reconciler.engine.commit import reopen_if_lost
from reconciler.engine.guards import STALE, WRONG_OWNER
from reconciler.engine.observe import build_scope
from reconciler.engine.run import Run
from reconciler.engine.writes import check_row
from reconciler.model.changes import FieldChange, Update
from reconciler.model.errors import DatabaseError, FivrecError
from reconciler.model.kinds.status import from_connect
from reconciler.model.types import ConnectView, Desired, Resource, Snapshot, Value
from reconciler.planning.diff import accept
from reconciler.planning.report import CycleResult
from reconciler.planning.status_check import KnownStatus, judge, status_after

NOT_CONFIGURED = "instance_not_configured"
READ_ONLY = "database_read_only"
SCHEMA_MISSING = "schema_missing"
NOTHING_WRITTEN = frozenset(
    {
        WRONG_OWNER,
        READ_ONLY,
        "foreign_code",
        "foreign_schema",
        NOT_CONFIGURED,
        SCHEMA_MISSING,
        "schema_newer",
        STALE,
    }
)
"""Errors after which not even a check is written: there is no database to write to, it can't be trusted, or only one
saved plan was to be applied."""

NOT_ALONE = ("enabled_features",)
"""Fields that the lock does not depend on, and that a column of the app's may refuse."""


def has_no_place(exc: FivrecError, snapshot: Snapshot | None) -> bool:
    """Whether there is no row that a check could lock, or none that it may lock. The app's own row counts, even if
    other tables are missing; and an error from a write may come from a trigger, so the lock is still tried."""
    if snapshot is not None and snapshot.owner is None:
        return True
    return exc.code in NOTHING_WRITTEN - {NOT_CONFIGURED, SCHEMA_MISSING, READ_ONLY}


def is_due(desired: Desired, run: Run, view: ConnectView) -> bool:
    """Whether a turn that failed still records a check: once per due time, when Connect says something new, and while
    its lock could not be followed. Other commands always do."""
    turn, said = run.turn, view.status
    if turn is None or turn.due or turn.last_known is None or said is None:
        return said is not None
    wanted = _allowed(desired, run, view).get("is_locked", turn.last_known.locked)
    known = (turn.last_known.status, turn.last_known.billing_status, turn.last_known.locked)
    return known != (said.status, said.billing_status, wanted)


async def record_plainly(conn: Connection, desired: Desired, run: Run, view: ConnectView) -> CycleResult | None:
    """Write the lock, the status and the check without reading anything. Leaves out the parts that the database
    refuses.

    Returns None if nothing could be written. Alerts are judged by what the last turn knew, since the row is not read.
    """
    check = check_row(judge(view, run.check_type))
    fields = _allowed(desired, run, view)
    written = await _written(conn, desired, run, fields, check)
    if not written:
        return None
    before = run.turn.last_known if run.turn and run.turn.last_known else KnownStatus()
    after = status_after(before, view)
    if "is_locked" not in written:
        after = replace(after, locked=before.locked)  # suspended, ignored, or refused
    # In a transaction of its own: the table may be part of the problem.
    found = await store_alerts(desired, run, find_check_alerts(run, desired, view, before, after))
    report_check(run, desired, view, found, checked=True)
    names = tuple(alert.name for alert in found)
    check_id = check.id if "check" in written else None
    return CycleResult(standing=after, check_id=check_id, checked_ago_s=None, alerts=names)


async def _written(
    conn: Connection, desired: Desired, run: Run, fields: Mapping[str, Value], check: CheckRow
) -> frozenset[str]:
    """Returns the parts that could be written. If a part loses the connection, or the COMMIT fails, the remaining
    attempts leave it out."""
    lock = {name: value for name, value in fields.items() if name == "is_locked"}
    for some, row in ((fields, check), (fields, None), (lock, None)):
        if not some and row is None:
            continue
        async with reopen_if_lost(conn, desired, run) as open_conn:
            try:
                return await write_lone_check(open_conn, build_scope(desired), some, row)
            except DatabaseError as exc:
                if exc.code == "lock_timeout" and row is None:
                    break  # the last attempt would wait for the same table
    return frozenset()


def _allowed(desired: Desired, run: Run, view: ConnectView) -> dict[str, Value]:
    """The fields that Connect's answer sets, less those that the manifest accepts as drift. None of them for a
    suspended instance."""
    managed = from_connect(view, "keep")
    if managed is None or desired.suspend:
        return {}
    (said,) = managed.resources
    fields = tuple(FieldChange(name, None, value) for name, value in said.fields.items() if name not in NOT_ALONE)
    change = Update(said.key, fields, "connect", "intent", said, Resource(said.key, {}))
    kept, _ = accept((change,), desired.ignore, run.today)
    return {item.field: item.after for change in kept for item in change.fields}
