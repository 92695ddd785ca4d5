"""SCRAM logins that don't hash the password again for each connection.

Two keys are derived from the password and the salt that the server keeps for the login (RFC 5802, 3), in 4,096 rounds:
three quarters of what a connection costs on our side. libpq 18 accepts these keys beside the password. The salt is read
from the handshakes of a login's second and third connection. A server whose salts differ (a pooler with plain
passwords, say), or that refuses keys which it accepted before, goes on getting the password.

Keys are as good as the password: they stay in memory, beside it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from base64 import b64decode, b64encode
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, Final, NamedTuple, Self

import psycopg
from psycopg import pq
from psycopg.waiting import Wait

from reconciler.database.pipeline import PipelinedConnection
from reconciler.model.patterns import late

MOST: Final = 100
"""How many logins are remembered. If there are more, each database has its own, and seldom gets a second connection."""

_CHALLENGE = late(rb"AuthenticationSASLContinue\t '[^'\n]*,s=([A-Za-z0-9+/=]+),i=([0-9]{1,9})'")
"""The server's first message as PQtrace writes it: RFC 5802, 5.1."""

_MOST_ROUNDS: Final = 600_000
"""OWASP's recommendation for passwords that people choose: half a second. A server that asks for more still gets the
password, and libpq computes its rounds, however many."""

_MOST_OBSERVED: Final = 10
"""How many connections of a login may go by until it is no longer observed, let in or not."""

_traces: Iterator[int] = iter(range(1000))
"""The traces left to this process. Each costs 5 KB for good: psycopg never closes the FILE that it gives libpq."""

_LIBPQ: Final = 180_000
_MOST_TRACED: Final = 65_536
_WAITS: Final[dict[int, Wait]] = {pq.PollingStatus.READING: Wait.R, pq.PollingStatus.WRITING: Wait.W}
_OWN: Final = frozenset({"dbname", "application_name", "connect_timeout"})
"""Parameters that differ between connections of one login."""


class Salt(NamedTuple):
    value: bytes
    rounds: int


class Login:
    """What is known about one login at one server. `keys` is empty while the password must be used."""

    def __init__(self, password: str) -> None:
        self.keys: dict[str, str] = {}
        self._password = password
        self._salt: Salt | None = None
        self._opened = 0
        self._is_over = False

    def kind(self) -> type[PipelinedConnection]:
        """Returns the class to connect with if there are no keys. The first connection is not observed: it may be the
        only one."""
        self._opened += 1
        if self._is_over or not 1 < self._opened <= _MOST_OBSERVED or next(_traces, None) is None:
            return PipelinedConnection
        return ObservedConnection

    def learn(self, conn: PipelinedConnection) -> None:
        """Learn from a connection that was let in with the password."""
        if self._is_over or self.keys or not isinstance(conn, ObservedConnection):
            return
        if conn.salt is None or conn.salt.rounds > _MOST_ROUNDS or self._salt not in (None, conn.salt):
            self._is_over = True
        elif self._salt is None:
            self._salt = conn.salt
        else:
            self.keys = keys(self._password, conn.salt)

    def forget(self) -> None:
        """The keys were refused: use the password from now on."""
        self.keys = {}
        self._is_over = True


_logins: dict[tuple[tuple[str, Any], ...], Login] = {}


def login(parameters: Mapping[str, Any], places: Sequence[object]) -> Login | None:
    """Returns the login that these parameters lead to; None if keys would save nothing, or might be wrong.

    With several places, psycopg goes on to the next if keys are refused, and could end at another server. A password
    outside ASCII is normalized before it is hashed (RFC 4013).
    """
    password = parameters.get("password")
    if pq.version() < _LIBPQ or len(places) != 1 or not password or not password.isascii():
        return None
    if "scram_client_key" in parameters or "scram_server_key" in parameters:
        return None
    name = tuple(sorted((key, value) for key, value in parameters.items() if key not in _OWN))
    found = _logins.pop(name, None) or Login(password)
    _logins[name] = found
    if len(_logins) > MOST:
        del _logins[next(iter(_logins))]
    return found


def keys(password: str, salt: Salt) -> dict[str, str]:
    """Returns libpq's parameters for the keys: RFC 5802, 3, with SHA-256 (RFC 7677)."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt.value, salt.rounds)
    names = {"scram_client_key": b"Client Key", "scram_server_key": b"Server Key"}
    return {name: b64encode(hmac.digest(salted, words, "sha256")).decode() for name, words in names.items()}


class ObservedConnection(PipelinedConnection):
    salt: Salt | None = None
    """None if the login didn't use SCRAM, or its handshake wasn't found in the trace."""

    @classmethod
    def _connect_gen(cls, conninfo: str = "", **older: Any) -> Generator[Any, Any, Self]:
        """psycopg's own, with libpq's trace switched on. The trace goes to memory: a full pipe would block libpq."""
        memory = None if older else _memory()
        if memory is None:
            return (yield from super()._connect_gen(conninfo, **older))
        with memory as trace:
            pgconn = pq.PGconn.connect_start(conninfo.encode())
            pgconn.trace(trace.fileno())
            try:
                yield from _polled(pgconn, trace)
            finally:
                pgconn.untrace()
            conn = cls(pgconn)
            conn.salt = _salt(trace)
        return conn


def _memory() -> BinaryIO | None:
    """Returns a file in memory; None if the system lacks them or forbids them (vm.memfd_noexec, a filter), or no
    descriptors are left."""
    try:
        return os.fdopen(os.memfd_create("trace"), "rb")
    except (AttributeError, OSError):
        return None


def _polled(pgconn: pq.abc.PGconn, trace: BinaryIO) -> Generator[Any, Any, None]:
    status: int = pgconn.connect_poll() if pgconn.status != pq.ConnStatus.BAD else pq.PollingStatus.FAILED
    while (wait := _WAITS.get(status)) is not None:
        while not (yield pgconn.socket, wait):
            pass
        if trace.seek(0, os.SEEK_END) > _MOST_TRACED:
            pgconn.untrace()
        status = pgconn.connect_poll()
    if status != pq.PollingStatus.OK:
        said = pgconn.get_error_message("utf-8")
        pgconn.finish()
        raise psycopg.OperationalError(f"connection failed: {said}")
    pgconn.nonblocking = 1


def _salt(trace: BinaryIO) -> Salt | None:
    trace.seek(0)
    found = _CHALLENGE.search(trace.read(_MOST_TRACED))
    return Salt(b64decode(found[1]), int(found[2])) if found else None
