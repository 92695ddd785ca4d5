"""The file `place` in an embedded folder says where else its data are; the file `origin` there says whose they are.

A pointer that leads nowhere, or to another project's data, is an error: a new, empty database beside the old one would
look like a customer who lost everything.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path

from reconciler.model.errors import MissingSetting
from reconciler.support.files import write_private

POINTER = "place"
ORIGIN = "origin"


def find_data_elsewhere(folder: Path) -> Path | None:
    """Returns where the data of this folder are, or None if they are in the folder itself."""
    base = _read_pointer(folder)
    if base is None:
        return None
    if not os.path.lexists(base / "data") and not (folder / "version").exists():
        return base  # a first run was killed before it made any
    if not _may_be_used(base):
        said = f"{folder / POINTER} says that the data is in {base}, but it can't be read there"
        back = f"run as the user who made it, or bring {base} back (a volume that is not mounted?)"
        raise lost(said, back, folder)
    _see_whose(base, folder)
    return base


def point_elsewhere(folder: Path, shared: Path) -> Path:
    """Returns a new place for the data, or another process's if that was quicker. Raises MissingSetting if there were
    data before."""
    if (folder / "version").exists():
        raise _lost_pointer(folder, shared)
    # Partly random: a folder that was removed and made again must not find its old data.
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    base = shared / f"{name}-{secrets.token_hex(4)}"
    try:
        write_private(folder / POINTER, f"{base}\n", exclusive=True)
    except FileExistsError:
        base = _read_pointer(folder) or base
    base.mkdir(mode=0o755, parents=True, exist_ok=True)
    _write_path(base / ORIGIN, folder)
    return base


def _lost_pointer(folder: Path, shared: Path) -> MissingSetting:
    left = (origin.parent for origin in sorted(shared.glob(f"*/{ORIGIN}")) if _names(origin, folder))
    found = " or ".join(map(str, left))
    bring = f"write {found} into it" if found else "bring the data back from a backup"
    said = f"{folder / POINTER}, which says where the data of the embedded PostgreSQL are, is missing"
    return lost(said, bring, folder, they="they are")


def _names(origin: Path, folder: Path) -> bool:
    try:
        return _read_path(origin) == folder and (origin.parent / "data" / "PG_VERSION").exists()
    except OSError:
        return False


def _read_pointer(folder: Path) -> Path | None:
    pointer = folder / POINTER
    try:
        base = _read_path(pointer)
    except FileNotFoundError:
        return None
    if not base.is_absolute():
        back = f"write their folder into it (the one whose file {ORIGIN} names {folder})"
        said = f"{pointer} does not say where the data of the embedded PostgreSQL are"
        raise lost(said, back, folder, they="they are")
    return base


def _read_path(file: Path) -> Path:
    return Path(os.fsdecode(file.read_bytes()).strip())


def _write_path(file: Path, path: Path) -> None:
    file.write_bytes(os.fsencode(path) + b"\n")  # the system's bytes: the same in every locale


def lost(said: str, back: str, folder: Path, *, they: str = "it is") -> MissingSetting:
    """Returns the error for something without which the data can't be used. `back` says how to bring it back."""
    hint = f"{back}; if {they} lost for good, remove {folder} to begin with an empty database"
    return MissingSetting(said, hint=hint, code="embedded_folder")


def _may_be_used(base: Path) -> bool:
    try:
        return (base / "data" / "PG_VERSION").exists()
    except PermissionError:
        return False


def _see_whose(base: Path, folder: Path) -> None:
    """A project that was moved keeps its data; a copy of a project must not use those of the original."""
    origin = base / ORIGIN
    try:
        owner = _read_path(origin)
    except FileNotFoundError:
        owner = folder
    if owner == folder or _is_same(owner, folder):
        return
    if _points_to(owner, base):
        raise MissingSetting(
            f"{folder} is a copy of {owner}, and the data in {base} are those of the original",
            hint=f"remove {folder} to begin with an empty database, or give an embedded:PATH of its own",
            code="embedded_copy",
        )
    with suppress(OSError):  # the data can be used without this note
        _write_path(origin, folder)


def _is_same(owner: Path, folder: Path) -> bool:
    """Whether it is the same folder under another name: a link, a mount."""
    try:
        return owner.samefile(folder)
    except OSError:
        return False


def _points_to(owner: Path, base: Path) -> bool:
    try:
        return _read_path(owner / POINTER) == base
    except OSError:
        return False
