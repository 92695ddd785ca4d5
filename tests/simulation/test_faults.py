"""Each fault that fivrec once had is found by the simulation, if it is put back."""

from __future__ import annotations

import pytest

from tests.simulation.faults import FAULTS, first_seed

LOST = "`--limit` and `--once` take everybody else off"
"""Was found at seed 5, and is not any more since lives draw other faults: tests/integration/workers/test_scheduler.py
holds it."""


def marks_of(name: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.xfail(reason="no life of the 50 shows it any more")] if name == LOST else []


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=marks_of(name), id=name) for name in FAULTS])
def test_a_fault_that_is_put_back_is_found(name: str) -> None:
    assert first_seed(name, range(50)) is not None
