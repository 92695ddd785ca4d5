"""The check that depends on nothing else: what Connect said, and its lock, where the rest of a run can't be had."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from reconciler.database.status_check import write_lone_check
from reconciler.engine.alerts import find_check_alerts, report_check, store_alerts
from reconciler.engine.commit import reopen_if_lost
from reconciler.engine.observe import build_scope
from reconciler.engine.run import CycleContext, Run
from reconciler.engine.writes import check_row
from reconciler.model.changes import FieldChange, Update
from reconciler.model.errors import FivrecError
from reconciler.model.kinds.status import from_connect
from reconciler.model.types import ConnectView, Desired, InstanceStatus, Resource, Value
from reconciler.planning.diff import accept
from reconciler.planning.report import CycleResult
from reconciler.planning.status_check import KnownStatus, judge, status_after

if TYPE_CHECKING:
    from psycopg import AsyncConnection

NOT_ALONE = ("enabled_features",)
"""What no lock depends on, and a column of the app's may refuse."""


def is_due(turn: CycleContext | None, said: InstanceStatus) -> bool:
    """Whether a turn that failed checks all the same: once a slot, and when Connect says something new. Other commands
    always do."""
    if turn is None or turn.due or turn.heard is None:
        return True
    return (turn.heard.status, turn.heard.billing_status) != (said.status, said.billing_status)


async def record_plainly(conn: AsyncConnection, desired: Desired, run: Run, view: ConnectView) -> CycleResult | None:
    """The lock, the status and the check, without reading anything; what the database refuses of it is left out.

    None if nothing could be written. Alerts are judged by what the last turn heard: the row is not read.
    """
    check = check_row(judge(view, run.check_type))
    for fields, with_check in _ever_less(_allowed(desired, run, view)):
        try:
            async with reopen_if_lost(conn, desired, run) as open_conn:
                row = check if with_check else None
                await write_lone_check(open_conn, build_scope(desired), fields, row, limits=run.limits)
        except FivrecError:
            continue
        before = run.turn.heard if run.turn and run.turn.heard else KnownStatus()
        after = status_after(before, view)
        # In a transaction of its own: the table may be among what is wrong.
        found = await store_alerts(desired, run, find_check_alerts(run, desired, view, before, after))
        report_check(run, desired, view, found, checked=True)
        names = tuple(alert.name for alert in found)
        return CycleResult(standing=after, check_id=check.id if with_check else None, checked_ago_s=None, alerts=names)
    return None


def _allowed(desired: Desired, run: Run, view: ConnectView) -> dict[str, Value]:
    """The fields that Connect's word sets, less what the manifest accepts as it is. A suspended one changes nothing."""
    managed = from_connect(view, "keep")
    if managed is None or desired.suspend:
        return {}
    (said,) = managed.resources
    fields = tuple(FieldChange(name, None, value) for name, value in said.fields.items() if name not in NOT_ALONE)
    change = Update(said.key, fields, "connect", "intent", said, Resource(said.key, {}))
    kept, _ = accept((change,), desired.ignore, run.now().date())
    return {item.field: item.after for change in kept for item in change.fields}


def _ever_less(fields: Mapping[str, Value]) -> Iterator[tuple[Mapping[str, Value], bool]]:
    """What to write, and whether with the check's row: all of it, then ever less; the lock before what goes without."""
    lock = {name: value for name, value in fields.items() if name == "is_locked"}
    yield fields, True
    if lock and lock != fields:
        yield lock, True
    if lock:
        yield lock, False
        yield {name: value for name, value in fields.items() if name not in lock}, True
