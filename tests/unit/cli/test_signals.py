"""Signals at moments when Python can't pass an exception on."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.cli_process import ROOT

SCRIPT = """\
import os, signal, time, weakref
from reconciler.cli.signals import SIGNALS, Stopped

class Freed:
    def __del__(self):
        if {in_del}:
            os.kill(os.getpid(), signal.SIGTERM)

SIGNALS.listen()
freed = Freed()
callback = weakref.ref(freed, lambda _: {in_del} or os.kill(os.getpid(), signal.SIGTERM))
try:
    del freed
    time.sleep(5)
except Stopped:
    print("stopped by", SIGNALS.number)
"""


@pytest.mark.parametrize("in_del", [True, False])
def test_a_signal_that_python_discards_is_raised_again(in_del: bool) -> None:
    command = [sys.executable, "-c", SCRIPT.format(in_del=in_del)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("stopped by 15\n", "")
