"""Accounts and tokens of `fivrec serve` in an instance's database. Verifies no password and signs no token."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from reconciler.database.column_values import plain_value, yes_no_value
from reconciler.database.connection import Connection
from reconciler.database.rows import Scope
from reconciler.database.statements import query
from reconciler.database.transaction import read_rows_once, write_once
from reconciler.model.errors import DatabaseError
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret

SCHEMA_MISSING = "schema_missing"


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
    """What decides whether a token may be used: the account as it is now, the lock, and whether it was revoked.
    `status` is the instance's, as stored."""

    account: Account | None
    locked: bool
    revoked: bool
    status: str | None = None


async def read_account(conn: Connection, scope: Scope, email: str) -> Account | None:
    """Returns the account with this email in the instance's environment, or None. Ignores the other environment."""
    params = {"email": email, "environment": scope.environment}
    rows = await read_rows_once(conn, query("access", "account", scope.schema), params, scope=scope)
    return _account(rows[0]) if rows else None


async def read_declared_account(conn: Connection, scope: Scope, email: str) -> Account | None:
    """Returns the account of the administrator declared with this email: the exact match, or else the only one whose
    email differs just in case."""
    params = {"email": email, "environment": scope.environment}
    rows = await read_rows_once(conn, query("access", "accounts_alike", scope.schema), params, scope=scope)
    found = rows[0] if rows and (len(rows) == 1 or rows[0]["email"] == email) else None
    return _account(found) if found else None


async def read_token_state(conn: Connection, scope: Scope, user_id: str, jti: str) -> TokenState:
    """If fivrec's own schema is missing, as in a database that the app made, no token counts as revoked."""
    params = {"user_id": user_id, "jti": jti, "instance": scope.instance, "environment": scope.environment}
    try:
        (row,) = await read_rows_once(conn, query("access", "standing", scope.schema), params, scope=scope)
    except DatabaseError as exc:
        if exc.code != SCHEMA_MISSING:
            raise
        text = query("access", "standing_before_schema", scope.schema)
        (row,) = await read_rows_once(conn, text, params, scope=scope)
    account = _account(row) if row["id"] is not None else None
    return TokenState(account, yes_no_value(row["is_locked"]), row["revoked"], row["status"])


async def revoke(conn: Connection, scope: Scope, jti: str, expires_at: datetime) -> None:
    """Revoke the token. Also deletes the rows of expired tokens."""
    await use_once(conn, scope, jti, expires_at)


async def use_once(conn: Connection, scope: Scope, name: str, until: datetime) -> bool:
    """Remember until `until` that `name` was used. Returns False if it was used before."""
    writes = [
        (query("access", "forget_revoked"), {}),
        (query("access", "revoke"), {"jti": name, "expires_at": until}),
    ]
    return await write_once(conn, writes, scope=scope, held="fivrec") == 1


async def read_mark(conn: Connection, scope: Scope) -> str:
    """Returns a text that changes whenever the page may have to show something new; "" before the first apply."""
    params = {"instance": scope.instance}
    rows = await read_rows_once(conn, query("access", "mark", scope.schema), params, scope=scope)
    return str(rows[0]["mark"]) if rows else ""


def _account(row: Mapping[str, Any]) -> Account:
    """An account whose password isn't text is one that nobody can log in to."""
    password = plain_value(row["password"], "admin", "password", row["id"])
    return Account(row["id"], row["name"] or "", row["email"], Secret(str(password or "")), row["role"] or "")
