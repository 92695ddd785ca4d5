"""The admin's generated password: created once, kept in a file that only its owner can read."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path
from typing import Final

from reconciler.model.errors import Busy, MissingSetting
from reconciler.model.secret import Secret
from reconciler.support.files import keep_out_of_git, write_private

_MAX_BYTES: Final = 1024
_OTHERS: Final = 0o077


def password_path(work_dir: Path, instance: str) -> Path:
    return work_dir / "secrets" / f"{instance}-admin"


def read_or_make(path: Path) -> tuple[Secret, bool]:
    """Returns the kept password, or a new one, which is not written yet; and whether it is new."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return Secret(base64.urlsafe_b64encode(os.urandom(18)).decode()), True
    except OSError as exc:
        reason = os.strerror(exc.errno or 0).lower()
        raise MissingSetting(
            f"{path} cannot be read: {reason}", hint="it has to be a file that this user owns and can read"
        ) from exc
    try:
        status = os.fstat(descriptor)
        content = os.read(descriptor, _MAX_BYTES) if stat.S_ISREG(status.st_mode) else b""
    finally:
        os.close(descriptor)
    if status.st_mode & _OTHERS:
        raise MissingSetting(f"{path} can be read by others", hint=f"chmod 600 {path}, and change the password")
    text = content.decode("utf-8", "replace").strip()
    if not text:
        raise MissingSetting(f"{path} holds no password", hint="remove it, and run again")
    return Secret(text), False


def write_password(path: Path, password: Secret) -> None:
    """Write the file completely or not at all, mode 0600, and flush it to disk. A second attempt finds its own. Raises
    Busy if another run created one meanwhile."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        keep_out_of_git(path.parent.parent)
        write_private(path, password.reveal() + "\n", exclusive=True)
    except FileExistsError as exc:
        if read_or_make(path)[0] == password:
            return
        raise Busy(f"another run has just made {path}", hint="run again") from exc
    except OSError as exc:
        reason = os.strerror(exc.errno or 0).lower()
        hint = "make the folder writable, or set the password's variable"
        raise MissingSetting(f"{path} cannot be written: {reason}", hint=hint) from exc
