"""Expected errors as problem details (RFC 9457), with the seed's messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import JSONResponse

from reconciler.model.errors import FivrecError
from reconciler.web.operations import Owned

TYPE = "application/problem+json"

_STATUS = {
    "token_required": 401,
    "token_rejected": 401,
    "login_failed": 401,
    "admin_only": 403,
    "cross_site": 403,
    "operator_only": 403,
    "sso_refused": 403,
    "sso_no_role": 403,
    "instance_not_configured": 404,
    "instance_unknown": 404,
    "not_found": 404,
    "schema_missing": 404,
    "database_missing": 404,
    "method_not_allowed": 405,
    "manifest_owned": 409,
    "guard": 409,
    "admin_email_taken": 409,
    "ambiguous": 409,
    "not_converged": 409,
    "suspended_manifest": 409,
    "counts_changed": 409,
    "config_changed": 412,
    "body_too_large": 413,
    "body_not_json": 415,
    "confirmation_required": 428,
    "instance_locked": 423,
    "login_limited": 429,
    "usage": 400,
    "sso_unavailable": 503,
    "timeout": 504,
}
_TITLES = {
    401: "Authorization token required",
    403: "Administrators only",
    404: "Instance not configured",
    405: "Method not allowed",
    409: "Refused",
    412: "Changed meanwhile",
    413: "Body too large",
    415: "Body is not JSON",
    423: "Access is locked",
    428: "Confirmation required",
    429: "Too many failed logins",
    400: "Request does not fit",
    502: "Fi.V Connect failed",
    503: "Not available now",
    504: "Not done in time",
}
_BY_CODE = {
    "login_failed": "Login failed",
    "manifest_owned": "Declared by the manifest",
    "not_found": "Not found",
    "instance_unknown": "Not found",
    "connect_denied": "Missing instance key",
    "connect_not_configured": "Instance not configured",
}
_BY_EXIT_CODE = {3: 409, 4: 503, 64: 400, 65: 400}


class BadRequest(FivrecError):
    """The request is invalid; `problems` contains everything that is wrong, as (path, message)."""

    code = "usage"

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{path}: {message}" if path else message for path, message in self.problems))


class ConfirmationRequired(FivrecError):
    """What would be deleted, and the token that allows it."""

    code = "confirmation_required"

    def __init__(self, counts: Mapping[str, int], token: str) -> None:
        super().__init__("the deletion must be confirmed", hint="send it again with ?confirm= and confirmationToken")
        self.counts, self.token = dict(counts), token


def http_status(exc: FivrecError) -> int:
    if exc.code.startswith("connect_"):
        return 502
    return _STATUS.get(exc.code) or _BY_EXIT_CODE.get(exc.exit_code, 503)


def build_problem(exc: FivrecError) -> dict[str, Any]:
    status = http_status(exc)
    title = _BY_CODE.get(exc.code) or (exc.message if exc.code == "connect_http_error" else _TITLES[status])
    problem: dict[str, Any] = {
        "type": f"urn:fivrec:problem:{exc.code}",
        "title": title,
        "status": status,
        "code": exc.code,
        "detail": exc.message,
    }
    if exc.hint:
        by_api = "POST /api/instance/config, or " if exc.code == "schema_missing" else ""
        problem["hint"] = by_api + exc.hint
    match exc:
        case BadRequest():
            problem["problems"] = [{"path": path, "message": message} for path, message in exc.problems]
        case Owned():
            problem["place"] = exc.place
        case ConfirmationRequired():
            problem |= {"counts": exc.counts, "confirmationToken": exc.token}
    if exc.code == "guard" and "--accept " in exc.message:
        problem["digest"] = exc.message.rpartition("--accept ")[2]
    return problem


def build_response(exc: FivrecError) -> JSONResponse:
    problem = build_problem(exc)
    headers = {"Cache-Control": "no-store"}
    match problem["status"]:
        case 401:
            headers["WWW-Authenticate"] = 'Bearer realm="fivrec"'
        case 429:
            headers["Retry-After"] = "900"
        case 503:
            headers["Retry-After"] = "5"
    return JSONResponse(problem, problem["status"], headers, TYPE)
