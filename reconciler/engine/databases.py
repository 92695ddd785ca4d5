"""Compare what Connect lists as an instance's databases with the one that its manifest names. Notes, never failures."""

from __future__ import annotations

from dataclasses import replace

from reconciler.engine.reconcile import reconcile
from reconciler.engine.run import Run
from reconciler.engine.status_and_logs import fetch_databases
from reconciler.model.errors import FivrecError
from reconciler.model.types import Desired, is_embedded
from reconciler.planning.databases import find_problems
from reconciler.planning.report import InstanceReport


async def check(desired: Desired, run: Run) -> InstanceReport:
    """One status check, with what Connect lists beside it."""
    report = await reconcile(desired, run)
    if report.connect is None or report.connect.status is None:
        return report  # Connect could not be asked: that is reported already
    return replace(report, notes=(*report.notes, *await compare_databases(desired, run)))


async def compare_databases(desired: Desired, run: Run) -> tuple[str, ...]:
    """The notes."""
    try:
        found = await find_database_problems(desired, run)
    except FivrecError as exc:
        return (f"Connect's list of databases could not be read: {exc.message}",)
    return tuple((found or {}).values())


async def find_database_problems(desired: Desired, run: Run) -> dict[str, str] | None:
    """What Connect says of the database, by problem; None if an end is embedded: they know nothing of each other."""
    if desired.connect is None or is_embedded(desired.connect.api_url) or desired.database.embedded:
        return None
    return find_problems(desired.database_name, await fetch_databases(desired, run), run.now())
