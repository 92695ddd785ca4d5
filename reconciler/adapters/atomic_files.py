"""Replace a file's content whole or not at all, keeping its mode; a link stays, the file behind it is replaced.

A device or a pipe, as /dev/stdout, is written to.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from reconciler.model.errors import FivrecError


def make_folder_of(path: str) -> None:
    """The folder that the file is to stand in, with those above it. FivrecError where it can't be made."""
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        reason = os.strerror(exc.errno or 0).lower()
        raise FivrecError(f"the folder of {path} cannot be made: {reason}", hint="check the folders above it") from exc


def replace_text(path: str, text: str, *, exclusive: bool = False) -> None:
    """`exclusive`: FileExistsError where there is a file already. FivrecError where it can't be written."""
    target = Path(os.path.realpath(path))
    draft = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        if not exclusive and _takes_a_stream(path):
            Path(path).write_text(text, encoding="utf-8", newline="\n")
            return
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
        try:
            with draft.open("x", encoding="utf-8", newline="\n") as file:
                if mode is not None:
                    os.fchmod(file.fileno(), mode)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if exclusive:
                os.link(draft, target)
            else:
                draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
    except FileExistsError:
        raise
    except OSError as exc:
        reason = os.strerror(exc.errno or 0).lower()
        raise FivrecError(f"{path} cannot be written: {reason}", hint="check the folder and its permissions") from exc


def _takes_a_stream(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 (through /dev/stdout, which leads to no path)
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
