"""Reports as JUnit XML: a test case per instance. Differences are failures in a dry run, errors are errors in any."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree as ET

from reconciler.cli.render.codequality import relative
from reconciler.cli.render.values import change_line, conflict_line, field_line, former_line
from reconciler.model.errors import group_problems, merge_problems
from reconciler.model.names import one_line, printable
from reconciler.planning.report import InstanceReport, Report
from reconciler.support.log import counted


def render(report: Report) -> str:
    """A conflict fails no test case, because fivrec can't repair it: it is in the case's output."""
    cases = [_case(item, report.command) for item in report.instances]
    if report.error is not None:
        cases.append(_run_case(report))
    counts = {
        "tests": str(len(cases)),
        "failures": str(sum(case.find("failure") is not None for case in cases)),
        "errors": str(sum(case.find("error") is not None for case in cases)),
        "skipped": str(sum(case.find("skipped") is not None for case in cases)),
        "time": _seconds(report.duration_ms),
    }
    name = printable(f"fivrec {report.command}")
    suites = ET.Element("testsuites", {"name": name, **counts})
    timestamp = report.started_at.isoformat(timespec="seconds")
    suite = ET.SubElement(suites, "testsuite", {"name": name, "timestamp": timestamp, **counts})
    suite.extend(cases)
    ET.indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(suites, encoding="unicode")}'


def _case(item: InstanceReport, command: str) -> ET.Element:
    attributes = {
        "name": printable(item.instance),
        "classname": printable(f"fivrec.{command}.{item.environment}"),
        "time": _seconds(item.duration_ms),
    }
    if item.path:
        attributes |= {"file": printable(relative(item.path)), "line": str(item.line)}
    case = ET.Element("testcase", attributes)
    listed = "\n".join(_lines(item))
    if item.error is not None:
        said = one_line(item.error.message, "; ")
        _child(case, "error", said, item.error.code, "\n".join((said, printable(item.error.hint))).strip())
    elif item.outcome == "skipped":
        ET.SubElement(case, "skipped", {"message": "suspended in the manifest, or not attempted"})
    elif item.changes and command in ("diff", "drift"):
        _child(case, "failure", counted(len(item.changes), "change"), "changes", listed)
        return case
    if listed:
        ET.SubElement(case, "system-out").text = listed
    return case


def _run_case(report: Report) -> ET.Element:
    """The run as a test case of its own: no instance was tried."""
    assert report.error is not None  # noqa: S101 (the caller's condition, for the type checker)
    case = ET.Element("testcase", {"name": "run", "classname": printable(f"fivrec.{report.command}"), "time": "0.000"})
    groups = group_problems(report.problems)
    lines = [str(merge_problems(group)) for group in groups] or [report.error.message, report.error.hint]
    text = "\n".join(one_line(line, "; ") for line in lines if line)
    _child(case, "error", one_line(report.error.message, "; "), report.error.code, text)
    return case


def _child(case: ET.Element, tag: str, message: str, kind: str, text: str) -> None:
    ET.SubElement(case, tag, {"message": message, "type": kind}).text = text


def _lines(item: InstanceReport) -> Iterator[str]:
    yield from (conflict_line(conflict) for conflict in item.conflicts)
    yield from (former_line(former) for former in item.former)
    yield from (printable(note) for note in item.notes)
    for change in item.changes:
        yield change_line(change)
        yield from (f"    {field_line(field)}" for field in change.fields)


def _seconds(duration_ms: int) -> str:
    return f"{duration_ms / 1000:.3f}"
