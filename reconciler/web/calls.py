"""One call of the API from request to answer: instance, token, lock, query and body, audit, and then the work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import field, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from reconciler.database.accounts import SCHEMA_MISSING, Account, TokenState
from reconciler.engine.run import Run
from reconciler.model.errors import DatabaseError, FivrecError
from reconciler.model.records import dataclass
from reconciler.model.types import Desired
from reconciler.web.access_log import address_of, facts_of
from reconciler.web.login import ADMIN, Denied, admin_only, record_call
from reconciler.web.openapi import Operation, checked_body, checked_query
from reconciler.web.problems import build_response
from reconciler.web.service import Service
from reconciler.web.tokens import Bearer, TokenRejected

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Call:
    """What an endpoint works with. `account` and `bearer` are None in public endpoints."""

    service: Service
    desired: Desired
    run: Run
    address: str
    query: Mapping[str, Any]
    body: Mapping[str, Any]
    path: str
    account: Account | None = None
    bearer: Bearer | None = None
    if_match: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON document and its status; `data` is None with 204."""

    data: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Endpoint = Callable[[Call], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Rules:
    """`open_when_locked`: allowed while the instance is suspended. `audited`: recorded before it is done.
    `makes_schema`: in a database made by the app, the call creates the audit log, so its changes are the first rows
    there."""

    open_when_locked: bool = False
    audited: bool = False
    makes_schema: bool = False


def handler(
    service: Service, operation: Operation, endpoint: Endpoint, rules: Rules
) -> Callable[[Request], Awaitable[Response]]:
    """The route's handler. Every expected error becomes a problem document; the server reports unexpected ones."""

    async def answer(request: Request) -> Response:
        under = "/instances/{instance}" if "instance" in request.path_params else ""
        facts_of(request).route = under + operation.path

        def failed(exc: FivrecError) -> Response:
            facts_of(request).login_failed = operation.id == "login" and isinstance(exc, Denied)
            return build_response(exc)

        return await in_time(service.run, _answered(service, operation, endpoint, rules, request), failed)

    return answer


async def _answered(
    service: Service, operation: Operation, endpoint: Endpoint, rules: Rules, request: Request
) -> Response:
    desired, facts = find_instance(service, request), facts_of(request)
    facts.instance = desired.instance if operation.id != "health" else None
    address = address_of(request)
    account, bearer = None, None
    if not operation.public:
        account, bearer = await _caller(service, desired, request, rules)
    facts.actor = account.email if account else None
    query = checked_query(operation, request.query_params)
    body = checked_body(operation, await _read(request)) if operation.body else {}
    run = replace(service.run_for(address, account), id=facts.id)
    if rules.audited:
        await _record(desired, run, operation, rules, address)
    if_match = request.headers.get("if-match")
    call = Call(service, desired, run, address, query, body, operation.path, account, bearer, if_match)
    given = await endpoint(call)
    headers = {"Cache-Control": "no-store", **given.headers}
    if given.data is None:
        return Response(status_code=given.status, headers=headers)
    return JSONResponse(given.data, given.status, headers)


async def _record(desired: Desired, run: Run, operation: Operation, rules: Rules, address: str) -> None:
    try:
        await record_call(desired, run, f"{operation.method} {operation.path}", operation.id, address)
    except DatabaseError as exc:
        if exc.code != SCHEMA_MISSING or not rules.makes_schema:
            raise


def find_instance(service: Service, request: Request) -> Desired:
    name = request.path_params.get("instance")
    if name is None and (service.single or request.url.path == "/healthz"):
        return next(iter(service.instances.values()))  # /healthz belongs to no instance
    found = service.instances.get(name or "")
    if found is None:
        raise FivrecError("no such instance is served here", hint="/ lists them", code="instance_unknown")
    return found


async def _caller(service: Service, desired: Desired, request: Request, rules: Rules) -> tuple[Account, Bearer]:
    """The administrator to whom the token belongs. Role, lock and password are looked up now, not taken from the
    token."""
    bearer = _bearer(service, desired, request)
    standing = await service.standing(desired, bearer.user_id, bearer.jti)
    account = standing.account
    if account is None or standing.revoked or not service.tokens.matches_mark(bearer.mark, account):
        raise unauthorized()
    if account.role != ADMIN:
        raise admin_only()
    if standing.locked and not rules.open_when_locked:
        raise locked(desired, standing)
    return account, bearer


def _bearer(service: Service, desired: Desired, request: Request) -> Bearer:
    given = request.headers.getlist("authorization")
    scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    if scheme.lower() != "bearer" or not token.strip():
        raise unauthorized()
    try:
        return service.tokens.read_bearer(token.strip(), desired)
    except TokenRejected as exc:
        service.run.log.debug("token", f"🔐 token rejected: {exc.message}", instance=desired.instance)
        raise unauthorized() from exc


async def in_time(run: Run, work: Awaitable[Response], failed: Callable[[FivrecError], Response]) -> Response:
    """The answer within the run's time limit; that of `failed` to an expected error, and to work that takes longer."""
    try:
        async with asyncio.timeout(run.timeout_s):
            return await work
    except FivrecError as exc:
        return failed(exc)
    except TimeoutError:
        said = f"not done within {run.timeout_s:g} s; what was not committed was rolled back"
        return failed(FivrecError(said, code="timeout"))


def unauthorized() -> Denied:
    """The seed's message (Troubleshooting 3); it does not say why a token was rejected."""
    return Denied(
        "Authorization token required: it is missing, expired or not one of this instance",
        hint="log in again for a new one: POST /api/auth/login",
        code="token_required",
    )


def locked(desired: Desired, standing: TokenState) -> Denied:
    """Says that it is suspended only if it is: somebody may have set the lock by hand, or it outlasts a suspension."""
    said = f"access to {desired.instance} is locked until Fi.V Connect says that it is active"
    if standing.status == "suspended":
        said = f"{desired.instance} is suspended: access is locked"
    return Denied(
        said,
        hint="settle what is open with Fi.V Connect, then POST /api/instance/check-status",
        code="instance_locked",
    )


async def _read(request: Request) -> bytes:
    body = await request.body()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and kind != JSON:
        raise FivrecError(f"the body is not {JSON}", hint=f"send Content-Type: {JSON}", code="body_not_json")
    return body
