"""The model's terms as the API's camelCase JSON, and the validators (ETags) of answers. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from reconciler.connect.responses import ConnectDatabase
from reconciler.database.status_queries import CheckLog, StatusView
from reconciler.model.patterns import late
from reconciler.model.secret import MASK
from reconciler.model.types import ConnectPlan, Desired, InstanceStatus, rfc3339

UNKNOWN = "unknown"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = -62_135_596_800_000_000, 253_402_300_799_999_999
"""Microseconds to the first and the last moment that a `datetime` can represent."""
_HUMP = late("_([a-z])")


def camel(name: str) -> str:
    return _HUMP.sub(lambda found: found.group(1).upper(), name)


def format_moment(at: datetime | None) -> str | None:
    return rfc3339(at, "milliseconds") if at else None


def plan(found: ConnectPlan) -> dict[str, Any]:
    """As Connect sends it (seed: Planos Disponíveis)."""
    return {camel(name): list(value) if name == "features" else value for name, value in asdict(found).items()}


def database(found: ConnectDatabase) -> dict[str, Any]:
    """As Connect sends it; its keys are snake_case there too (seed: Bancos de Dados da Instância)."""
    return asdict(found)


def config(view: StatusView, desired: Desired) -> dict[str, Any]:
    """Without the key (seed: Configuração da Instância)."""
    return {
        "instanceId": view.instance,
        "connectApiUrl": view.connect_api_url,
        "checkIntervalMinutes": view.check_interval_minutes,
        "environment": desired.environment.name,
        "status": view.status or UNKNOWN,
        "billingStatus": view.billing_status or UNKNOWN,
        "enabledFeatures": dict(view.enabled_features),
        "isLocked": view.is_locked,
        "lastStatusCheck": format_moment(view.last_status_check),
        "instanceKey": MASK,
    }


def check(status: InstanceStatus, *, locked: bool, took_ms: int | None, at: datetime) -> dict[str, Any]:
    return {
        "instanceId": status.instance_id,
        "success": True,
        "status": status.status,
        "billingStatus": status.billing_status,
        "enabledFeatures": dict(status.enabled_features),
        "isLocked": locked,
        "responseTimeMs": took_ms,
        "checkedAt": format_moment(at),
    }


def status_log(row: CheckLog) -> dict[str, Any]:
    return {
        "id": row.id,
        "checkType": row.check_type,
        "success": row.success,
        "statusReceived": row.status_received,
        "errorMessage": row.error_message,
        "responseTime": row.response_time_ms,
        "createdAt": rfc3339(row.at, "auto"),
    }


def build_cursor(row: CheckLog) -> str:
    """A row's position among the checks, for the next page: microseconds since 1970, and its id in hex."""
    return f"{(row.at - _EPOCH) // timedelta(microseconds=1)}.{row.id.encode().hex()}"


def row_at(cursor: str) -> CheckLog | None:
    """The position in a cursor (the document has its pattern); None if it is after the calendar's end, so after every
    row."""
    at, _, row = cursor.partition(".")
    known = bytes.fromhex(row).decode("utf-8", "replace").replace("\0", "")
    if int(at) > _LAST:
        return None
    since = _EPOCH + timedelta(microseconds=max(int(at), _FIRST))
    return CheckLog(known, since, "", success=False, status_received=None, error_message=None, response_time_ms=None)


def setup(
    admin_email: str, company: str | None, queues: Sequence[str], at: datetime, *, password_kept: bool, note: str
) -> Mapping[str, Any]:
    """As setup-new-instance.js answers; the password is not repeated. `password_kept`: the existing one stays. Does not
    say whether a kept password equals the given one: any administrator could guess the others' passwords that way."""
    answer = {
        "success": True,
        "databaseSetup": True,
        "adminCredentials": {"email": admin_email, "password": None, "passwordKept": password_kept},
        "companySettings": {"name": company},
        "defaultQueues": list(queues),
        "timestamp": format_moment(at),
    }
    return {**answer, "note": note} if note else answer


def etag_of(content: bytes | str) -> str:
    """A strong validator (RFC 9110, 8.8 and 13.1): equal only for equal bytes."""
    raw = content.encode() if isinstance(content, str) else content
    return f'"{hashlib.sha256(raw).hexdigest()[:32]}"'


def matches(header: str, etag: str) -> bool:
    """Whether If-Match or If-None-Match names this validator. A weak one is compared without its mark."""
    named = [word.strip().removeprefix("W/") for word in header.split(",")]
    return header.strip() == "*" or etag in named
