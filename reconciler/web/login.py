"""Access to an instance's API: log in, check a token, revoke it. Each sensitive step is audited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from functools import cache, partial

from reconciler.database import accounts as access
from reconciler.database import login_limit, store
from reconciler.database.accounts import Account, TokenState
from reconciler.database.login_limit import AttemptsInMemory, LoginLimit
from reconciler.engine.audit_log import with_audit
from reconciler.engine.bcrypt import in_slot
from reconciler.engine.match_secrets import most_cost
from reconciler.engine.observe import build_scope, database
from reconciler.engine.run import Run
from reconciler.model.errors import DatabaseError, FivrecError
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret
from reconciler.model.types import Desired
from reconciler.planning.audit import Actor, Event

ADMIN = "admin"
FAILED_S = 0.6
"""Longer than one bcrypt of cost 13 takes."""


class Denied(FivrecError):
    """Access denied. The code says why: token_required, login_failed, login_limited, admin_only, instance_locked."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What was typed, and where it came from."""

    email: str
    password: Secret
    address: str


async def log_in(
    desired: Desired, run: Run, given: Credentials, limit: LoginLimit, in_memory: AttemptsInMemory
) -> Account:
    """Returns the administrator with this email and password. Raises Denied: login_limited, login_failed, admin_only.

    Every denial comes FAILED_S after the call, or a multiple of it, so that its time reveals nothing about the
    comparison. Before the first apply in a database made by the app, attempts are counted in this process, and there is
    no audit log.
    """
    began = time.monotonic()
    try:
        return await _log_in(desired, run, given, limit, in_memory)
    except Denied:
        await asyncio.sleep(FAILED_S - (time.monotonic() - began) % FAILED_S)
        raise


async def _log_in(
    desired: Desired, run: Run, given: Credentials, limit: LoginLimit, in_memory: AttemptsInMemory
) -> Account:
    """Run one bcrypt in one hashing slot, whether or not the account exists, and whatever is stored as its password."""
    scope = build_scope(desired)
    async with database(desired, run) as conn:
        try:
            attempt = await login_limit.begin_attempt(conn, scope, given.email, given.address, limit)
            if attempt is None:
                raise _limited(limit)
        except DatabaseError as exc:
            if exc.code != access.SCHEMA_MISSING:
                raise
            attempt = None
            if not in_memory.begin(scope, given.email, given.address, limit, run.now().timestamp()):
                raise _limited(limit) from None
        account = await access.read_account(conn, scope, given.email)
    record = record_call if attempt is not None else _say_call
    stored = account.password.reveal() if account else ""
    verified = await in_slot(lambda: _verify(given.password, stored, desired.bcrypt_cost, most_cost(desired)))
    if account is None or not verified:
        await record(desired, _as(run, account, given), "login", "login_failed", given.address)
        raise _failed()
    if account.role != ADMIN:
        await record(desired, _as(run, account, given), "login", "login_refused", given.address)
        raise admin_only()
    await record(desired, _as(run, account, given), "login", "login", given.address)
    if attempt is None:
        in_memory.record_success(scope, given.email, given.address)
        return account
    async with database(desired, run) as conn:
        await login_limit.record_success(conn, scope, attempt)
    return account


async def prepare_logins(instances: Iterable[Desired]) -> None:
    """Create the hash that unknown accounts are verified against, so that the first of them takes no longer than the
    others."""
    for cost in sorted({desired.bcrypt_cost for desired in instances}):
        await in_slot(partial(_nobodys, cost))


async def check_token(desired: Desired, run: Run, user_id: str, jti: str) -> TokenState:
    """What decides whether a token is valid now: account, lock, revocation."""
    async with database(desired, run) as conn:
        return await access.read_token_state(conn, build_scope(desired), user_id, jti)


async def give_back(desired: Desired, run: Run, jti: str, expires_at: datetime) -> None:
    """Revoke the token, and those renewed from it."""
    async with database(desired, run) as conn:
        await access.revoke(conn, build_scope(desired), jti, expires_at)


async def record_call(desired: Desired, run: Run, name: str, action: str, address: str) -> None:
    """Write an audit row of a sensitive call before it is done: a call that can't be recorded is not done. Raises Busy,
    DatabaseError."""
    scope = build_scope(desired)
    event = Event("call", name, action, "", "api", [{"field": "address", "before": None, "after": address}])
    async with database(desired, run) as conn:
        tail = await store.begin_recording(conn, scope)
        writes = with_audit(store.Writes(run_id=run.id), desired, run, tail, (event,))
        await store.commit(conn, writes, scope)


async def _say_call(desired: Desired, run: Run, name: str, action: str, address: str) -> None:  # noqa: ARG001
    """The replacement for an audit row if there is no audit log yet."""
    run.log.info(name, f"🔐 {action}: {run.actor.name}", instance=desired.instance)


def admin_only() -> Denied:
    return Denied("only administrators may do this", hint="log in as an administrator", code="admin_only")


def _as(run: Run, account: Account | None, given: Credentials) -> Run:
    """An unknown account's name is not repeated: it may be a password."""
    name = account.email if account else "unknown account"
    return replace(run, actor=Actor(f"{name} (api, {given.address})"))


def _verify(password: Secret, stored: str, cost: int, most: int) -> bool:
    """Anything that is not a hash costs as much time as one, and so does a password that bcrypt can't take."""
    from reconciler.model.passwords import unusable
    from reconciler.model.secret import cost_of
    from reconciler.support.crypto.passwords import verify

    if cost_of(stored) is None or unusable(password) is not None:
        verify(Secret("x"), _nobodys(cost), most)
        return False
    return verify(password, stored, most)


@cache
def _nobodys(cost: int) -> str:
    """A hash that belongs to no one, for accounts that don't exist."""
    import secrets

    from reconciler.support.crypto.passwords import hash_password

    return hash_password(Secret(secrets.token_urlsafe(24)), cost)


def _limited(limit: LoginLimit) -> Denied:
    return Denied(
        f"too many failed logins: {limit.failures} within {limit.window_s / 60:g} minutes",
        hint="wait, then try again",
        code="login_limited",
    )


def _failed() -> Denied:
    return Denied("email or password is wrong", hint="check both; capitals count", code="login_failed")
