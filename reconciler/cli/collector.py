"""What Python does with the objects that the program loads: as little as can be, as they live until its end anyway.

A no-op apply loads 80,000. Looking through them for cyclic garbage a dozen times while they are made, and again at
exit, was a quarter of its CPU time (docs/benchmarks.md); taking them apart one by one at exit was a thirtieth. Knows
nothing of what is loaded.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading
from contextlib import suppress

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


def leave(code: int) -> None:
    """End the process, once all that is registered for its end has run. Returns where that would cut something off:
    another thread, a profiler, a tracer, the prompt of `python -i`, or a program that runs this one."""
    if threading.active_count() > 1 or sys.getprofile() or sys.gettrace() or sys.flags.inspect or _is_hosted():
        return
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):
            stream.flush()
    os._exit(code)


def _is_hosted() -> bool:
    """Whether another program runs this one, as `python -m cProfile`, `coverage run` and `pdb` do. What they have to
    say comes afterwards, and since 3.12 their hooks need not be those that sys.getprofile and sys.gettrace tell of."""
    programs, frame = 0, sys._getframe()
    while frame := frame.f_back:  # type: ignore[assignment]
        programs += frame.f_code.co_name == "<module>"
    return programs > 1
