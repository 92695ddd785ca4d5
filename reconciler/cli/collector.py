"""Garbage collection of the program's own objects: as little as possible, because they live until it ends.

A no-op apply loads 80,000 objects. Searching them for cycles a dozen times while they are created, and again at exit,
was a quarter of its CPU time (docs/benchmarks.md); freeing them one by one at exit was a thirtieth. Knows nothing of
what is loaded.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading
from contextlib import suppress

_LOADING = 100_000
_RUNNING = 5_000  # new objects between two collections; at Python's own 700, 200 instances take 5% more CPU


def hold_off() -> None:
    """Switch collection off while the program loads. Called before anything else is imported."""
    gc.set_threshold(_LOADING)
    atexit.register(gc.freeze)  # the interpreter's final collections find nothing to look through


def collect() -> None:
    """Begin a run: from here on only new objects are collected. Does nothing if the process is not ours."""
    if gc.get_threshold()[0] != _LOADING:
        return
    gc.freeze()
    gc.set_threshold(_RUNNING, 10, 10)


def leave(code: int) -> None:
    """End the process, after everything that is registered for its end has run. Returns if that would cut something
    off: another thread, a profiler, a tracer, the prompt of `python -i`, or a program that runs this one."""
    if threading.active_count() > 1 or sys.getprofile() or sys.gettrace() or sys.flags.inspect or _is_hosted():
        return
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):
            stream.flush()
    os._exit(code)


def _is_hosted() -> bool:
    """Whether another program runs this one, as `python -m cProfile`, `coverage run` and `pdb` do. They report
    afterwards, and since 3.12 their hooks need not show in sys.getprofile and sys.gettrace."""
    programs, frame = 0, sys._getframe()
    while frame := frame.f_back:  # type: ignore[assignment]
        programs += frame.f_code.co_name == "<module>"
    return programs > 1
