"""render/codequality, render/junit and the formats of write_report: what pipelines read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest

from reconciler.cli.render.codequality import render as codequality
from reconciler.cli.render.github import workflow_commands
from reconciler.cli.render.junit import render as junit
from reconciler.cli.render.output import MACHINE_FORMATS, write_report
from reconciler.cli.render.text import render as text
from reconciler.model.changes import Update
from reconciler.model.errors import ManifestProblem
from reconciler.model.types import ErrorInfo
from reconciler.planning.report import Report
from tests.support.reports import CHANGED, DEGRADED, HOSTILE, IN_SYNC, PASSWORD, SKIPPED, hostile, report

ISSUES = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["description", "check_name", "fingerprint", "severity", "location"],
        "properties": {
            "description": {"type": "string", "minLength": 1},
            "check_name": {"type": "string", "pattern": "^fivrec/[a-z_]+$"},
            "fingerprint": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
            "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
            "location": {
                "type": "object",
                "required": ["path", "lines"],
                "properties": {
                    "path": {"type": "string", "pattern": "^[^/]"},
                    "lines": {
                        "type": "object",
                        "required": ["begin"],
                        "properties": {"begin": {"type": "integer", "minimum": 1}},
                    },
                },
            },
        },
    },
}
"""What GitLab's documentation requires of a code quality report."""

PROBLEMS = (
    ManifestProblem("./manifests/a.yaml", 3, 5, 'unknown key "quues"', 'did you mean "queues"?'),
    ManifestProblem("b.yaml", 0, 0, "empty document"),
)
INVALID = report(error=ErrorInfo("manifest_invalid", "2 problems"), problems=PROBLEMS)
MISSING = report(error=ErrorInfo("missing_setting", "FIV_APP_API_KEY is not set", "set it"))


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend to be outside of any pipeline, in case these tests run in one."""
    for name in ("GITHUB_ACTIONS", "GITHUB_WORKSPACE", "CI_PROJECT_DIR"):
        monkeypatch.delenv(name, raising=False)


def issues(source: Report) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(codequality(source))
    jsonschema.validate(found, ISSUES)
    return found


def listed(source: Report) -> list[tuple[str, str, str, int, str]]:
    return [
        (
            item["check_name"].removeprefix("fivrec/"),
            item["severity"],
            item["location"]["path"],
            item["location"]["lines"]["begin"],
            item["description"],
        )
        for item in issues(source)
    ]


def test_an_issue_for_each_conflict_change_and_error() -> None:
    conflict = 'client-a: ! status/client-a/status: expected "active", Connect says "suspended"'
    assert listed(report(CHANGED, IN_SYNC, DEGRADED)) == [
        ("conflict", "major", "manifests/a.yaml", 3, conflict),
        ("create_new", "minor", "manifests/a.yaml", 3, "client-a: + admin/a@e.com (new)"),
        ("update_drift", "major", "manifests/a.yaml", 3, "client-a: ~ queue/Sales (drift): description"),
        ("deactivate_intent", "major", "manifests/a.yaml", 3, "client-a: - plan/plan_basic (intent, connect)"),
        ("remove_new", "major", "manifests/a.yaml", 3, "client-a: - queue/Spare (new)"),
        ("connect_unreachable", "major", "manifests/c.yaml", 1, "client-c degraded: Fi.V Connect cannot be reached"),
        ("update_drift", "major", "manifests/c.yaml", 1, "client-c: ~ queue/Sales (drift): description"),
    ]


def test_in_sync_is_an_empty_list() -> None:
    assert issues(report(IN_SYNC)) == []


def test_changes_made_by_an_apply_have_severity_info() -> None:
    done = {
        item["severity"] for item in issues(report(CHANGED, command="apply")) if "conflict" not in item["check_name"]
    }
    assert done == {"info"}


def test_problems_of_manifests_stand_at_their_lines() -> None:
    assert listed(INVALID) == [
        ("manifest_invalid", "blocker", "manifests/a.yaml", 3, 'unknown key "quues" (did you mean "queues"?)'),
        ("manifest_invalid", "blocker", "b.yaml", 1, "empty document"),
    ]


def test_missing_settings_point_to_the_line_that_names_them() -> None:
    lacking = (replace(PROBLEMS[0], message="the variable KEY is not set", hint="", instance="a"),)
    assert listed(replace(MISSING, lacking=lacking)) == [
        ("missing_setting", "blocker", "manifests/a.yaml", 3, "a: the variable KEY is not set"),
    ]


def test_problems_of_a_fleet_name_instances_rows_and_values() -> None:
    rows = [
        ManifestProblem("m.yaml", 3, 5, "is no email", "", f"i{row}", f"manifests/c.csv:{row}", '"x"')
        for row in (7, 12)
    ]
    error = ErrorInfo("manifest_invalid", "problems")
    one, many = report(error=error, problems=(rows[0],)), report(error=error, problems=tuple(rows))
    said = 'i7 (manifests/c.csv:7): is no email: "x"'
    assert listed(one) == [("manifest_invalid", "blocker", "manifests/c.csv", 7, said)]
    together = 'is no email, in 2 rows: i7 (manifests/c.csv:7) "x", i12 (manifests/c.csv:12) "x"'
    assert listed(many) == [("manifest_invalid", "blocker", "m.yaml", 3, together)]
    assert suite(many).findtext("testcase/error") == f"m.yaml:3:5: {together}"


def test_an_error_of_the_run_without_a_place_is_an_issue_too() -> None:
    assert listed(MISSING) == [("missing_setting", "blocker", ".", 1, "FIV_APP_API_KEY is not set")]


def test_fingerprints_depend_on_the_instance_not_line_or_value() -> None:
    def prints(source: Report) -> list[str]:
        return [item["fingerprint"] for item in issues(source)]

    (update,) = DEGRADED.changes
    assert isinstance(update, Update)
    plan = replace(DEGRADED.plan, changes=(replace(update, fields=(replace(update.fields[0], after="z"),)),))  # type: ignore[type-var]
    moved = replace(DEGRADED, line=99, plan=plan)
    renamed = replace(DEGRADED, instance="client-z")
    assert prints(report(moved)) == prints(report(DEGRADED))
    assert not set(prints(report(renamed))) & set(prints(report(DEGRADED)))


def test_no_two_issues_share_a_fingerprint() -> None:
    twice = replace(INVALID, problems=(*PROBLEMS, *PROBLEMS, PROBLEMS[0]))
    prints = [item["fingerprint"] for item in issues(twice)]
    assert len(set(prints)) == len(prints) == 5


def test_absolute_paths_are_shown_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    item = replace(DEGRADED, path=str(tmp_path / "manifests" / "c.yaml"))
    assert {issue["location"]["path"] for issue in issues(report(item))} == {"manifests/c.yaml"}


@pytest.mark.parametrize("name", ["GITHUB_WORKSPACE", "CI_PROJECT_DIR"])
@pytest.mark.parametrize("path", ["manifests/c.yaml", "./manifests/c.yaml", "../infra/manifests/c.yaml"])
def test_paths_are_relative_to_the_repositorys_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, path: str
) -> None:
    """Including paths of a step with a working directory, as in a repository of many parts."""
    folder = tmp_path / "infra"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv(name, str(tmp_path))
    item = replace(DEGRADED, path=path)
    assert {issue["location"]["path"] for issue in issues(report(item))} == {"infra/manifests/c.yaml"}
    (case,) = suite(report(item)).findall("testcase")
    assert case.get("file") == "infra/manifests/c.yaml"
    assert all("file=infra/manifests/c.yaml," in line for line in workflow_commands(report(item)))


def test_a_root_elsewhere_changes_no_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_WORKSPACE", "/elsewhere")
    item = replace(DEGRADED, path="./manifests/c.yaml")
    assert {issue["location"]["path"] for issue in issues(report(item))} == {"manifests/c.yaml"}


def suite(source: Report) -> ET.Element:
    root = ET.fromstring(junit(source))
    (found,) = root
    counts = {key: root.get(key) for key in ("tests", "failures", "errors", "skipped")}
    assert counts == {key: found.get(key) for key in counts}
    for tag, key in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        assert len(found.findall(f"testcase/{tag}")) == int(counts[key] or 0)
    assert len(found.findall("testcase")) == int(counts["tests"] or 0)
    return found


def verdicts(source: Report) -> dict[str, str]:
    kinds = ("failure", "error", "skipped")
    return {
        case.get("name", ""): next((child.tag for child in case if child.tag in kinds), "passed")
        for case in suite(source)
    }


def test_a_dry_run_fails_a_case_with_changes() -> None:
    verdict = {"client-a": "failure", "client-b": "passed", "client-c": "error", "client-d": "skipped"}
    assert verdicts(report(CHANGED, IN_SYNC, DEGRADED, SKIPPED)) == verdict


def test_an_apply_that_changed_something_passes() -> None:
    assert verdicts(report(CHANGED, command="apply")) == {"client-a": "passed"}


def test_a_conflict_alone_fails_no_case() -> None:
    item = replace(CHANGED, plan=replace(CHANGED.plan, changes=()), outcome="in_sync")  # type: ignore[type-var]
    (case,) = suite(report(item))
    assert case.find("failure") is None
    assert 'expected "active"' in (case.findtext("system-out") or "")


def test_a_case_says_what_differs_and_where_it_is_declared() -> None:
    (case,) = suite(report(CHANGED))
    failure = case.find("failure")
    assert failure is not None
    assert (failure.get("message"), failure.get("type")) == ("4 changes", "changes")
    assert '~ queue/Sales (drift)\n    description: "old" → "new"\n' in (failure.text or "")
    assert (case.get("file"), case.get("line"), case.get("time")) == ("manifests/a.yaml", "3", "0.398")


def test_an_error_has_its_code_message_and_hint() -> None:
    error = suite(report(DEGRADED)).find("testcase/error")
    assert error is not None
    assert error.get("type") == "connect_unreachable"
    assert error.text == "Fi.V Connect cannot be reached\ncheck the network"


@pytest.mark.parametrize(("source", "words"), [(INVALID, "a.yaml:3:5"), (MISSING, "FIV_APP_API_KEY")])
def test_an_error_of_the_run_is_a_case_of_its_own(source: Report, words: str) -> None:
    assert verdicts(source) == {"run": "error"}
    assert words in (suite(source).findtext("testcase/error") or "")


@pytest.mark.parametrize("text", HOSTILE)
def test_foreign_text_breaks_neither_form(text: str) -> None:
    source = hostile(text)
    assert len(issues(source)) == len(issues(hostile("harmless")))
    assert verdicts(source) == {"client-a": "error"}
    printed = junit(source) + "".join(item["description"] for item in issues(source))
    assert all(char.isprintable() or char == "\n" for char in printed)


@pytest.mark.parametrize("output", ["text", *sorted(MACHINE_FORMATS)])
@pytest.mark.parametrize("text", ["harmless", *HOSTILE])
def test_every_form_can_be_written_as_utf8_without_a_secret(
    output: str, text: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    write_report(report(CHANGED, *hostile(text).instances), output, fields=True)
    written = capfdbinary.readouterr().out.decode()
    assert written.endswith("\n")
    assert PASSWORD not in written


def test_json_is_the_report_whole(capsys: pytest.CaptureFixture[str]) -> None:
    write_report(hostile("\ud800 \x1b é"), "json", fields=False)
    (item,) = json.loads(capsys.readouterr().out)["instances"]
    assert item["changes"][0]["fields"][0]["after"] == "\ud800 \x1b é"


def shown_as_text(source: Report) -> str:
    return text(source, fields=False)


def shown_to_github(source: Report) -> str:
    return "\n".join(workflow_commands(source))


@pytest.mark.parametrize("form", [shown_as_text, shown_to_github, junit, codequality])
def test_what_an_instance_lacks_is_listed_without_escapes(form: Callable[[Report], str]) -> None:
    lacking = ErrorInfo("missing_setting", "A is not set\nB is not set", "set what is missing")
    assert "A is not set; B is not set" in form(report(replace(DEGRADED, error=lacking)))
