"""render/github: annotations and the step summary in GitHub Actions, and neither anywhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.cli.render.github import publish, workflow_commands
from reconciler.cli.render.markdown import render
from reconciler.model.errors import ManifestProblem
from reconciler.model.types import ErrorInfo
from tests.support.cli_process import fivrec
from tests.support.reports import CHANGED, DEGRADED, HOSTILE, IN_SYNC, hostile, report

LEVELS = ("::error title=fivrec", "::warning title=fivrec", "::notice title=fivrec")


def test_errors_and_warnings_stand_at_the_manifests_lines() -> None:
    conflict = '! status/client-a/status: expected "active", Connect says "suspended"'
    down = "[connect_unreachable] Fi.V Connect cannot be reached"
    assert list(workflow_commands(report(CHANGED, IN_SYNC, DEGRADED))) == [
        "::warning title=fivrec diff%3A client-a,file=manifests/a.yaml,line=3::1 queue row would be removed: Spare",
        f"::warning title=fivrec diff%3A client-a conflict,file=manifests/a.yaml,line=3::{conflict}",
        f"::error title=fivrec diff%3A client-c degraded,file=manifests/c.yaml,line=1::{down}",
    ]


def test_problems_of_manifests_stand_at_their_columns() -> None:
    problem = ManifestProblem("./a.yaml", 3, 5, '100% of "quues"', "unknown")
    source = report(error=ErrorInfo("manifest_invalid", "x"), problems=(problem,))
    assert list(workflow_commands(source)) == [
        '::error title=fivrec diff,file=a.yaml,line=3,col=5::100%25 of "quues" (unknown)'
    ]


def test_missing_settings_point_to_the_line_that_names_them() -> None:
    lack = ManifestProblem("a.yaml", 3, 5, "the variable KEY is not set", instance="a")
    source = report(error=ErrorInfo("missing_setting", "x"), lacking=(lack,))
    assert list(workflow_commands(source)) == [
        "::error title=fivrec diff,file=a.yaml,line=3,col=5::a: the variable KEY is not set"
    ]


@pytest.mark.parametrize("text", HOSTILE)
def test_foreign_text_starts_no_command_of_its_own(text: str) -> None:
    lines = "\n".join(workflow_commands(hostile(text))).splitlines()
    assert len(lines) == len(list(workflow_commands(hostile("harmless"))))
    assert all(line.startswith(LEVELS) for line in lines)


def test_the_summary_is_added_to_what_other_steps_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    publish(report(CHANGED), {"GITHUB_STEP_SUMMARY": str(summary)})
    assert summary.read_text() == f"before\n{render(report(CHANGED))}\n\n"
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("::warning") == 2


def test_a_summary_that_cannot_be_written_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish(report(IN_SYNC), {"GITHUB_STEP_SUMMARY": str(tmp_path / "none" / "summary.md")})
    assert capsys.readouterr().err == "the step summary could not be written: No such file or directory\n"


@pytest.mark.parametrize("output", ["text", "json", "markdown"])
def test_an_error_of_the_run_is_annotated_in_every_form(output: str, tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    ended = fivrec("diff", "-o", output, env={"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)})
    assert ended.code == 64
    assert ended.stderr.count("::error title=fivrec diff::[usage] Missing argument 'PATH…'.\n") == 1
    assert summary.read_text().startswith("<!-- fivrec diff -->")


def test_elsewhere_nothing_is_annotated(tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    ended = fivrec("diff", env={"GITHUB_ACTIONS": "", "GITHUB_STEP_SUMMARY": str(summary)})
    assert "::error" not in ended.stderr
    assert not summary.exists()
