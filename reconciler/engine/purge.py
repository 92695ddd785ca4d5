"""Purge: the engine with a single declaration, that the instance has no test data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from reconciler.database.preconditions import newer
from reconciler.database.schema import latest_version
from reconciler.database.status_queries import read_version
from reconciler.engine.observe import build_scope, database
from reconciler.engine.reconcile import preview
from reconciler.engine.run import Run
from reconciler.model.errors import DatabaseError, Refused, UsageError
from reconciler.model.kinds.development_rows import NAME, NONE_OF_IT
from reconciler.model.types import Desired, ErrorInfo
from reconciler.planning.report import FAILED, InstanceReport


def with_purge(desired: Sequence[Desired], environment: str | None) -> Desired:
    """Returns the one instance that is meant, declaring nothing else. Raises Refused for a production instance without
    `environment`."""
    if len(desired) != 1:
        named = ", ".join(item.instance for item in desired[:10]) or "none"
        raise UsageError(f"purge is of one instance at a time, not of {len(desired)}: {named}", hint="name it: --limit")
    (item,) = desired
    if item.environment.name != "development" and environment != "development":
        raise Refused(
            f"{item.instance} is a production instance: none of its rows are test data",
            hint="to delete the development rows that its database holds: --environment development",
            code="purge_refused",
        )
    if item.suspend:
        said = f"{item.instance}: the manifest says suspend: true: fivrec changes nothing"
        raise Refused(said, hint="take suspend: true out of it", code="purge_refused")
    managed = {NAME: NONE_OF_IT}
    return replace(item.without_declarations(), managed=managed, connect=None, expect={}, ignore=())


async def count_development_rows(desired: Desired, run: Run) -> InstanceReport:
    """The dry run. Raises DatabaseError if the schema is not this fivrec's: purge never migrates. A newer schema
    becomes the report's error, whether there are rows or not."""
    report = await preview(desired, run)
    others = [str(change.key) for change in report.changes if change.key.kind != NAME]
    if others:
        raise DatabaseError(
            f"{desired.database_name}: its tables are missing or older than this fivrec",
            hint="run `fivrec apply` once",
            code="schema_missing",
        )
    if report.error is None:
        async with database(desired, run) as conn:
            version = await read_version(conn, build_scope(desired))
        if version > latest_version():
            error = ErrorInfo.of(newer(desired.database_name, version))
            return replace(report, outcome="failed", exit_code=FAILED, error=error, notes=())
    return report


def counts(report: InstanceReport) -> Mapping[str, int]:
    """Development rows per table."""
    return {change.key.name: int(field.before) for change in report.changes for field in change.fields}
