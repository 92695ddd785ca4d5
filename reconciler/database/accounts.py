"""Accounts and tokens of `fivrec serve` in an instance's database. Verifies no password and signs no token."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from reconciler.database import transaction
from reconciler.database.column_values import plain_value, yes_no_value
from reconciler.database.connection import DEFAULTS, Connection, Limits
from reconciler.database.rows import Scope
from reconciler.database.statements import query
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
    """What a token's use depends on: the account as it is now, the lock, whether the token was given back."""

    account: Account | None
    locked: bool
    revoked: bool


async def read_account(conn: Connection, scope: Scope, email: str, *, limits: Limits = DEFAULTS) -> Account | None:
    """The account of this email in the instance's environment; those of the other one do not exist here."""
    params = {"email": email, "environment": scope.environment}
    statements = {"account": query("access", "account", scope.schema)}
    rows = await transaction.read_once(conn, statements, params, scope=scope, limits=limits)
    return _account(rows["account"][0]) if rows["account"] else None


async def read_declared_account(
    conn: Connection, scope: Scope, email: str, *, limits: Limits = DEFAULTS
) -> Account | None:
    """The account that an administrator declared with this email is: the exact one, else a single one that differs in
    case alone."""
    params = {"email": email, "environment": scope.environment}
    statements = {"account": query("access", "accounts_alike", scope.schema)}
    rows = (await transaction.read_once(conn, statements, params, scope=scope, limits=limits))["account"]
    found = rows[0] if rows and (len(rows) == 1 or rows[0]["email"] == email) else None
    return _account(found) if found else None


async def read_token_state(
    conn: Connection, scope: Scope, user_id: str, jti: str, *, limits: Limits = DEFAULTS
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


async def revoke(conn: Connection, scope: Scope, jti: str, expires_at: datetime, *, limits: Limits = DEFAULTS) -> None:
    """From now on the token is nobody's. Rows of tokens that expired are dropped on the way."""
    await use_once(conn, scope, jti, expires_at, limits=limits)


async def use_once(conn: Connection, scope: Scope, name: str, until: datetime, *, limits: Limits = DEFAULTS) -> bool:
    """Remember that something was used, until then; whether it was not before."""
    writes = [
        (query("access", "forget_revoked"), {}),
        (query("access", "revoke"), {"jti": name, "expires_at": until}),
    ]
    return await transaction.write_once(conn, writes, scope=scope, limits=limits) == 1


async def read_mark(conn: Connection, scope: Scope, *, limits: Limits = DEFAULTS) -> str:
    """A text that changes whenever what the page shows of the instance may have changed; "" before the first apply."""
    statements = {"mark": query("access", "mark", scope.schema)}
    params = {"instance": scope.instance}
    rows = await transaction.read_once(conn, statements, params, scope=scope, limits=limits)
    return str(rows["mark"][0]["mark"]) if rows["mark"] else ""


def _account(row: Mapping[str, Any]) -> Account:
    """What is no text, such as a password of another type, is an account that nobody logs in to."""
    password = plain_value(row["password"], "admin", "password", row["id"])
    return Account(row["id"], row["name"] or "", row["email"], Secret(str(password or "")), row["role"] or "")
