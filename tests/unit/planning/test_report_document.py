"""report_document: the rollout reports what the worker said about an instance."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reconciler.planning.report import InstanceReport, instance_as_json
from reconciler.planning.report_document import as_document, from_document
from tests.support import reports


def every_report() -> list[Any]:
    found = [value for value in vars(reports).values() if isinstance(value, InstanceReport)]
    return [pytest.param(value, id=f"{number}-{value.outcome}") for number, value in enumerate(found)]


@pytest.mark.parametrize("report", every_report())
def test_a_report_comes_back_as_it_was(report: InstanceReport) -> None:
    document = json.loads(json.dumps(as_document(report)))
    again = from_document(document)
    assert instance_as_json(again) == json.loads(json.dumps(instance_as_json(report)))
    assert (again.exit_code, again.resources, again.attempted) == (
        report.exit_code,
        report.resources,
        report.attempted,
    )
