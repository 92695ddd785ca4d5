"""Reports to render: everything that can be in one, and what a hostile database or panel might put there."""

from __future__ import annotations

from typing import Any

from reconciler.model.changes import Accepted, Change, Conflict, Create, Deactivate, FieldChange, Former, Remove, Update
from reconciler.model.secret import Secret
from reconciler.model.types import ConnectView, ErrorInfo, Key, Resource
from reconciler.planning.plan import Plan
from reconciler.planning.report import InstanceReport, Outcome, Report
from tests.support.examples import NOON, view

PASSWORD = "hunter2-the-secret"
ADMIN = Resource(Key("admin", "a@e.com"), {"name": "A", "password": Secret(PASSWORD), "role": "admin"})
SALES = Resource(Key("queue", "Sales"), {"description": "new", "is_active": True})
BASIC = Resource(Key("plan", "plan_basic"), {"is_active": True})
SPARE = Resource(Key("queue", "Spare"), {"description": "spare"})

CREATED = Create(
    ADMIN.key, (FieldChange("name", None, "A"), FieldChange("password", sensitive=True)), "manifest", "new", ADMIN
)
UPDATED = Update(SALES.key, (FieldChange("description", "old", "new"),), "manifest", "drift", SALES, SALES)
SWITCHED_OFF = Deactivate(BASIC.key, (FieldChange("is_active", True, after=False),), "connect", "intent", BASIC)
REMOVED = Remove(SPARE.key, (FieldChange("description", "spare", None),), "manifest", "new", SPARE)
CHANGES: tuple[Change, ...] = (CREATED, UPDATED, SWITCHED_OFF, REMOVED)
CONFLICT = Conflict(Key("status", "client-a"), "status", "active", "suspended")
DOWN = ErrorInfo("connect_unreachable", "Fi.V Connect cannot be reached", "check the network")


def ended(name: str, outcome: Outcome, changes: tuple[Change, ...] = (), **more: Any) -> InstanceReport:
    """Returns an instance's report. Keywords: `conflicts`, `accepted`, `former` and the fields of InstanceReport."""
    beside = (more.pop(name, ()) for name in ("conflicts", "accepted", "former"))
    plan = Plan(name, "production", changes, *beside)
    digest = plan.digest() if changes else None
    return InstanceReport(name, "production", outcome, 398, plan=plan, digest=digest, **more)


CHANGED = ended(
    "client-a",
    "changed",
    CHANGES,
    conflicts=(CONFLICT,),
    accepted=(Accepted(Key("queue", "Night"), "description", "a campaign"),),
    connect=view(),
    resources=9,
    notes=("1 queue row would be removed: Spare",),
    path="manifests/a.yaml",
    line=3,
)
IN_SYNC = ended("client-b", "in_sync", connect=view(), resources=4, path="manifests/b.yaml", line=1)
DEGRADED = ended(
    "client-c",
    "degraded",
    (UPDATED,),
    exit_code=5,
    connect=ConnectView(status_error=DOWN),
    error=DOWN,
    path="manifests/c.yaml",
    line=1,
)
SKIPPED = ended("client-d", "skipped", (UPDATED,), path="manifests/d.yaml", line=1)


def report(*instances: InstanceReport, command: str = "diff", **more: Any) -> Report:
    return Report(command, "run-1", NOON, 412, instances, **more)


HOSTILE = (
    "```\n# owned\n```",
    "````````````",
    "</details></code><script>alert(1)</script>",
    "<!-- --><img src=x onerror=alert(1)>",
    "a | b | c\n| d |",
    "`code` **bold** _it_ ~~no~~ [link](http://evil.example) ![i](http://evil.example/x.png)",
    "@octocat @org/team #123 GH-1 deadbeefdeadbeefdeadbeefdeadbeefdeadbeef http://evil.example www.evil.example",
    "\x1b[31mred\x1b[0m\r\n\x07\x00\x9b2J",
    "\u202egnp.exe\u2066 \u200b\ufeff\u2028\u2029",
    "]]>&amp;&#64;octocat<x a='b' \"c\">",
    "\ud800 lone",
    "- item\n+ item\n    indented\n\n---\n===\n> quote\n1. one",
    "\\@octocat \\` \\|",
)


def hostile(text: str) -> Report:
    """Returns a report with the text in every place that foreign text can reach."""
    key = Key("queue", text)
    resource = Resource(key, {"description": text})
    changes: tuple[Change, ...] = (
        Create(key, (FieldChange("description", None, text),), "manifest", "new", resource),
        Update(key, (FieldChange("value", {text: [text]}, text),), "manifest", "drift", resource, resource),
        Remove(key, (FieldChange("description", text, None),), "manifest", "drift", resource),
    )
    item = ended(
        "client-a",
        "changed",
        changes,
        conflicts=(Conflict(key, f"enabled_features.{text}", text, text),),
        accepted=(Accepted(key, "description", text),),
        former=(Former(key, text, NOON),),
        notes=(text,),
        error=ErrorInfo("database_error", text, text),
        path="manifests/a.yaml",
        line=1,
    )
    return report(item)
