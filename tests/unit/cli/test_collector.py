"""cli/collector: Python's garbage collector skips what the program loads, and does not dismantle it at the end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
LEAVE = """
import atexit, sys, threading
from reconciler.cli.collector import leave
class Loaded:
    def __del__(self):
        print("taken apart")
loaded = Loaded()
atexit.register(print, "what was registered")
print("said before")
{before}
leave(3)
print("returned")
sys.exit(4)
"""


def said(program: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_loading_is_not_interrupted_by_the_collector() -> None:
    assert said(LOADED) == "0"


def test_a_run_collects_its_own_cycles_and_not_what_was_loaded() -> None:
    assert said(BEGUN) == "True True"


def test_other_processes_keep_their_collector() -> None:
    assert said(OTHERS) == "True"


def ended(before: str) -> tuple[int, list[str]]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    program = LEAVE.format(before=before)
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.splitlines()


def test_loaded_modules_are_not_torn_down_at_the_end() -> None:
    assert ended("") == (3, ["said before", "what was registered"])


@pytest.mark.parametrize(
    "at_work",
    [
        "threading.Timer(0.05, print, ['a thread']).start()",
        "sys.setprofile(lambda *_: None)",
        "sys.settrace(lambda *_: None)",
    ],
    ids=["thread", "profiler", "tracer"],
)
def test_an_end_that_would_cut_something_off_is_pythons_own(at_work: str) -> None:
    code, lines = ended(at_work)
    assert code == 4
    assert {"returned", "what was registered"} <= set(lines)
    assert ("a thread" in lines) == at_work.startswith("threading")


def test_an_end_with_a_stdout_that_takes_nothing_keeps_its_code() -> None:
    assert ended("import os; os.close(1)")[0] == 3


@pytest.mark.parametrize("options", [(), ("-o", "profile")], ids=["printed", "written"])
def test_a_profile_of_a_command_is_not_lost(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Since Python 3.12, sys.getprofile does not show cProfile."""
    command = [sys.executable, "-m", "cProfile", *options, "-m", "reconciler", "--version"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "function calls" in done.stdout or (tmp_path / "profile").exists()


def test_a_program_that_runs_the_command_goes_on() -> None:
    host = """
import runpy, sys
sys.argv[1:] = ["--version"]
try:
    runpy.run_module("reconciler", run_name="__main__")
except SystemExit as end:
    print("goes on after", end.code)
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", host], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1:] == ["goes on after 0"]


def test_a_command_that_nobody_runs_ends_at_once(tmp_path: Path) -> None:
    """Started by `python -m` and by the script that pip makes."""
    script = tmp_path / "script.py"
    script.write_text("import sys\nfrom reconciler.__main__ import run\nsys.exit(run())\n")
    told = "import os\nos._exit = lambda code, end=os._exit: (os.write(1, b'at once'), end(code))\n"
    (tmp_path / "sitecustomize.py").write_text(told)
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    for arguments in (["-m", "reconciler"], [str(script)]):
        command = [sys.executable, *arguments, "--version"]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        assert done.stdout.endswith("at once")
