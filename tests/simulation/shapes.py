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
QUICK = 9
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


def shape_of(seed: int, *, fleet: bool = False) -> Shape:
    """Most are a small and busy day: many things go wrong in little time. Every tenth seed is a long life with
    intervals as in production, seed 49 one of 300 instances. A fleet's day costs three times a watch's, so its long
    lives are shorter: all 50 of both take less than 3 minutes on two cores. FIVREC_SIM_DAYS=30
    FIVREC_SIM_INSTANCES=300 is a month of 300 for any seed."""
    days, count = os.environ.get("FIVREC_SIM_DAYS"), os.environ.get("FIVREC_SIM_INSTANCES")
    if days or count:
        return Shape(float(days or 1), int(count or 20), MIXED if int(count or 20) < MANY else USUAL, 20.0)
    if seed % 50 == 49:
        return Shape(3 if fleet else 30, 300, USUAL, 20.0)
    if seed % 10 == 9:
        return Shape(8 if fleet else 30, 10, USUAL, 20.0)
    return Shape(1, 20, MIXED, 20.0 if seed % 10 else 5.0)
