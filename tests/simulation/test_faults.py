"""The simulation finds each fault that fivrec once had, when it is reintroduced."""

from __future__ import annotations

import pytest

from tests.simulation.faults import FAULTS, first_seed


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_is_put_back_is_found(name: str) -> None:
    assert first_seed(name, range(50)) is not None
