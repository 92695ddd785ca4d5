"""An instance's report as one document, and back: how a worker sends it to `fivrec fleet apply`. Pure.

The document holds what reports show, so sensitive fields have no value in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from reconciler.model.changes import Accepted, Change, Conflict, Create, Deactivate, FieldChange, Former, Remove, Update
from reconciler.model.types import ConnectView, ErrorInfo, InstanceStatus, Key, Resource, Value
from reconciler.planning.plan import Plan
from reconciler.planning.report import InstanceReport, instance_as_json


def as_document(report: InstanceReport) -> dict[str, Value]:
    """Returns the report as in schemas/report.v1, and what only the exit code and the recap need."""
    beside = {"exit_code": report.exit_code, "resources": report.resources, "attempted": report.attempted}
    return {**instance_as_json(report), **beside}


def from_document(document: Mapping[str, Any]) -> InstanceReport:
    instance, environment = document["instance"], document["environment"]
    plan = Plan(
        instance,
        environment,
        changes=tuple(_change(item) for item in document["changes"]),
        conflicts=tuple(
            Conflict(_key(item), item["field"], item["expected"], item["observed"]) for item in document["conflicts"]
        ),
        former=tuple(
            Former(_key(item), item["run_id"], datetime.fromisoformat(item["at"])) for item in document["former"]
        ),
        accepted=tuple(map(_accepted, document["accepted"])),
    )
    return InstanceReport(
        instance=instance,
        environment=environment,
        outcome=document["outcome"],
        duration_ms=document["duration_ms"],
        exit_code=document["exit_code"],
        connect=_view(instance, document["connect"]),
        plan=plan,
        resources=document["resources"],
        error=_error(document["error"]) if document["error"] else None,
        row=document.get("row", ""),
        digest=document["digest"],
        audit_head=document["audit_head"],
        notes=tuple(document["notes"]),
        attempted=document["attempted"],
        since={_key(item): datetime.fromisoformat(item["since"]) for item in document["changes"] if "since" in item},
    )


def _error(item: Mapping[str, Any]) -> ErrorInfo:
    return ErrorInfo(item["code"], item["message"], item["hint"])


def _accepted(item: Mapping[str, Any]) -> Accepted:
    until = date.fromisoformat(item["until"]) if item.get("until") else None
    return Accepted(_key(item), item["field"], item["reason"], until)


def _key(item: Mapping[str, Any]) -> Key:
    return Key(item["kind"], item["name"])


def _change(item: Mapping[str, Any]) -> Change:
    key, source, cause = _key(item), item["source"], item["cause"]
    fields = tuple(
        FieldChange(one["field"], one.get("before"), one.get("after"), one.get("sensitive", False))
        for one in item["fields"]
    )
    row = Resource(key, {}, source)
    match item["action"]:
        case "create":
            return Create(key, fields, source, cause, row)
        case "update":
            return Update(key, fields, source, cause, row, row)
        case "deactivate":
            return Deactivate(key, fields, source, cause, row)
        case _:
            return Remove(key, fields, source, cause, row)


def _view(instance: str, shown: Mapping[str, Any] | None) -> ConnectView | None:
    if shown is None:
        return None
    known = shown["status"] is not None and shown["billing_status"] is not None
    status = InstanceStatus(instance, shown["status"], shown["billing_status"], {}) if known else None
    return ConnectView(status=status, received=shown["status"], response_time_ms=shown["response_time_ms"])
