"""Write files whole or not at all, private ones too; read files that must be below given folders."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from reconciler.model.errors import FivrecError, find_lack

WORK_FOLDER: Final = ".fivrec"


def is_folder(path: str) -> bool:
    """False also if the path can't be looked at: whoever opens it gets the reason. Path.is_dir raises before 3.14."""
    return os.path.isdir(path)  # noqa: PTH112


def make_parent_folder(path: str) -> None:
    """Make the file's folder and those above it. Raises FivrecError if that fails."""
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        reason = os.strerror(exc.errno or 0).lower()
        raise FivrecError(f"the folder of {path} cannot be made: {reason}", hint="check the folders above it") from exc


def keep_out_of_git(folder: Path) -> None:
    """Make `git add -A` skip everything in `.fivrec`: keys, passwords, an embedded database. Adds no .gitignore to
    other folders, or where one exists."""
    if folder.name == WORK_FOLDER:
        with suppress(OSError), Path(folder, ".gitignore").open("x", encoding="ascii") as file:
            file.write("*\n")


def replace_text(path: str, text: str, *, exclusive: bool = False) -> None:
    """Write text in UTF-8. Raises FivrecError if it can't be written; with `exclusive`, FileExistsError if the file
    exists."""
    replace_bytes(path, text.encode(), exclusive=exclusive)


def replace_bytes(path: str, content: bytes, *, exclusive: bool = False) -> None:
    """Like `replace_text`, for bytes."""
    target = Path(os.path.realpath(path))
    try:
        if not exclusive and _takes_a_stream(path):
            Path(path).write_bytes(content)
            return
        before = target.stat() if target.exists() else None
        with _draft(target, 0o666, exclusive=exclusive) as file:
            if before is not None:
                for owner in ((-1, before.st_gid), (before.st_uid, -1)):  # as root, in a user's folder
                    with suppress(OSError):
                        os.fchown(file.fileno(), *owner)
                os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
            file.write(content)
    except FileExistsError:
        raise
    except OSError as exc:
        reason = os.strerror(exc.errno or 0).lower()
        _, hint = find_lack(exc) or ("", "check the folder and its permissions")
        raise FivrecError(f"{path} cannot be written: {reason}", hint=hint) from exc


def write_private(path: Path, text: str, *, exclusive: bool = False) -> None:
    """Write text with mode 0600, whole or not at all; it is on the disk before this returns.

    Raises OSError if it can't be written; with `exclusive`, FileExistsError if the file exists.
    """
    with _draft(path, 0o600, exclusive=exclusive) as file:
        file.write(text.encode())
    _sync_folder(path.parent)


@contextmanager
def _draft(target: Path, mode: int, *, exclusive: bool) -> Iterator[BinaryIO]:
    """A new file beside the target, which takes its place at the end, once it is on the disk."""
    draft = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if exclusive:
            os.link(draft, target)  # unlike a rename, it never replaces what is there
        else:
            draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _takes_a_stream(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 (through /dev/stdout, which leads to no path)
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class ConfinedFileError(Exception):
    """Says why a file was not read, in words that follow its name; never its contents. `missing`: it does not exist."""

    def __init__(self, reason: str, hint: str, *, missing: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint
        self.missing = missing


def read_confined(name: str, folders: Sequence[Path], limit: int) -> bytes:
    """Returns a regular file of at most `limit` bytes that is in one of `folders` after following all links. Relative
    names start from the first folder. Raises ConfinedFileError, which says why not."""
    path = Path(name)
    inside = "put it into the manifest's folder"
    if ".." in path.parts or "\x00" in name:
        beside = ", or give its absolute path, and its folder by --secrets-dir" if len(folders) > 1 else ""
        raise ConfinedFileError('has ".." in its name', inside + beside)
    roots = [Path(os.path.realpath(folder)) for folder in folders]
    if path.is_absolute() and not any(_is_below(path, root) for root in (*roots[1:], *folders[1:])):
        raise ConfinedFileError("has an absolute path", inside + ", or name its folder by --secrets-dir")
    # Open the path exactly as checked: with all links resolved, and without following one at its end.
    real = Path(os.path.realpath(folders[0] / path))
    if not any(_is_below(real, root) for root in roots):
        raise ConfinedFileError("leads out of the folder", inside + ", or name its folder by --secrets-dir")
    return _read(real, limit)


def _is_below(path: Path, folder: Path) -> bool:
    return path != folder and path.is_relative_to(folder)


def read_regular(path: str | Path, limit: int, *, follow: bool = True) -> bytes:
    """Returns up to `limit` + 1 bytes of a regular file; never waits, not even for a FIFO. Raises the system's OSError,
    or ConfinedFileError if it is not a regular file."""
    try:
        descriptor = os.open(path, _FLAGS if follow else _FLAGS | os.O_NOFOLLOW)
    except OSError as exc:
        if exc.errno == errno.ENXIO:  # a socket
            raise _irregular() from exc
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _irregular()
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(limit + 1) or b""  # None: reading would block
    finally:
        os.close(descriptor)


def _irregular() -> ConfinedFileError:
    return ConfinedFileError("is not a regular file", "a device, pipe or folder is not read")


def _read(path: Path, limit: int) -> bytes:
    try:
        content = read_regular(path, limit, follow=False)
    except OSError as exc:
        reason = os.strerror(exc.errno or 0).lower()
        hint = "check the file and its permissions"
        missing = isinstance(exc, FileNotFoundError)
        raise ConfinedFileError(f"cannot be read: {reason}", hint, missing=missing) from exc
    if len(content) > limit:
        raise ConfinedFileError(f"is larger than {limit:,} bytes", "is it the right file?")
    return content
