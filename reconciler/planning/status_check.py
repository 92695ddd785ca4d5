"""Judge Connect's answer: the result of a status check, and the alerts for what has changed. Pure."""

from __future__ import annotations

from typing import Literal, TypeAlias

from reconciler.model.kinds.status import is_locked_by
from reconciler.model.records import dataclass
from reconciler.model.types import CheckType, ConnectView, ErrorInfo, LastCheck, State, Value

WRONG_INSTANCE = "connect_wrong_instance"

AlertName: TypeAlias = Literal[
    "suspended",
    "payment_pending",
    "overdue",
    "connect_unreachable",
    "recovered",
    "not_converged",
    "failing",
    "drift_found",
    "drift_repaired",
    "fight",
    "manifest_broken",
    "part_failed",
]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One status check, as status_check_logs stores it."""

    check_type: CheckType
    success: bool
    status_received: str | None
    error: ErrorInfo | None
    response_time_ms: int | None


def judge(view: ConnectView, check_type: CheckType) -> CheckResult:
    """A check succeeds if the status is known; what was received is kept even if it isn't."""
    received = view.status.status if view.status else view.received
    return CheckResult(check_type, view.status is not None, received, view.status_error, view.response_time_ms)


def is_repeat(last: LastCheck | None, check_type: CheckType, own: str | None, fresh_s: float) -> bool:
    """Whether a check would repeat one that another watch recorded less than `fresh_s` ago.

    A startup check only repeats another startup check. No check repeats a failed one, or one from the future: the
    database's clock was set back since, and may be behind it for days.
    """
    if last is None or not last.success or last.id == own or not 0 <= last.age_s < fresh_s:
        return False
    return check_type in ("scheduled", last.check_type)


def is_made(last: LastCheck | None, own: str | None, slot_age_s: float) -> bool:
    """Whether a slot's failed check was already recorded by a turn that was lost before it could report it."""
    return last is not None and not last.success and last.id != own and is_of_slot(last, slot_age_s)


def is_of_slot(last: LastCheck, slot_age_s: float) -> bool:
    """Whether the check was recorded since the slot began, by a turn of this slot."""
    return 0 <= last.age_s < slot_age_s


def problem(view: ConnectView) -> ErrorInfo | None:
    """Returns why something from Connect is missing, or None: the status comes first, then the plans."""
    return view.status_error or view.plans_error


@dataclass(frozen=True, slots=True)
class KnownStatus:
    """What is known about an instance between two checks; the fields are None if Connect has never answered."""

    status: str | None = None
    billing_status: str | None = None
    locked: bool = False
    reachable: bool = True


def known_status(state: State, *, answered: bool, reachable: bool = True) -> KnownStatus:
    """Returns the status that the database holds."""
    row = next((resource for key, resource in state.items() if key.kind == "status"), None)
    if row is None or not answered:
        return KnownStatus(reachable=reachable)
    fields: dict[str, Value] = dict(row.fields)
    return KnownStatus(fields.get("status"), fields.get("billing_status"), bool(fields.get("is_locked")), reachable)


def status_after(before: KnownStatus, view: ConnectView) -> KnownStatus:
    """Returns the status after this answer. Unknown is not absent: a failed check changes only `reachable`."""
    if view.status is None:
        return KnownStatus(before.status, before.billing_status, before.locked, reachable=False)
    word = is_locked_by(view.status)
    locked = before.locked if word is None else word
    return KnownStatus(view.status.status, view.status.billing_status, locked, reachable=True)


def alerts(before: KnownStatus, after: KnownStatus) -> tuple[AlertName, ...]:
    """Returns alerts for transitions only, the gravest first; recovered if Connect answers again or all is well."""
    found: list[AlertName] = []
    if after.status == "suspended" and before.status != "suspended":
        found.append("suspended")
    if after.status == "pending_payment" and before.status != "pending_payment":
        found.append("payment_pending")
    if after.billing_status == "overdue" and before.billing_status != "overdue":
        found.append("overdue")
    if before.reachable and not after.reachable:
        found.append("connect_unreachable")
    if recovery(before, after):
        found.append("recovered")
    return tuple(found)


def recovery(before: KnownStatus, after: KnownStatus) -> str:
    """Returns what is well again, in words, or "" if nothing is."""
    found = []
    if after.reachable and not before.reachable:
        found.append("Fi.V Connect answers again")
    if needs_attention(before) and not needs_attention(after):
        found.append(f"{after.status}, {after.billing_status}")
    return "; ".join(found)


def needs_attention(standing: KnownStatus) -> bool:
    """Whether `check` ends with 6: suspended, pending payment or overdue."""
    return standing.status in ("suspended", "pending_payment") or standing.billing_status == "overdue"
