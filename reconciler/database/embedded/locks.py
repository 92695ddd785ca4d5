"""File locks between processes that share one embedded server. The kernel releases them when a process dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reconciler.database.embedded.data_dir_and_user import unusable
from reconciler.model.errors import MissingSetting


def open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError as error:
        raise MissingSetting(
            f"the embedded PostgreSQL's folder {path.parent} was moved or removed while it was in use",
            hint="put it back, or start the command again from where it is now",
            code="embedded_folder",
        ) from error
    except OSError as error:
        raise unusable(path, error) from error


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    handle = open_lock(path)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def take_shared(path: Path) -> int:
    """Take a shared lock; waits while somebody holds it exclusively. Closing the descriptor releases it."""
    handle = open_lock(path)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
    except BaseException:
        os.close(handle)
        raise
    return handle


def became_whole(handle: int) -> bool:
    """Turn a shared lock into an exclusive one. Returns False if somebody else shares it; ours may then be lost."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_held(path: Path) -> bool:
    """Whether somebody holds it exclusively; shared locks don't count."""
    handle = open_lock(path)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
