"""Runs one embedded PostgreSQL for as long as somebody uses it. A script of its own: `python -I -S` on this file.

Arguments: users.lock, server.lock, the log, uid and gid (-1: as we are), then postgres's command line. Users hold a
shared lock on users.lock, which the kernel releases when they die, even by kill -9. When this script gets the lock
exclusively, nobody is left, and it stops the server. This script and every process of the server hold server.lock, over
an inherited descriptor, so it is free exactly when all of them are gone. Imports nothing of the package: start-up time
counts, and the script must work wherever the interpreter does.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import sys
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
_PATIENCE_S = 60


class _ServerEndedError(Exception):
    pass


class _ToldError(Exception):
    pass


def main(arguments: list[str]) -> None:
    users_path, server_path, log_path, uid, gid, *command = arguments
    server = os.open(server_path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(server, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.set_inheritable(server, True)  # noqa: FBT003  its only form
    signal.signal(signal.SIGTERM, _on_told)
    pid = _start(command, log_path, int(uid), int(gid))
    os.ftruncate(server, 0)
    os.pwrite(server, str(pid).encode(), 0)
    os.write(1, b"started")
    null = os.open(os.devnull, os.O_RDWR)
    for inherited in (0, 1, 2):
        os.dup2(null, inherited)
    try:
        signal.signal(signal.SIGCHLD, _on_ended)
        if os.waitpid(pid, os.WNOHANG)[0]:
            return  # it ended before its end could be signalled
        # Opened after the fork: the server must not inherit its users' lock.
        users = os.open(users_path, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(users, fcntl.LOCK_EX)
    except _ServerEndedError:
        # The next server would take a zombie for a living one.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
    except _ToldError:
        _stop(pid)
    else:
        _stop(pid)


def _start(command: list[str], log_path: str, uid: int, gid: int) -> int:
    supervisor = os.getpid()
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    pid = os.fork()
    if pid:
        return pid
    try:
        log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.umask(0o077)
        if uid >= 0:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
        if libc is not None:
            # Stops the server if this script is killed. After setuid, which would clear it.
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
            if os.getppid() != supervisor:
                os._exit(1)
        os.execv(command[0], command)  # noqa: S606  no shell is wanted
    except OSError as error:
        os.write(2, f"{command[0]}: {error}\n".encode())
    finally:
        os._exit(1)


def _stop(pid: int) -> None:
    """SIGINT is PostgreSQL's fast stop, SIGQUIT its immediate one, which the next start recovers from."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.kill(pid, signal.SIGINT)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(pid, signal.SIGQUIT))
    signal.alarm(_PATIENCE_S)
    os.waitpid(pid, 0)


def _on_ended(*_: object) -> NoReturn:
    raise _ServerEndedError


def _on_told(*_: object) -> NoReturn:
    raise _ToldError


if __name__ == "__main__":
    main(sys.argv[1:])
