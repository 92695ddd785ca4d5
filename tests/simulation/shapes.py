"""The length and size of a seed's life."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from reconciler.watch import loop
from reconciler.workers import scheduler, worker
from tests.simulation.world import DAY, MIXED

START = 1_800_000_000.0
SLACK_S = 480.0
"""A retry comes after 5 minutes at most, a Retry-After is followed for 5, and a cycle may take 2."""
SETTLED_S = 150.0
"""After this long without a disturbance, all declared instances have a row, a position and a matching time."""
SEEDS: Sequence[int] = (
    [int(os.environ["FIVREC_SIM_SEED"])]
    if "FIVREC_SIM_SEED" in os.environ
    else range(int(os.environ.get("FIVREC_SIM_SEEDS", "50")))
)
QUICK = 9
"""How many small lives every test run has; more run only on request, as slow tests."""
MORE = SEEDS[QUICK:] if "FIVREC_SIM_SEEDS" in os.environ else ()
QUICK_SEEDS = [*SEEDS[:QUICK], *(pytest.param(seed, marks=pytest.mark.slow) for seed in MORE)]
MANY = 100
USUAL = (*(3600.0,) * 8, 900.0, 86400.0)
"""Check intervals as in production."""
CALM = (*(172800.0,) * 40, *(86400.0,) * 36, *(43200.0,) * 6, 14400.0)
"""Intervals for a month that must pass in seconds: most checks come every day or two, some every four hours."""


@dataclass(frozen=True, slots=True)
class Shape:
    """`round_s`: the interval of idle loops; in production 0.5 and 5 seconds. `look_s`: how often the invariants of any
    moment are checked. `slower`: factor for fivrec's own limits, such as a scheduler's lease and what counts as stuck.
    `longest_s`: the longest fault."""

    days: float
    instances: int
    intervals: Sequence[float]
    round_s: float
    look_s: float = 60.0
    slower: float = 1.0
    longest_s: float = 7200.0

    @property
    def end(self) -> float:
        return START + self.days * DAY

    @property
    def slack_s(self) -> float:
        return SLACK_S + 4 * (self.round_s - 20.0)

    @property
    def settled_s(self) -> float:
        return SETTLED_S * self.slower

    def begin(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(loop, "BEAT_S", self.round_s)
        monkeypatch.setattr(worker, "CARE_S", self.round_s)
        monkeypatch.setattr(scheduler, "CARE_S", self.round_s)
        monkeypatch.setattr(scheduler, "TICK_S", self.round_s)
        for module, name in ((loop, "STUCK_S"), (scheduler, "DECLARE_S"), (scheduler, "LEASE_S")):
            monkeypatch.setattr(module, name, getattr(module, name) * self.slower)


def small_life(seed: int) -> Shape:
    """A small and busy day: much goes wrong in little time. FIVREC_SIM_DAYS and FIVREC_SIM_INSTANCES change it to any
    other life, with the clocks and intervals of production."""
    days, count = float(os.environ.get("FIVREC_SIM_DAYS", "1")), int(os.environ.get("FIVREC_SIM_INSTANCES", "20"))
    return Shape(days, count, MIXED if count < MANY else USUAL, 20.0 if seed % 10 else 5.0)


MONTH = Shape(30, 300, CALM, round_s=600.0, look_s=1800.0, slower=60.0, longest_s=20_000.0)
