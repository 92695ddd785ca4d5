"""How often a login to `fivrec serve` may fail: counted in the database, or in memory before its first apply."""

from __future__ import annotations

import hashlib
from dataclasses import field
from ipaddress import IPv6Address, IPv6Network

from psycopg.rows import dict_row

from reconciler.database import transaction
from reconciler.database.connection import Connection, rollback, with_deadline
from reconciler.database.rows import Scope
from reconciler.database.statements import query
from reconciler.model.records import dataclass
from reconciler.support.network import parse_address

_MOST_ATTEMPTS = 10_000


@dataclass(frozen=True, slots=True)
class LoginLimit:
    """At most `failures` within `window_s` seconds, per account and per address."""

    failures: int = 10
    window_s: float = 900


@dataclass(slots=True)
class AttemptsInMemory:
    """Login attempts while the database has no table for them: the first apply creates fivrec's schema. Bounded, and
    lost with the process."""

    failures: dict[str, list[float]] = field(default_factory=dict)

    def begin(self, scope: Scope, email: str, address: str, limit: LoginLimit, now: float) -> bool:
        """Count an attempt. Returns False if the account or the address has failed too often."""
        names = (f"account {_digest(scope, email)}", f"address {_place(address)}")
        if len(self.failures) > _MOST_ATTEMPTS:
            self.failures = {name: at for name, at in self.failures.items() if at and at[-1] > now - limit.window_s}
        recent = {name: [at for at in self.failures.get(name, ()) if at > now - limit.window_s] for name in names}
        if len(self.failures) > _MOST_ATTEMPTS or max(map(len, recent.values())) >= limit.failures:
            return False
        self.failures |= {name: [*found, now] for name, found in recent.items()}
        return True

    def record_success(self, scope: Scope, email: str, address: str) -> None:
        """Stop counting the account's failures, and the address's last attempt: it succeeded."""
        self.failures.pop(f"account {_digest(scope, email)}", None)
        if found := self.failures.get(f"address {_place(address)}"):
            found.pop()


async def begin_attempt(conn: Connection, scope: Scope, email: str, address: str, limit: LoginLimit) -> int | None:
    """Count an attempt before the password is checked. Returns its id, or None if the account or the address has failed
    too often."""
    params = {"account": _digest(scope, email), "address": _place(address), "window_s": limit.window_s}
    try:
        async with with_deadline(conn):
            first = {"lock": query("access", "attempt_lock")}
            await transaction.open_writing(conn, first, params, scope=scope, held="fivrec")
            async with conn.cursor(row_factory=dict_row) as cursor:
                counted = await (await cursor.execute(query("access", "attempts"), params)).fetchone()
                if counted is None or max(counted.values()) >= limit.failures:
                    return None
                await cursor.execute(query("access", "forget_attempts"))
                made = await (await cursor.execute(query("access", "attempted"), params)).fetchone()
                await conn.execute("COMMIT")
            return int(made["id"]) if made else None
    finally:
        await rollback(conn)


async def record_success(conn: Connection, scope: Scope, attempt: int) -> None:
    """Record that the attempt succeeded: it and the account's failures from that address no longer count."""
    write = (query("access", "admitted"), {"id": attempt})
    await transaction.write_once(conn, [write], scope=scope, held="fivrec")


def _place(address: str) -> str:
    """The network that counts as one address: for IPv6 a /64, because every customer of a provider has at least
    that."""
    found = parse_address(address)
    if not isinstance(found, IPv6Address):
        return address
    return str(found.ipv4_mapped or IPv6Network((int(found), 64), strict=False))


def _digest(scope: Scope, email: str) -> str:
    return hashlib.sha256(f"{scope.environment}:{email.strip().lower()}".encode("utf-8", "replace")).hexdigest()
