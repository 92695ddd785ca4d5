"""Accounts and tokens of `fivrec serve` in an instance's database. Verifies no password and signs no token."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from typing import Any

from psycopg.rows import dict_row

from reconciler.database import transaction
from reconciler.database.column_values import yes_no_value
from reconciler.database.connection import Connection, Limits, rollback, with_deadline
from reconciler.database.rows import Scope
from reconciler.database.statements import query
from reconciler.model.errors import DatabaseError
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret

SCHEMA_MISSING = "schema_missing"
_MOST_ATTEMPTS = 10_000
_DEFAULTS = Limits()


@dataclass(frozen=True, slots=True)
class Account:
    """A user of the instance's environment. `password` is the stored hash."""

    id: str
    name: str
    email: str
    password: Secret
    role: str


@dataclass(frozen=True, slots=True)
class TokenState:
    """What a token's use depends on: the account as it is now, the lock, whether the token was given back."""

    account: Account | None
    locked: bool
    revoked: bool


@dataclass(frozen=True, slots=True)
class LoginLimit:
    """At most `failures` within `window_s` seconds, of one account and of one address."""

    failures: int = 10
    window_s: float = 900


@dataclass(slots=True)
class AttemptsInMemory:
    """Attempts to log in where the database has no place for them yet: fivrec's schema comes with the first apply.
    Forgotten with the process, and bounded."""

    failures: dict[str, list[float]] = field(default_factory=dict)

    def begin(self, scope: Scope, email: str, address: str, limit: LoginLimit, now: float) -> bool:
        """Count an attempt; False if the account or the address has failed too often."""
        names = (f"account {_digest(scope, email)}", f"address {address}")
        if len(self.failures) > _MOST_ATTEMPTS:
            self.failures = {name: at for name, at in self.failures.items() if at[-1] > now - limit.window_s}
        recent = {name: [at for at in self.failures.get(name, ()) if at > now - limit.window_s] for name in names}
        if len(self.failures) > _MOST_ATTEMPTS or max(map(len, recent.values())) >= limit.failures:
            return False
        self.failures |= {name: [*found, now] for name, found in recent.items()}
        return True

    def record_success(self, scope: Scope, email: str, address: str) -> None:
        """The last attempt was a success."""
        self.failures.pop(f"account {_digest(scope, email)}", None)
        if found := self.failures.get(f"address {address}"):
            found.pop()


async def read_account(conn: Connection, scope: Scope, email: str, *, limits: Limits = _DEFAULTS) -> Account | None:
    """The account of this email in the instance's environment; those of the other one do not exist here."""
    params = {"email": email, "environment": scope.environment}
    statements = {"account": query("access", "account", scope.schema)}
    rows = await transaction.read_once(conn, statements, params, scope=scope, limits=limits)
    return _account(rows["account"][0]) if rows["account"] else None


async def read_declared_account(
    conn: Connection, scope: Scope, email: str, *, limits: Limits = _DEFAULTS
) -> Account | None:
    """The account that an administrator declared with this email is: the exact one, else a single one that differs in
    case alone."""
    params = {"email": email, "environment": scope.environment}
    statements = {"account": query("access", "accounts_alike", scope.schema)}
    rows = (await transaction.read_once(conn, statements, params, scope=scope, limits=limits))["account"]
    found = rows[0] if rows and (len(rows) == 1 or rows[0]["email"] == email) else None
    return _account(found) if found else None


async def read_token_state(
    conn: Connection, scope: Scope, user_id: str, jti: str, *, limits: Limits = _DEFAULTS
) -> TokenState:
    """Where fivrec's own schema is missing, as on an app-made database, no token was given back."""
    params = {"user_id": user_id, "jti": jti, "instance": scope.instance, "environment": scope.environment}
    try:
        row = await _read_standing(conn, "standing", params, scope, limits)
    except DatabaseError as exc:
        if exc.code != SCHEMA_MISSING:
            raise
        row = await _read_standing(conn, "standing_before_schema", params, scope, limits)
    account = _account(row) if row["id"] is not None else None
    return TokenState(account, yes_no_value(row["is_locked"]), row["revoked"])


async def _read_standing(
    conn: Connection, name: str, params: Mapping[str, Any], scope: Scope, limits: Limits
) -> Mapping[str, Any]:
    statements = {"standing": query("access", name, scope.schema)}
    rows = await transaction.read_once(conn, statements, params, scope=scope, limits=limits)
    return rows["standing"][0]


async def begin_attempt(
    conn: Connection,
    scope: Scope,
    email: str,
    address: str,
    limit: LoginLimit,
    *,
    limits: Limits = _DEFAULTS,
) -> int | None:
    """Count an attempt before the password is looked at. Its id; None if the account or the address has failed
    too often."""
    params = {"account": _digest(scope, email), "address": address, "window_s": limit.window_s}
    try:
        async with with_deadline(conn, limits.total_s):
            first = {"lock": query("access", "attempt_lock")}
            await transaction.open_writing(conn, first, params, scope=scope, limits=limits)
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


async def record_success(conn: Connection, scope: Scope, attempt: int, *, limits: Limits = _DEFAULTS) -> None:
    """The attempt was a success: it and the account's failures from there no longer count."""
    write = (query("access", "admitted"), {"id": attempt})
    await transaction.write_once(conn, [write], scope=scope, limits=limits)


async def revoke(conn: Connection, scope: Scope, jti: str, expires_at: datetime, *, limits: Limits = _DEFAULTS) -> None:
    """From now on the token is nobody's. Rows of tokens that expired are dropped on the way."""
    await use_once(conn, scope, jti, expires_at, limits=limits)


async def use_once(conn: Connection, scope: Scope, name: str, until: datetime, *, limits: Limits = _DEFAULTS) -> bool:
    """Remember that something was used, until then; whether it was not before."""
    writes = [
        (query("access", "forget_revoked"), {}),
        (query("access", "revoke"), {"jti": name, "expires_at": until}),
    ]
    return await transaction.write_once(conn, writes, scope=scope, limits=limits) == 1


async def read_mark(conn: Connection, scope: Scope, *, limits: Limits = _DEFAULTS) -> str:
    """A text that changes whenever what the page shows of the instance may have changed; "" before the first apply."""
    statements = {"mark": query("access", "mark", scope.schema)}
    params = {"instance": scope.instance}
    rows = await transaction.read_once(conn, statements, params, scope=scope, limits=limits)
    return str(rows["mark"][0]["mark"]) if rows["mark"] else ""


def _account(row: Mapping[str, Any]) -> Account:
    return Account(row["id"], row["name"], row["email"], Secret(row["password"]), row["role"])


def _digest(scope: Scope, email: str) -> str:
    return hashlib.sha256(f"{scope.environment}:{email.strip().lower()}".encode("utf-8", "replace")).hexdigest()
