"""Fi.V Connect's documented API as a function: a request and the state give an answer. Pure.

Seed: "Endpoints da API Fi.V Connect", "Headers Obrigatórios", and the curl commands of "Comandos de Diagnóstico", which
ask for plans with X-Instance-Key alone.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from dataclasses import field
from typing import Any
from urllib.parse import unquote

from reconciler.connect.emulator.state import EmulatorState, Instance
from reconciler.model.records import dataclass

_JSON = "application/json"
_COUNTS = ("totalUsers", "totalConversations", "totalClients", "totalQueues", "activeConversations")


@dataclass(frozen=True, slots=True)
class Request:
    """`path` is as sent, still percent-encoded; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """`report`: a usage report to count, as (instance, Idempotency-Key, report)."""

    status: int
    body: bytes
    content_type: str = _JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    report: tuple[str, str, Mapping[str, Any]] | None = None


def answer(request: Request, state: EmulatorState) -> Answer:
    match request.path.strip("/").split("/"):
        case ["healthz"]:
            return Answer(200, _body({"status": "ok"}))
        case ["api", "v1", "instances", "status"]:
            return _guarded(request, state, "GET", bearer=True)
        case ["api", "v1", "plans"]:
            return _guarded(request, state, "GET", bearer=False)
        case ["api", "v1", "instances", name, "databases"]:
            return _guarded(request, state, "GET", bearer=True, named=unquote(name))
        case ["api", "v1", "instances", name, "usage"]:
            return _guarded(request, state, "POST", bearer=True, named=unquote(name))
        case _:
            return _error(404, "Not found")


def _guarded(request: Request, state: EmulatorState, method: str, *, bearer: bool, named: str | None = None) -> Answer:
    """Check method, key and instance first, then a fault that was set, then build the answer."""
    if request.method != method:
        return Answer(405, _body({"error": "Method not allowed"}), headers={"Allow": method})
    key = request.headers.get("x-instance-key", "")
    sent = request.headers.get("authorization", "")
    if not key or (sent != f"Bearer {key}" if bearer or sent else False):
        return _error(401, "Missing instance key")
    name = _owner(key, state)
    if name is None:
        # A known instance with another key is not the same as an instance that was never set up.
        unknown = named is not None and named not in state.instances
        return _error(404, "Instance not configured") if unknown else _error(401, "Missing instance key")
    if named is not None and named != name:
        known = named in state.instances
        return _error(403, "Missing instance key") if known else _error(404, "Instance not configured")
    instance = state.instances[name]
    found = _faulty(request, name, instance) or _whole(request, name, instance, state)
    return Answer(found.status, found.body, found.content_type, found.headers, instance.fault.delay_s, found.report)


def _owner(key: str, state: EmulatorState) -> str | None:
    owner = None
    for name, instance in sorted(state.instances.items()):
        if hmac.compare_digest(instance.key.reveal().encode(), key.encode()):
            owner = name
    return owner


def _faulty(request: Request, name: str, instance: Instance) -> Answer | None:
    fail = instance.fault.fail
    if fail.isdigit():
        return _error(int(fail), "Internal server error" if fail == "500" else "Failed as told")
    nonsense = {
        "html": Answer(200, b"<!doctype html><title>Login</title>", "text/html"),
        "list": Answer(200, _body([{"instanceId": name}])),
        "redirect": Answer(302, b"", headers={"Location": "https://login.fiv-connect.com/"}),
        "garbage": Answer(200, b'{"instanceId": \xff\xfe'),
    }
    if fail == "other-instance" and request.path.rstrip("/").endswith("/status"):
        return Answer(200, _status(f"not-{name}", instance))
    return nonsense.get(fail)


def _whole(request: Request, name: str, instance: Instance, state: EmulatorState) -> Answer:
    match request.path.strip("/").split("/")[-1]:
        case "status":
            return Answer(200, _status(name, instance))
        case "plans":
            return Answer(200, _body(state.current_plans()))
        case "databases":
            return Answer(200, _body([_database(name, instance)]))
        case _:
            return _usage(request, name, instance)


def _status(name: str, instance: Instance) -> bytes:
    return _body(
        {
            "instanceId": name,
            "status": instance.status,
            "billingStatus": instance.billing_status,
            "enabledFeatures": dict(instance.enabled_features),
        }
    )


def _database(name: str, instance: Instance) -> dict[str, Any]:
    """One database, with the seed's example values."""
    return {
        "id": f"db_{name}_main",
        "name": "Main Database",
        "type": "postgresql",
        "host": "db.fiv-connect.com",
        "port": 5432,
        "database": f"fivapp_{name}",
        "status": "active",
        "created_at": instance.created_at,
        "size_mb": 250,
        "connection_limit": 100,
        "backup_enabled": True,
        "last_backup": instance.created_at,
    }


def _usage(request: Request, name: str, instance: Instance) -> Answer:
    try:
        report = json.loads(request.body)
    except (ValueError, RecursionError):
        return _error(400, "The usage report is not JSON")
    wrong = _wrong_in(report, name)
    if wrong:
        return _error(400, f"The usage report has no valid {wrong}")
    key = request.headers.get("idempotency-key", "")
    counted = key not in instance.reports
    body = _body({"success": True, "counted": counted})
    return Answer(200, body, report=(name, key, report) if counted else None)


def _wrong_in(report: object, name: str) -> str:
    """The first key of the seed's report that is missing or has the wrong type; "" if none."""
    if not isinstance(report, dict) or report.get("instanceId") != name:
        return "instanceId"
    for count in _COUNTS:
        value = report.get(count)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            return count
    if report.get("environment") not in ("production", "development"):
        return "environment"
    if not isinstance(report.get("lastActivity", 0), str | None):
        return "lastActivity"
    features = report.get("features")
    known = isinstance(features, dict) and all(isinstance(on, bool) for on in features.values())
    return "" if known else "features"


def _error(status: int, message: str) -> Answer:
    return Answer(status, _body({"error": message}))


def _body(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
