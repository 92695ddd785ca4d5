"""When Python's collector of cyclic garbage runs: not among what the program loads, which lives until its end anyway.

A no-op apply loads 80,000 objects. Looking through them a dozen times while they are made, and again at exit, was a
quarter of its CPU time (docs/benchmarks.md). Knows nothing of what is loaded.
"""

from __future__ import annotations

import atexit
import gc

_LOADING = 100_000
_RUNNING = 5_000  # new objects between two looks; at Python's own 700, 200 instances take 5% more CPU


def hold_off() -> None:
    """While the program loads. Called before anything else is imported."""
    gc.set_threshold(_LOADING)
    atexit.register(gc.freeze)  # the interpreter's last looks find nothing to look through


def collect() -> None:
    """Where a run begins: from here on among new objects alone. Nothing where the process is not ours."""
    if gc.get_threshold()[0] != _LOADING:
        return
    gc.freeze()
    gc.set_threshold(_RUNNING, 10, 10)
