"""Write a report to GitHub Actions: annotations at the manifests' lines, and the step's summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from reconciler.cli.render.codequality import relative
from reconciler.cli.render.markdown import render as render_markdown
from reconciler.cli.render.values import conflict_line, former_line
from reconciler.model.errors import group_problems, merge_problems
from reconciler.model.names import one_line
from reconciler.planning.report import InstanceReport, Report

Place = tuple[str, int, int]
"""Path, line and column; 0 if there is none."""


def publish(report: Report, environ: Mapping[str, str]) -> None:
    """Annotations on stderr, which the runner reads as well; the comment's text into GITHUB_STEP_SUMMARY.

    A summary that can't be written is logged and changes nothing: the run's own result counts.
    """
    for line in workflow_commands(report):
        click.echo(line, err=True)
    summary = environ.get("GITHUB_STEP_SUMMARY")
    if not summary:
        return
    try:
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(render_markdown(report) + "\n\n")
    except OSError as exc:
        click.echo(f"the step summary could not be written: {exc.strerror}", err=True)


def workflow_commands(report: Report) -> Iterator[str]:
    """Errors as errors, conflicts and refusals of a guard as warnings, former resources as notices."""
    title = f"fivrec {report.command}"
    if report.error is not None:
        for problem in map(merge_problems, group_problems(report.problems or report.lacking)):
            yield _command("error", title, problem.words(), (problem.path, problem.line, problem.column))
        if not (report.problems or report.lacking):
            yield _command("error", title, f"[{report.error.code}] {report.error.message}")
    for item in report.instances:
        yield from _of_instance(item, title)


def _of_instance(item: InstanceReport, title: str) -> Iterator[str]:
    named = f"{title}: {item.instance}"
    place = (item.path, item.line, 0)
    if item.error is not None:
        said = f"[{item.error.code}] {item.error.message}"
        yield _command("error", f"{named} {item.outcome}", said, place)
    for note in item.notes:
        yield _command("warning", named, note, place)
    for conflict in item.conflicts:
        yield _command("warning", f"{named} conflict", conflict_line(conflict), place)
    for former in item.former:
        yield _command("notice", f"{named} former", former_line(former), place)


def _command(level: str, title: str, said: str, place: Place = ("", 0, 0)) -> str:
    path, line, column = place
    places = {"title": title}
    if path:
        places["file"] = relative(path)
    places |= {name: str(number) for name, number in (("line", line), ("col", column)) if path and number}
    properties = ",".join(f"{name}={_property(value)}" for name, value in places.items())
    return f"::{level} {properties}::{_data(said)}"


def _data(text: str) -> str:
    return one_line(text, "; ").replace("%", "%25")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
