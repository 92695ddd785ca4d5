"""Make and start one PostgreSQL data folder, and read its port. The caller holds start.lock."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Any

from reconciler.database.embedded.binaries import Binaries, find_binaries
from reconciler.database.embedded.data_dir_and_user import Place, binaries_for, unusable
from reconciler.database.embedded.locks import is_held
from reconciler.database.embedded.pointer import lost
from reconciler.model.errors import DatabaseError, MissingSetting
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret
from reconciler.support.files import write_private

_START_S = 60.0
_POLL_S = 0.002
_TRIES = 5
_SUPERVISOR = Path(__file__).with_name("supervisor.py")
_IO_METHOD_SINCE = 18
_REASON = re.compile(r"(?:FATAL|PANIC|initdb: error): +(.*)")


@dataclass(frozen=True, slots=True)
class Running:
    """The server's first process, as postmaster.pid has it."""

    pid: int
    port: int
    ready: bool
    version: str
    supervisor: subprocess.Popen[bytes] | None = None
    """The process that supervises the server, if this process started it."""


def read_running(place: Place) -> Running | None:
    """Returns what postmaster.pid says of the server that holds server.lock, or None if it doesn't say yet."""
    try:
        pid = int((place.folder / "server.lock").read_bytes())
        lines = (place.data / "postmaster.pid").read_bytes().split(b"\n")  # one is a path, in any encoding
        version = (place.folder / "version").read_text(encoding="ascii").strip()
        ready = len(lines) > 7 and lines[7].strip() == b"ready"  # noqa: PLR2004  its 8th line
        return Running(pid, int(lines[3]), ready, version) if int(lines[0]) == pid else None
    except (FileNotFoundError, ValueError, IndexError):
        return None
    except OSError as error:
        raise unusable(place.data, error) from error


def wait_until_ready(place: Place, late: DatabaseError) -> Running | None:
    """Returns the running server once it is ready, or None if there is none or it has ended. Raises `late` after a
    minute."""
    deadline = time.monotonic() + _START_S
    while is_held(place.folder / "server.lock"):
        running = read_running(place)
        if running is not None and running.ready:
            return running
        if time.monotonic() > deadline:
            raise late
        time.sleep(_POLL_S)
    return None


def start_server(place: Place) -> Running:
    """Make the data if there are none, start the server, and wait until it is ready."""
    binaries = binaries_for(place, find_binaries(os.environ, major=place.major))
    try:
        if place.major is None:
            _refuse_lost_data(place)
            _make_data(place, binaries)
        _refuse_strangers_data(place)
        (place.folder / "version").write_text(f"{binaries.version}\n", encoding="ascii")
    except OSError as error:
        raise _disk_full(place.base) if _is_full(str(error)) else unusable(place.base, error) from error
    for _ in range(_TRIES):
        running = _start(place, binaries)
        if running is not None:
            return running
        said = _log_tail(place)
        if 'lock file "postmaster.pid" already exists' in said:
            _clear_stale(place)
        elif "could not bind" not in said:
            raise _start_failure(place, said)
    raise _start_failure(place, _log_tail(place))


def _start(place: Place, binaries: Binaries) -> Running | None:
    """Returns None if the server ended before it was ready: the log says why."""
    user = place.user
    command = [str(binaries.folder / "postgres"), "-D", str(place.data)]
    for name, value in _options(_free_port(), binaries.major).items():
        command += ["-c", f"{name}={value}"]
    supervisor = [sys.executable, "-I", "-S", str(_SUPERVISOR)]
    files = [str(place.folder / name) for name in ("users.lock", "server.lock", "postgres.log")]
    owner = [str(user.uid), str(user.gid)] if user else ["-1", "-1"]
    started = subprocess.Popen(
        [*supervisor, *files, *owner, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_environment(),
        cwd="/",
        start_new_session=True,  # Ctrl-C is only for the command; the server runs until its last user leaves
    )
    assert started.stdout is not None  # noqa: S101  a pipe was asked for
    with started.stdout as pipe:
        said = pipe.read()
    if said != b"started":
        started.wait()
        raise DatabaseError(
            "the embedded PostgreSQL's supervisor did not start",
            hint=f"run {sys.executable} -I -S {_SUPERVISOR} by hand to see why",
            code="embedded_start",
        )
    running = wait_until_ready(place, _start_failure(place, f"it was not ready after {_START_S:g} s"))
    if running is not None:
        return replace(running, supervisor=started)
    started.wait()
    return None


def _refuse_lost_data(place: Place) -> None:
    """A new, empty database in place of a lost one would look like a customer who lost everything."""
    if (place.folder / "version").exists():
        said = f"the embedded PostgreSQL's data were in {place.data}, and are not there any more, or not whole"
        raise lost(said, "bring them back (a backup, a volume that is not mounted?)", place.folder, they="they are")


def _refuse_strangers_data(place: Place) -> None:
    """The server's configuration may name programs. A checkout can't make a file private, unless its umask is 077."""
    path = place.folder / "password"
    read_password(place)
    if path.stat().st_mode & 0o077:
        raise MissingSetting(
            f"{path} is open to other users, so {place.folder} may be a stranger's (a repository's), whose server "
            "configuration can name programs",
            hint=f"if it is yours: chmod 600 {quote(str(path))}",
            code="embedded_folder",
        )


def read_password(place: Place) -> Secret:
    """Returns the password of the server's own login. It was made with the data and can't be made again."""
    path = place.folder / "password"
    try:
        found = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        found = ""
    except (OSError, UnicodeDecodeError) as error:
        raise unusable(path, error) from error
    if not found:
        said = f"{path} is missing or empty: without it nobody can open the embedded PostgreSQL's data, which are there"
        raise lost(said, "bring it back from a backup", place.folder)
    return Secret(found)


def _make_data(place: Place, binaries: Binaries) -> None:
    """Run initdb beside the data's place, then rename: a killed initdb leaves nothing that looks like data."""
    for left in place.base.glob("init-*"):
        shutil.rmtree(left)
    if place.data.exists():  # without PG_VERSION: an empty folder, or something of the user's
        place.data.rmdir()
    made = place.base / f"init-{secrets.token_hex(4)}"
    made.mkdir(mode=0o700)
    password = secrets.token_urlsafe(24)
    write_private(place.folder / "password", f"{password}\n")
    write_private(made / "password", f"{password}\n")
    if place.user:
        os.chown(made / "password", place.user.uid, place.user.gid)
        os.chown(made, place.user.uid, place.user.gid)
    _run_initdb(place, binaries, made)
    (made / "data").rename(place.data)
    shutil.rmtree(made)


def _run_initdb(place: Place, binaries: Binaries, made: Path) -> None:
    options = ["-U", "postgres", "-E", "UTF8", "--locale=C", "--auth=scram-sha-256", "--no-sync", "--no-instructions"]
    user: dict[str, Any] = {}
    if place.user:
        user = {"user": place.user.uid, "group": place.user.gid, "extra_groups": []}
    done = subprocess.run(
        [binaries.folder / "initdb", "-D", made / "data", f"--pwfile={made / 'password'}", *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        env=_environment(),
        cwd="/",
        umask=0o077,
        check=False,
        **user,
    )
    if done.returncode:
        said = (done.stderr + done.stdout).strip()
        shutil.rmtree(made, ignore_errors=True)
        raise _start_failure(place, said)


def _options(port: int, major: int) -> dict[str, str]:
    """Small, durable, silent about values: a log line must not hold a statement or a row."""
    options = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
        "max_connections": "120",
        "shared_buffers": "32MB",
        "max_wal_size": "256MB",
        "min_wal_size": "32MB",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "max_logical_replication_workers": "0",
        "jit": "off",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_error_verbosity": "terse",
        "log_min_error_statement": "panic",
    }
    if major >= _IO_METHOD_SINCE:
        options["io_method"] = "sync"  # fewer processes to start
    return options


def _environment() -> dict[str, str]:
    """Almost empty: the server runs as another user, and our environment holds keys."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _clear_stale(place: Place) -> None:
    """Remove a stale postmaster.pid: after a reboot its process id may belong to another program. Raises DatabaseError
    if that process may be PostgreSQL."""
    stale = place.data / "postmaster.pid"
    try:
        pid = int(stale.read_bytes().split()[0])
    except (FileNotFoundError, ValueError, IndexError):
        stale.unlink(missing_ok=True)
        return
    shown = _command_of(pid)
    if shown is None or str(place.data) in shown:
        raise DatabaseError(
            f"another PostgreSQL, process {pid}, runs on {place.data}, by its postmaster.pid",
            hint=f"stop it: kill -INT {pid}; if that process is not PostgreSQL, remove {stale}",
            code="embedded_in_use",
        )
    stale.unlink(missing_ok=True)


def _command_of(pid: int) -> str | None:
    """Returns the command line of a process, "" if it is gone or a zombie, None if there is no way to know."""
    if Path("/proc/self/cmdline").exists():
        try:
            return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" "))
        except (FileNotFoundError, ProcessLookupError):
            return ""
        except OSError:
            return None
    try:
        command = ["ps", "-wwo", "stat=,command=", "-p", str(pid)]
        shown = os.fsdecode(subprocess.run(command, capture_output=True, check=False).stdout)
    except OSError:
        return None
    return "" if shown.lstrip().startswith("Z") else shown


def _log_tail(place: Place) -> str:
    try:
        return (place.folder / "postgres.log").read_text(encoding="utf-8", errors="replace")[-4000:]
    except OSError:
        return ""


def _start_failure(place: Place, said: str) -> DatabaseError:
    if _is_full(said):
        return _disk_full(place.base)
    reasons = _REASON.findall(said) or [line for line in said.splitlines() if line.strip()] or ["it said nothing"]
    return DatabaseError(
        f"the embedded PostgreSQL in {place.base} did not start: {reasons[-1].strip()[:200]}",
        hint=f"see {place.folder / 'postgres.log'}",
        code="embedded_start",
    )


def _is_full(said: str) -> bool:
    return "No space left on device" in said or "Disk quota exceeded" in said


def _disk_full(base: Path) -> DatabaseError:
    return DatabaseError(
        f"the disk is full: the embedded PostgreSQL in {base} can't start",
        hint="make room (80 MB for new data) and run again",
        code="disk_full",
    )
