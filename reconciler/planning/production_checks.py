"""The checks of a production test: judge one plan and one reading. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field

from reconciler.model.records import dataclass
from reconciler.model.types import ConnectView, Desired, ErrorInfo, Snapshot, is_embedded
from reconciler.planning.guards import STRONG_LOGIN
from reconciler.planning.plan import Plan


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its name, whether it passed, and what was found."""

    name: str
    passed: bool
    message: str


@dataclass(frozen=True, slots=True)
class Found:
    """What the test found beside the plan. `login` says whether the declared password is the stored one, None if none
    is declared; `in_the_open` names users whose password is stored in clear text; `databases` are notes on what Connect
    lists; `troubles` maps a check to the error that kept its part from being read."""

    leaks: tuple[str, ...] = ()
    login: bool | None = None
    usage_problem: str | None = None
    in_the_open: tuple[str, ...] = ()
    databases: tuple[str, ...] = ()
    troubles: Mapping[str, ErrorInfo] = field(default_factory=dict)


def judge_production(
    desired: Desired, view: ConnectView, snapshot: Snapshot, plan: Plan, found: Found | None, *, allow_embedded: bool
) -> tuple[Check, ...]:
    """Returns every check, in display order; only that of the schema if no other could be made."""
    if found is None:
        return (_schema(snapshot, plan),)
    checks = (
        _schema(snapshot, plan),
        _isolation(desired, plan, found),
        _admin(desired, plan, found),
        _passwords(found),
        _kind("queues", "queue", plan, "as declared"),
        _plans(desired, view, plan),
        _key(desired, plan),
        _usage(found),
        _connect(desired, view, found.databases, allow_embedded=allow_embedded),
    )
    troubles = found.troubles
    return tuple(_failed(check.name, troubles[check.name]) if check.name in troubles else check for check in checks)


def is_readable(snapshot: Snapshot, schema_version: int) -> bool:
    """Whether the database can be checked: it has every table and column of this fivrec."""
    return snapshot.schema_version == schema_version and all(": " in name for name in snapshot.missing)


def _good(name: str, message: str) -> Check:
    return Check(name, passed=True, message=message)


def _bad(name: str, message: str) -> Check:
    return Check(name, passed=False, message=message)


def _judged(name: str, wrong: Sequence[str], good: str) -> Check:
    return _bad(name, "; ".join(wrong)) if wrong else _good(name, good)


def _failed(name: str, problem: ErrorInfo) -> Check:
    return _bad(name, problem.words)


def _changes(plan: Plan, *kinds: str) -> list[str]:
    return [
        f"{change.key} is to {change.action}" + _fields([item.field for item in change.fields])
        for change in plan.changes
        if change.key.kind in kinds
    ]


def _fields(names: Sequence[str]) -> str:
    return f" ({', '.join(names)})" if names else ""


def _kind(name: str, kind: str, plan: Plan, words: str) -> Check:
    managed = plan.managed.get(kind)
    return _judged(name, _changes(plan, kind), f"{len(managed.resources)} {words}" if managed else "not managed")


def _schema(snapshot: Snapshot, plan: Plan) -> Check:
    changes = _changes(plan, "database", "schema")
    if changes:
        # Without --deep, an apply does not repair what only a deep reading sees.
        mending = "fivrec apply --deep" if snapshot.missing else "fivrec apply"
        return _bad("schema", f"{'; '.join(changes)}: run `{mending}` once")
    if not snapshot.applied:  # a rehearsal would judge rows that nobody has made
        said = f"version {snapshot.schema_version}, but nothing was ever applied to it, so nothing else can be tested"
        return _bad("schema", f"{said}: run `fivrec apply` once")
    note = f"; {STRONG_LOGIN}" if snapshot.strong_login else ""
    return _good("schema", f"version {snapshot.schema_version}, nothing missing{note}")


def _isolation(desired: Desired, plan: Plan, found: Found) -> Check:
    wrong, level = [*found.leaks, *_changes(plan, "environment")], desired.environment.isolation
    return _judged("isolation", wrong, f"{level}: a probe row in each direction was refused")


def _admin(desired: Desired, plan: Plan, found: Found) -> Check:
    managed = desired.managed.get("admin")
    if managed is None or not managed.resources:
        return _good("admin", "not managed")
    (admin,) = managed.resources
    if wrong := _changes(plan, "admin"):
        return _bad("admin", "; ".join(wrong))
    if found.login:
        return _good("admin", f"{admin.key.name} logs in with the declared password")
    if found.login is False and admin.on_create:
        return _good("admin", f"{admin.key.name} is there; its password is not the declared one, and is kept")
    return _bad("admin", f"{admin.key.name} can't log in with the declared password")


def _passwords(found: Found) -> Check:
    if found.in_the_open:
        return _bad("passwords", f"in clear text in users.password: {', '.join(found.in_the_open)}")
    return _good("passwords", "none is in plain text")


def _plans(desired: Desired, view: ConnectView, plan: Plan) -> Check:
    if desired.plans_from_connect and view.plans is None:
        return _failed("plans", view.plans_error or ErrorInfo("connect_unreachable", "Connect returned no plans"))
    return _kind("plans", "plan", plan, "as at Connect" if desired.plans_from_connect else "as declared")


def _key(desired: Desired, plan: Plan) -> Check:
    good = "the stored instance key decrypts and is the declared one"
    return _judged("key", _changes(plan, "config"), good if "config" in desired.managed else "not managed")


def _usage(found: Found) -> Check:
    if found.usage_problem:
        return _bad("usage", found.usage_problem)
    return _good("usage", "the usage report is as documented")


def _connect(desired: Desired, view: ConnectView, notes: Sequence[str], *, allow_embedded: bool) -> Check:
    if desired.connect is None:
        return _good("connect", "not managed")
    if is_embedded(desired.connect.api_url) and not allow_embedded:
        return _bad("connect", 'production does not use "embedded:" (set connect_api_url, or --allow-embedded)')
    if view.status is None:
        return _failed("connect", view.status_error or ErrorInfo("connect_unreachable", "Connect returned no status"))
    said = f"{view.status.status}, {view.status.billing_status}"
    if view.status.status == "suspended":
        return _bad("connect", f"{said}: access is blocked")
    return _good("connect", "; ".join([f"{said}, {view.response_time_ms} ms", *notes]))
