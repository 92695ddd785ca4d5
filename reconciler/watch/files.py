"""Manifests that change on disk: which files there are, whether they changed, and when to look again. Reads no text.

The kernel's events are a hint to look at once. What counts is what the files look like, also where events get lost or
a file system has none: it is looked at every few seconds anyway.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from reconciler.manifest.files import STDIN, SUFFIXES
from reconciler.model.errors import FivrecError

LOOK_S = 5.0

Look: TypeAlias = tuple[tuple[str, int, int, int], ...]
"""Path, time of change, size and inode of every file that manifests are made of."""


def name_directory() -> str:
    """The working directory by the name that the shell gave it, which may be a link to the present release."""
    named, here = os.environ.get("PWD", ""), os.getcwd()  # noqa: PTH109
    try:
        return named if os.path.isabs(named) and os.path.samefile(named, here) else here  # noqa: PTH117, PTH121
    except OSError:
        return here


def enter_directory(name: str) -> None:
    """Enter the working directory again if it was removed and another one has its name. FivrecError if none has."""
    try:
        os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        try:
            os.chdir(name)
        except OSError as exc:
            raise FivrecError(
                f"the working directory {name} is gone",
                hint="make it again, or start fivrec in a folder that stays",
                code="work_dir_gone",
            ) from exc


def manifest_files(paths: Sequence[str]) -> tuple[str, ...]:
    """The manifests that are there now; a path that is gone names none."""
    found: list[str] = []
    for path in paths:
        if path == STDIN:
            found.append(path)
        elif Path(path).is_dir():
            found.extend(_walk(path, SUFFIXES))
        elif os.path.lexists(path):
            found.append(path)
    return tuple(dict.fromkeys(found))


def scan_files(paths: Sequence[str], more: Sequence[str] = ()) -> Look:
    """What the files look like, with the CSV files beside them and `more` (files of variables)."""
    files = dict.fromkeys(manifest_files(paths))
    folders = {path if Path(path).is_dir() else os.path.dirname(path) or "." for path in paths if path != STDIN}  # noqa: PTH120
    tables = [file for folder in sorted(folders) for file in _walk(folder, (".csv",), deep=folder in paths)]
    return tuple(_stat(file) for file in dict.fromkeys((*files, *tables, *more)))


async def watch_files(paths: Sequence[str]) -> AsyncIterator[None]:
    """Yields when something may have changed: on an event, else every few seconds."""
    while True:
        try:
            async for _ in _events(paths):
                yield
        except Exception:  # noqa: BLE001, S110
            # No more inotify watches, a folder that is gone, a name that watchfiles can't decode (it raises groups and
            # errors of its own): events are only a hint, the clock will do.
            pass
        await asyncio.sleep(LOOK_S)
        yield


def _events(paths: Sequence[str]) -> AsyncIterator[object]:
    from watchfiles import awatch

    folders, deep = _folders(paths)
    return awatch(
        *folders,
        watch_filter=None,
        debounce=300,
        step=50,
        rust_timeout=int(LOOK_S * 1000),
        yield_on_timeout=True,
        recursive=deep,
    )


async def looks_or(looks: AsyncIterator[None], asked: asyncio.Event) -> AsyncIterator[None]:
    """Yields as `watch_files` does, and each time that `asked` is set."""
    look = asyncio.ensure_future(anext(looks))
    ask = asyncio.ensure_future(asked.wait())
    try:
        while True:
            await asyncio.wait([look, ask], return_when=asyncio.FIRST_COMPLETED)
            yield
            if ask.done():
                asked.clear()
                ask = asyncio.ensure_future(asked.wait())
            if look.done():
                look.result()
                look = asyncio.ensure_future(anext(looks))
    finally:
        look.cancel()
        ask.cancel()


def _folders(paths: Sequence[str]) -> tuple[tuple[str, ...], bool]:
    """What to listen to, and whether to what lies below it too. Beside folders, single files are left to the clock:
    to listen to all that lies below a file's folder may be too much."""
    named = [Path(path) for path in paths if path != STDIN]
    folders = sorted({str(path) for path in named if path.is_dir()})
    return (tuple(folders), True) if folders else (tuple(sorted({str(path.resolve().parent) for path in named})), False)


def _walk(folder: str, suffixes: tuple[str, ...], *, deep: bool = True) -> Iterator[str]:
    root, visited = os.path.realpath(folder), set[str]()
    for parent, folders, files in os.walk(folder, followlinks=True):
        visited.add(os.path.realpath(parent))
        folders[:] = sorted(name for name in folders if deep and _is_inside(parent, name, root, visited))
        yield from (
            os.path.join(parent, name)  # noqa: PTH118  a thousand files, every few seconds
            for name in sorted(files)
            if name.lower().endswith(suffixes) and not name.startswith(".")
        )


def _is_inside(parent: str, name: str, root: str, visited: set[str]) -> bool:
    """No link leads out of the folder, where everything may lie, nor around in it."""
    real = os.path.realpath(os.path.join(parent, name))  # noqa: PTH118
    return not name.startswith(".") and real not in visited and Path(real).is_relative_to(root)


def _stat(path: str) -> tuple[str, int, int, int]:
    try:
        found = _stat_at_all(path)
    except OSError:
        return path, 0, 0, 0
    return path, found.st_mtime_ns, found.st_size, found.st_ino


def _stat_at_all(path: str) -> os.stat_result:
    """That of the link itself, if it leads nowhere: that such a link appears, or goes, is a change as well."""
    try:
        return os.stat(path)  # noqa: PTH116
    except OSError:
        return os.lstat(path)
