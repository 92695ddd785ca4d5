"""Detect manifests that change on disk: which files there are, whether they changed, and when to look again. Does not
read their text.

Events from the kernel are only a hint to look immediately. The decision rests on what the files look like, because
events can be lost and some file systems send none; the files are checked every few seconds anyway.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from reconciler.manifest.files import STDIN, SUFFIXES
from reconciler.model.errors import FivrecError
from reconciler.support.files import is_folder

LOOK_S = 5.0

Look: TypeAlias = tuple[tuple[str, int, int, int], ...]
"""Path, modification time, size and inode of every file that the manifests consist of."""


def name_directory() -> str:
    """The working directory by the name that the shell used, which may be a link to the current release."""
    named, here = os.environ.get("PWD", ""), os.getcwd()  # noqa: PTH109
    try:
        return named if os.path.isabs(named) and os.path.samefile(named, here) else here  # noqa: PTH117, PTH121
    except OSError:
        return here


def enter_directory(name: str) -> None:
    """Enter the working directory again if it was removed and another one now has its name. Raises FivrecError if there
    is none."""
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
    """The manifests that exist now; a path that is gone names none."""
    found: list[str] = []
    for path in paths:
        if path == STDIN:
            found.append(path)
        elif is_folder(path):
            found.extend(_walk(path, SUFFIXES))
        elif os.path.lexists(path):
            found.append(path)
    return tuple(dict.fromkeys(found))


def scan_files(paths: Sequence[str], more: Sequence[str] = ()) -> Look:
    """The state of the files, with the CSV files that they use and `more` (files of variables)."""
    files = dict.fromkeys(manifest_files(paths))
    folders = {path if is_folder(path) else os.path.dirname(path) or "." for path in paths if path != STDIN}  # noqa: PTH120
    tables = [file for folder in sorted(folders) for file in _walk(folder, (".csv",), deep=folder in paths)]
    return tuple(_stat(file) for file in dict.fromkeys((*files, *tables, *more)))


async def watch_files(paths: Sequence[str]) -> AsyncIterator[None]:
    """Yields when something may have changed: on an event, otherwise every few seconds."""
    while True:
        try:
            async for _ in _events(paths):
                yield
        except Exception:  # noqa: BLE001, S110
            # No more inotify watches, a folder that is gone, a name that watchfiles can't decode (it raises groups and
            # errors of its own): events are only a hint, and polling continues.
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
    """The paths to listen to, and whether to include everything below them. Single files outside of folders are only
    polled: listening to everything below a file's folder may be too much."""
    named = [Path(path) for path in paths if path != STDIN]
    folders = sorted({str(path) for path in named if is_folder(str(path))})
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
    """Filters out links that lead outside the folder, where anything may be, or back into it."""
    real = os.path.realpath(os.path.join(parent, name))  # noqa: PTH118
    return not name.startswith(".") and real not in visited and Path(real).is_relative_to(root)


def _stat(path: str) -> tuple[str, int, int, int]:
    """The state of the link itself, if its target does not exist: a dangling link that appears or disappears is a
    change too."""
    for look in (os.stat, os.lstat):
        try:
            found = look(path)
        except OSError:
            continue
        return path, found.st_mtime_ns, found.st_size, found.st_ino
    return path, 0, 0, 0
