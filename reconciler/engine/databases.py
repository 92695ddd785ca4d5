"""Compare the databases that Connect lists for an instance with the one in its manifest. Produces notes, never
failures."""

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
    """One status check that also fetches Connect's list of databases."""
    report = await reconcile(desired, run)
    if report.connect is None or report.connect.status is None:
        return report  # Connect could not be asked, which is already reported
    return replace(report, notes=(*report.notes, *await compare_databases(desired, run)))


async def compare_databases(desired: Desired, run: Run) -> tuple[str, ...]:
    try:
        found = await find_database_problems(desired, run)
    except FivrecError as exc:
        return (unread(exc),)
    return tuple((found or {}).values())


def unread(problem: FivrecError) -> str:
    return f"Connect's list of databases could not be read: {problem.message}"


async def find_database_problems(desired: Desired, run: Run) -> dict[str, str] | None:
    """Returns the differences between Connect's entry and the database, by problem; None if either end is embedded,
    because an embedded server and the panel know nothing of each other."""
    if desired.connect is None or is_embedded(desired.connect.api_url) or desired.database.embedded:
        return None
    return find_problems(desired.database_name, await fetch_databases(desired, run), run.now())
