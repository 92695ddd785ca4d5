"""Run a {command: …} reference: no shell, a time limit, a size limit. Only --allow-commands leads here."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from reconciler.adapters.source_error import SourceError

COMMAND_S: Final = 30.0


def output_of(words: Sequence[str], limit: int) -> bytes:
    """Standard output; standard error is dropped, for it may repeat a secret. No shell reads the words."""
    program = words[0][:100]
    try:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
    except (OSError, ValueError) as exc:
        raise SourceError(f"the command {program} cannot be run", "check its name and permissions") from exc
    timer = threading.Timer(COMMAND_S, _kill, (process,))
    timer.start()
    try:
        assert process.stdout is not None  # noqa: S101  asked for above
        output = process.stdout.read(limit + 1)
        if len(output) > limit:
            _kill(process)
        code = process.wait()
    except BaseException:
        _kill(process)
        process.wait()
        raise
    finally:
        late = not timer.is_alive()
        timer.cancel()
        if process.stdout is not None:
            process.stdout.close()
    if late:
        raise SourceError(f"the command {program} took longer than {COMMAND_S:.0f} s", "run it by hand")
    if len(output) > limit:
        raise SourceError(f"the command {program} prints more than {limit:,} bytes", "is it the right one?")
    if code != 0:
        raise SourceError(f"the command {program} ended with code {code}", "run it by hand to see why")
    return output


def _kill(process: subprocess.Popen[bytes]) -> None:
    """The command and all that it started: it has a session of its own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
