"""cli/collector: Python's collector does not look through what the program loads, and looks again when a run begins."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

LOADED = """
import gc
import reconciler.__main__
before = sum(generation["collections"] for generation in gc.get_stats())
import reconciler.engine.reconcile, reconciler.connect.client, reconciler.cli.runtime
print(sum(generation["collections"] for generation in gc.get_stats()) - before)
"""
BEGUN = """
import gc
import reconciler.__main__
from reconciler.cli.collector import collect
collect()
loaded = gc.get_freeze_count()
for _ in range(20_000):
    one = []
    one.append(one)
print(loaded > 10_000, len(gc.get_objects()) < 10_000)
"""
OTHERS = """
import gc
before = gc.get_freeze_count(), gc.get_threshold()  # 3.12 starts with some objects frozen
from reconciler.cli.collector import collect
collect()
print((gc.get_freeze_count(), gc.get_threshold()) == before)
"""


def said(program: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_loading_is_not_interrupted_by_the_collector() -> None:
    assert said(LOADED) == "0"


def test_a_run_collects_its_own_cycles_and_not_what_was_loaded() -> None:
    assert said(BEGUN) == "True True"


def test_a_process_that_is_not_ours_keeps_its_collector() -> None:
    assert said(OTHERS) == "True"
