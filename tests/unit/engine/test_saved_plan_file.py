"""plan_files: refuses everything that is not a plan."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler.engine.saved_plan_file import read_plan, write_plan
from reconciler.model.errors import Refused, UsageError
from reconciler.planning.saved_plan import SavedInstance, SavedPlan
from tests.support.examples import NOON

ONE = SavedInstance("client-a", "production", "a" * 64, "b" * 16, ())


def test_a_plan_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = str(tmp_path / "plan.json")
    plan = SavedPlan("run-1", NOON, "0.1.0", None, (ONE,))
    write_plan(path, plan)
    assert read_plan(path) == plan


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b'{"version": 2}', b"\x00", b'{"version": 1, "instances": []}', b"[" * 100_000, b"\xff", b"null"],
    ids=range(8),
)
def test_a_file_that_is_no_plan_is_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(text)
    with pytest.raises(Refused, match=r"is not a saved plan") as caught:
        read_plan(str(path))
    assert (caught.value.code, caught.value.exit_code) == ("plan_invalid", 3)


def test_one_instance_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    write_plan(str(path), SavedPlan("run-1", NOON, "0.1.0", None, (ONE, ONE)))
    assert len(json.loads(path.read_text())["instances"]) == 2
    with pytest.raises(Refused, match="an instance is in it twice"):
        read_plan(str(path))


def test_a_plan_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: no such file"):
        read_plan(str(tmp_path / "plan.json"))
