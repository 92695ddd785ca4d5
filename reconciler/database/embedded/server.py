"""PostgreSQL in a folder, for `embedded:`: started on need, shared by all commands that use it, stopped with the last.

Entering and leaving are serialised by start.lock. users.lock counts the users, server.lock shows whether any process of
the server is left (see supervisor.py). Data are durable (fsync is on); the server listens only on 127.0.0.1.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from reconciler.database.embedded.cluster import Running, read_password, read_running, start_server, wait_until_ready
from reconciler.database.embedded.data_dir_and_user import Place, find_data_dir
from reconciler.database.embedded.locks import became_whole, exclusive, is_held, take_shared
from reconciler.model.errors import DatabaseError
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret

_NAME_LIMIT = 63  # bytes of a PostgreSQL name
_PATIENCE_S = 60.0
_POLL_S = 0.002
_REAP_S = 5.0


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """A server that runs until the context ends. `version` is PostgreSQL's, like 18.6."""

    port: int
    version: str
    folder: Path
    _password: Secret

    @property
    def is_running(self) -> bool:
        """Whether any of its processes is left."""
        return is_held(self.folder / "server.lock")

    def url(self, dbname: str) -> Secret:
        user = f"postgres:{quote(self._password.reveal(), safe='')}"
        return Secret(f"postgresql://{user}@127.0.0.1:{self.port}/{quote(dbname, safe='')}")


@contextmanager
def embedded_server(folder: Path) -> Iterator[EmbeddedServer]:
    """Run the server of a folder; the callers' default is `.fivrec/postgres`. Blocks while it starts and stops.

    Raises MissingSetting if the programs or the folder can't be used, DatabaseError if the server does not start.
    """
    place = find_data_dir(folder)
    users, running = _enter(place)
    try:
        yield EmbeddedServer(running.port, running.version, place.folder, read_password(place))
    finally:
        _leave(place, users)
        _reap(place, running)


def is_initialised(folder: Path) -> bool:
    """Whether a server was ever made here. Creates nothing."""
    return (folder / "version").exists()


def embedded_database_name(instance: str) -> str:
    """Returns `fivapp_<instance>`; a name that is too long is cut and gets `~` (in no instance id) and a digest."""
    name = f"fivapp_{instance}"
    if len(name.encode()) <= _NAME_LIMIT:
        return name
    digest = hashlib.sha256(instance.encode()).hexdigest()[:12]
    return f"{name[: _NAME_LIMIT - 13]}~{digest}"


def _enter(place: Place) -> tuple[int, Running]:
    with exclusive(place.folder / "start.lock"):
        users = take_shared(place.folder / "users.lock")
        try:
            late = DatabaseError(
                f"the embedded PostgreSQL in {place.folder} neither becomes ready nor stops",
                hint=f"see {place.folder / 'postgres.log'}",
                code="embedded_start",
            )
            return users, wait_until_ready(place, late) or start_server(place)
        except BaseException:
            os.close(users)
            raise


def _leave(place: Place, users: int) -> None:
    """The last user stops the server and waits until it is gone: no process outlives the command."""
    try:
        if not place.folder.exists():
            return  # removed under us: the server ends by itself, as its supervisor does
        with exclusive(place.folder / "start.lock"):
            if became_whole(users):
                _stop(place)
            elif is_held(place.folder / "users.lock"):
                # Another user would share the lock, so the supervisor has it and is stopping the server: wait for that.
                os.close(take_shared(place.folder / "users.lock"))
    finally:
        os.close(users)


def _reap(place: Place, running: Running) -> None:
    """Wait for our own supervisor, which ends with its server, so that no zombie is left, whatever init does."""
    if running.supervisor is not None and place.folder.exists() and not is_held(place.folder / "server.lock"):
        with suppress(subprocess.TimeoutExpired):
            running.supervisor.wait(_REAP_S)


def _stop(place: Place) -> None:
    started = time.monotonic()
    asked: int | None = None
    while is_held(place.folder / "server.lock"):
        waited = time.monotonic() - started
        wish = signal.SIGQUIT if waited > _PATIENCE_S else signal.SIGINT
        running = read_running(place)
        if asked != wish and running is not None:
            asked = wish
            # It may end by itself in between.
            with suppress(ProcessLookupError):
                os.kill(running.pid, wish)
        if waited > 2 * _PATIENCE_S:
            raise DatabaseError(
                f"the embedded PostgreSQL in {place.folder} does not stop",
                hint=f"see {place.folder / 'postgres.log'}; its first process is {running and running.pid}",
                code="embedded_stop",
            )
        time.sleep(_POLL_S)
