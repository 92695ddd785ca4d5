"""Reports as GitLab's code quality JSON: changes, conflicts and errors at the manifest's line in a merge request."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import PurePath

from reconciler.cli.render.values import change_line, conflict_line
from reconciler.cli.streams import json_text
from reconciler.model.changes import Change
from reconciler.model.errors import group_problems, merge_problems, place_of_row
from reconciler.model.names import one_line
from reconciler.model.types import Value
from reconciler.planning.report import InstanceReport, Report

Issue = dict[str, Value]
Place = tuple[str, int]

DONE = ("changed", "degraded")
_ROOTS = ("GITHUB_WORKSPACE", "CI_PROJECT_DIR")
"""The variables in which pipelines name the repository's folder."""


def render(report: Report) -> str:
    """A list of issues. A fingerprint identifies the problem and its subject, not its values or line, so that it stays
    the same when these change."""
    issues = [*_of_run(report), *(issue for item in report.instances for issue in _of_instance(item, report.command))]
    return json_text(_distinct(issues))


def _of_run(report: Report) -> Iterator[Issue]:
    if report.error is None:
        return
    for group in group_problems(report.problems or report.lacking):
        problem = merge_problems(group)
        place = place_of_row(problem.row) or (problem.path, problem.line)
        yield _issue(
            report.error.code, problem.words(), "blocker", place, (problem.path, group[0].message, problem.instance)
        )
    if not (report.problems or report.lacking):
        yield _issue(report.error.code, report.error.message, "blocker", (".", 1), ("run",))


def _of_instance(item: InstanceReport, command: str) -> Iterator[Issue]:
    place = (item.path, item.line)
    if item.error is not None:
        severity = "major" if item.outcome == "degraded" else "critical"
        said = f"{item.instance} {item.outcome}: {item.error.message}"
        yield _issue(item.error.code, said, severity, place, (item.instance,))
    for conflict in item.conflicts:
        identity = (item.instance, str(conflict.key), conflict.field)
        said = f"{item.instance}: {conflict_line(conflict)}"
        yield _issue("conflict", said, "major", place, identity)
    for change in item.changes:
        done = command == "apply" and item.outcome in DONE
        identity = (item.instance, item.environment, str(change.key))
        said = f"{item.instance}: {_summary(change)}"
        severity = "info" if done else _severity(change)
        yield _issue(f"{change.action}_{change.cause}", said, severity, place, identity)


def _summary(change: Change) -> str:
    fields = ", ".join(field.field for field in change.fields)
    return f"{change_line(change)}: {fields}" if change.action == "update" else change_line(change)


def _severity(change: Change) -> str:
    """Drift, and changes that remove something, before intended changes."""
    return "major" if change.cause == "drift" or change.action in ("deactivate", "remove") else "minor"


def _issue(check: str, said: str, severity: str, place: Place, identity: tuple[str, ...]) -> Issue:
    path, line = place
    return {
        "description": one_line(said, "; "),
        "check_name": f"fivrec/{check}",
        "fingerprint": hashlib.sha256("\0".join((check, *identity)).encode("utf-8", "surrogatepass")).hexdigest(),
        "severity": severity,
        "location": {"path": relative(path), "lines": {"begin": max(line, 1)}},
    }


def relative(path: str) -> str:
    """GitLab and GitHub expect paths from the repository's root, whichever of its folders a step runs in."""
    pure = PurePath(path or ".")
    for root in filter(None, map(os.environ.get, _ROOTS)):
        found = PurePath(os.path.relpath(pure, root))
        if path != "-" and ".." not in found.parts:
            return found.as_posix()
    return PurePath(os.path.relpath(pure) if pure.is_absolute() else pure).as_posix()


def _distinct(issues: list[Issue]) -> list[Issue]:
    """GitLab shows one issue per fingerprint: repetitions get a number."""
    seen: dict[str, int] = {}
    for issue in issues:
        first = issue["fingerprint"]
        seen[first] = number = seen.get(first, 0) + 1
        if number > 1:
            issue["fingerprint"] = hashlib.sha256(f"{first}{number}".encode()).hexdigest()
    return issues
