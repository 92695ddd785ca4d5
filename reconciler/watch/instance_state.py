"""One instance under watch: what is known between its turns, and what the end of a turn means for the next."""

from __future__ import annotations

import random
import uuid
from dataclasses import field

from reconciler.engine.run import CycleContext
from reconciler.manifest.loader import Manifest
from reconciler.model.records import dataclass
from reconciler.model.types import CheckType
from reconciler.planning.flapping import Flapping
from reconciler.planning.report import FAILED, PARTLY, CycleResult, InstanceReport
from reconciler.planning.schedule import LAST_RETRY_S, next_slot, retry_delay
from reconciler.planning.status_check import KnownStatus

FRESH = 0.9
"""A check by another watch counts for this interval if its age is less than this share of it."""
FRESH_START_S = 2.0
BEHIND = 0.1
"""A watch that follows another one stays behind it by this share of the interval."""
SOON = 0.4
"""Two checks are too close if less than this share of the interval lies between them."""
SAME_S = 1e-3
"""Seconds; two slots that are closer than this are the same slot."""


@dataclass(slots=True)
class InstanceState:
    """Times are seconds of the loop's monotonic clock. The slots are `first`, `first` + `interval`, …; `slot` is the
    next one. `usage_due`: a slot has come and its usage report is not queued yet; `check_due`: its check is not
    recorded yet. `slow`: the last turn lost its place. `found`: the changes that were logged while changes are only
    reported. `drift`: resources that the last turn left as drift, per kind. `database_problems`: what Connect says
    about the database, None if it was not asked; `next_look`: when it is asked again. `shared`: slots are seconds since
    1970, the same for each worker that runs a turn of the instance."""

    manifest: Manifest
    interval: float
    first: float
    slot: float
    started: bool = False
    usage_due: bool = False
    check_due: bool = False
    failures: int = 0
    own_check: str | None = None
    trouble: str | None = None
    standing: KnownStatus | None = None
    last_success: float | None = None
    last_end: float | None = None
    drift: dict[str, int] = field(default_factory=dict)
    alerted_drift: tuple[str, ...] = ()
    due: float = 0.0
    next_prune: float = 0.0
    next_look: float = 0.0
    database_problems: frozenset[str] | None = None
    fights: Flapping = field(default_factory=Flapping)
    running: bool = False
    slow: bool = False
    again: bool = False
    serves_slot: bool = True
    found: tuple[str, ...] = ()
    shared: bool = False

    @property
    def check_type(self) -> CheckType:
        return "scheduled" if self.started else "startup"

    def adopt(self, manifest: Manifest) -> None:
        """Take up a new manifest, which is a new intent: earlier failures and fights no longer count."""
        self.manifest = manifest
        self.failures = 0
        self.fights.clear()

    def adopt_interval(self, interval: float, first: float, now: float) -> None:
        """Change the slots. The next one is no later than the new interval allows, or than it was before."""
        self.interval = interval
        self.first = first
        self.slot = min(max(self.slot, now), next_slot(first, interval, now))

    def begin(self, now: float) -> CycleContext:
        """Begin a turn. In a retry within a slot whose check is recorded, only news is recorded; if the slot's own turn
        could not record its check, the retry does."""
        self.serves_slot = now >= self.slot or not self.started
        self.check_due = due = self.serves_slot or self.check_due
        if self.started and self.serves_slot:
            self.usage_due = True
        fresh_s = FRESH * self.interval if self.started else FRESH_START_S
        return CycleContext(
            fresh_s,
            self.own_check,
            self.usage_due,
            self.trouble,
            due=due,
            retry=self.failures > 0,
            last_known=self.standing,
            alerted_drift=self.alerted_drift,
            slot_age_s=(now - self.slot) % self.interval if self.started and (due or self.shared) else 0.0,
            usage_id=self._usage_id() if self.shared else None,
        )

    def _usage_id(self) -> str:
        """The id of the slot's usage report, so that a report that a lost turn queued is found and not sent twice. It
        includes the last check, because slots repeat if the queue's clock goes back."""
        slot = self.slot if self.serves_slot else self.slot - self.interval
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self.manifest.instance} {slot:.0f} {self.own_check}"))

    def end(self, report: InstanceReport, now: float) -> float:
        """End a turn. Returns when the next one is due: at once, if the slot came during a retry."""
        slot_age_s = (now - self.slot) % self.interval
        if self.serves_slot:
            self.slot = self._slot_after(now)
        self.last_end = now
        self._count_drift(report)
        turned = report.turned
        if turned is not None:
            self.started = True
            self.standing = turned.standing
            self.own_check = turned.check_id or self.own_check
            by_another = turned.checked_ago_s is not None  # the other watch also sends the usage report
            self.check_due = self.check_due and turned.check_id is None and not by_another
            self.usage_due = self.usage_due and not turned.usage_queued and not by_another
        if report.outcome in ("failed", "refused", "degraded", "busy") or report.exit_code in (FAILED, PARTLY):
            return self._retry(report, now)
        self.failures = 0
        self.last_success = now
        if turned is not None and turned.checked_ago_s is not None and not self._is_lost_turns(turned, slot_age_s):
            self.slot = now + max(self.interval - turned.checked_ago_s, 0.0) + BEHIND * self.interval
        return self.slot

    def _slot_after(self, now: float) -> float:
        """The next regular slot. If this slot was not a regular one (behind another watch, or of another position), the
        next may be near: then an extra one is put between, so that no two checks are close."""
        slot = next_slot(self.first, self.interval, now)
        off = (self.slot - self.first) % self.interval
        own = min(off, self.interval - off) < SAME_S
        return slot if own or not self.started or slot - now >= SOON * self.interval else slot + self.interval / 2

    def _is_lost_turns(self, turned: CycleResult, slot_age_s: float) -> bool:
        """Whether the check that was found belongs to this slot, by a worker that was lost before it could report it.
        An older check is another watch's, and is followed."""
        return self.shared and turned.checked_ago_s is not None and turned.checked_ago_s <= slot_age_s

    def _count_drift(self, report: InstanceReport) -> None:
        """Count the drift per kind. A turn that could not look keeps the last counts. A kind that once had drift stays,
        with 0."""
        if report.plan is None:
            return
        self.drift = dict.fromkeys((*report.plan.managed, *self.drift), 0)
        self.alerted_drift = tuple(sorted(str(change.key) for change in report.drift_left))
        for change in report.drift_left:
            self.drift[change.key.kind] = self.drift.get(change.key.kind, 0) + 1

    def _retry(self, report: InstanceReport, now: float) -> float:
        """When to retry: soon, later with each failure, but no later than the next slot, unless Connect asked for a
        longer pause. If Connect asked for that only for the plans, the check and its lock keep to their slot."""
        self.failures += 1
        due = min(self.slot, now + retry_delay(self.failures, random.random()))  # noqa: S311 (spreads retries)
        asked = report.connect.retry_after_s if report.connect else None
        if asked is None:
            return due
        wished = max(due, now + min(asked, LAST_RETRY_S))
        return min(self.slot, wished) if report.connect and report.connect.status is not None else wished


def new_instance_state(manifest: Manifest, interval: float, first: float, now: float) -> InstanceState:
    """An instance whose startup check is due now, and whose slots are `first`, `first` + `interval`, …"""
    return InstanceState(manifest, interval, first, next_slot(first, interval, now))


def find_trouble(report: InstanceReport) -> str | None:
    """The code of the error that keeps the instance from being reconciled. Failed checks of Connect don't count."""
    error = report.error
    if error is None or report.outcome not in ("failed", "refused"):
        return None
    return error.code
