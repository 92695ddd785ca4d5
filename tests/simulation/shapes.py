"""How long and how big the life of a seed is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from reconciler.watch import loop
from reconciler.workers import scheduler, worker
from tests.simulation.world import MIXED

START = 1_800_000_000.0
SEEDS: Sequence[int] = (
    [int(os.environ["FIVREC_SIM_SEED"])]
    if "FIVREC_SIM_SEED" in os.environ
    else range(int(os.environ.get("FIVREC_SIM_SEEDS", "50")))
)
QUICK = 10
"""So many are lived through by every run of the tests, the others with the slow ones."""
MANY = 100
USUAL = (*(3600.0,) * 8, 900.0, 86400.0)
"""Check intervals as in production."""


@dataclass(frozen=True, slots=True)
class Shape:
    """`round_s`: so often an idle loop goes round. In production that is 0.5 and 5 seconds."""

    days: float
    instances: int
    intervals: Sequence[float]
    round_s: float

    def begin(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(loop, "BEAT_S", self.round_s)
        monkeypatch.setattr(worker, "CARE_S", self.round_s)
        monkeypatch.setattr(scheduler, "CARE_S", self.round_s)
        monkeypatch.setattr(scheduler, "TICK_S", self.round_s)


def shape_of(seed: int) -> Shape:
    """Most are small and busy, for days: many things go wrong in little time. Every 10th is a month, every 25th a month
    of 300 instances."""
    days, count = os.environ.get("FIVREC_SIM_DAYS"), os.environ.get("FIVREC_SIM_INSTANCES")
    if days or count:
        return Shape(float(days or 1), int(count or 20), MIXED if int(count or 20) < MANY else USUAL, 20.0)
    if seed % 25 == 24:
        return Shape(30, 300, USUAL, 20.0)
    if seed % 10 == 9:
        return Shape(30, 10, USUAL, 20.0)
    return Shape(1, 20, MIXED, 20.0 if seed % 10 else 5.0)
