"""The emulator's state file: read again when it changed, written as a whole under a lock. Contains instance keys: mode
0600."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from reconciler.connect.emulator.state import EmulatorState, Instance, state_from_json, state_to_json
from reconciler.model.errors import MissingSetting
from reconciler.model.secret import Secret
from reconciler.model.types import rfc3339
from reconciler.support.files import ConfinedFileError, read_regular, write_private

_MAX_BYTES = 64 << 20


class StateFile:
    """Several processes may use one file: `connect serve` and `connect set`, or `watch` and `status`."""

    def __init__(self, path: Path, *, dry: bool = False) -> None:
        """`dry` keeps changes in this object, and creates no file."""
        self.path = path
        self.dry = dry
        self._stamp: tuple[int, int, int] | None = None
        self._state = EmulatorState()
        self._changed: EmulatorState | None = None

    def read(self) -> EmulatorState:
        if self._changed is not None:
            return self._changed
        try:
            found = self.path.stat()
        except FileNotFoundError:
            _refuse_lost(self.path)
            self._stamp, self._state = None, EmulatorState()
            return self._state
        except OSError as error:
            raise _unusable(self.path, error) from error
        stamp = _stamp_of(found)
        if stamp != self._stamp:
            self._state = self._load()
            self._stamp = stamp
        return self._state

    def update(self, change: Callable[[EmulatorState], EmulatorState]) -> EmulatorState:
        """Apply `change` to the file's current content; writes nothing if that changes nothing."""
        if self.dry:
            self._changed = change(self.read())
            return self._changed
        with self._locked():
            before = self.read()
            after = change(before)
            if after != before:
                self._write(after)
        return after

    def _load(self) -> EmulatorState:
        try:
            return state_from_json(json.loads(read_regular(self.path, _MAX_BYTES)))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ConfinedFileError):
            # Without a cause: it would carry the text, which contains keys.
            raise MissingSetting(
                f"{self.path} is not the state of a Connect emulator",
                hint="name another file, or remove it: the emulator then starts with an empty state",
                code="emulator_state",
            ) from None
        except OSError as error:
            raise _unusable(self.path, error) from error

    def _write(self, state: EmulatorState) -> None:
        try:
            write_private(self.path, _as_text(state))
            self._stamp, self._state = _stamp_of(self.path.stat()), state
        except OSError as error:
            raise _unusable(self.path, error) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = self.path.with_name(self.path.name + ".lock")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unusable(self.path, error) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _as_text(state: EmulatorState) -> str:
    """Each instance on its line: with an indent, Python's json takes ten times as long."""
    document = state_to_json(state)
    instances = document.pop("instances").items()
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(item, ensure_ascii=False)}" for name, item in instances)
    return f'{json.dumps(document, ensure_ascii=False)[:-1]}, "instances": {{\n{lines}\n}}}}\n'


def _stamp_of(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_mtime_ns, found.st_size, found.st_ino


def issue_key(file: StateFile, name: str, given: Secret | None = None) -> Secret:
    """The key of an instance; a new instance is added, with the `given` key or a fresh one.

    A given key that another instance has stays that instance's: Connect then answers for the other one, as the real one
    would.
    """
    known = file.read().instances.get(name)
    if known is not None:
        return known.key
    fresh = given or Secret(secrets.token_urlsafe(32))
    instance = Instance(fresh, created_at=rfc3339(datetime.now(UTC)))

    def add(state: EmulatorState) -> EmulatorState:
        taken = any(other.key == fresh for other in state.instances.values())
        return state if taken or name in state.instances else state.with_instance(name, instance)

    return file.update(add).instances.get(name, instance).key


def _refuse_lost(path: Path) -> None:
    """Raises MissingSetting if there is no file because the working directory is gone: that is not an empty state."""
    if path.is_absolute():
        return
    try:
        os.getcwd()  # noqa: PTH109 (Path.cwd may answer by $PWD)
    except FileNotFoundError:
        raise MissingSetting(
            f"the working directory is gone, and with it the Connect emulator's state {path}",
            hint="start fivrec again in a folder that stays; the emulator then begins with an empty state",
            code="emulator_state",
        ) from None


def _unusable(path: Path, error: OSError) -> MissingSetting:
    return MissingSetting(
        f"the Connect emulator's state {path} can't be used: {error.strerror}",
        hint="make its folder writable, or name another one",
        code="emulator_state",
    )
