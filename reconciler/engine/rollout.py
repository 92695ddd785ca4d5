"""Run many instances in waves: the canary first. Instances that are no longer begun are reported as skipped."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from reconciler.engine.batch import STOPPED, Done, One, Stop, not_attempted, run_many
from reconciler.engine.run import Run
from reconciler.model.errors import Refused, UsageError
from reconciler.model.records import dataclass
from reconciler.model.types import Desired
from reconciler.planning.guards import too_many_instances
from reconciler.planning.plan import is_reviewed
from reconciler.planning.report import InstanceReport
from reconciler.planning.rollout import Rollout, failed, proves, stop_reason, wave_size, waves
from reconciler.planning.saved_plan import SavedInstance, run_digest
from reconciler.support.log import counted


@dataclass(slots=True)
class _Tally:
    rollout: Rollout
    total: int
    failures: int = 0
    proven: int = 0
    canary: bool = False

    def reason(self) -> str | None:
        return stop_reason(self.failures, self.total, self.rollout, canary=self.canary)


async def roll_out(
    desired: Sequence[Desired], run: Run, one: One, rollout: Rollout, *, forks: int, stop: Stop, done: Done | None
) -> tuple[InstanceReport, ...]:
    """Like run_many, in waves. Within a wave, too, nothing new is begun once too many instances have failed."""
    tally = _Tally(rollout, len(desired))

    async def gated(item: Desired, run: Run) -> InstanceReport:
        reason = tally.reason()
        return await one(item, run) if reason is None else not_attempted(item, reason)

    def note_end(report: InstanceReport) -> None:
        tally.failures += failed(report)
        tally.proven += proves(report)
        if done is not None:
            done(report)

    reports: list[InstanceReport] = []
    for number, wave in enumerate(waves(desired, rollout, lambda: tally.proven), start=1):
        tally.canary = tally.proven < rollout.canary
        rest = len(desired) - len(reports) - len(wave)
        if rest or number > 1:
            count = number + ceil(rest / wave_size(len(desired), rollout))
            named = f"wave {number} of {count}{' (canary)' if tally.canary else ''}"
            run.log.info("rollout", f"🌊 {named}: {counted(len(wave), 'instance')}")
        reports += await run_many(wave, run, gated, forks=forks, stop=stop, done=note_end)
        reason = STOPPED if stop.signal else tally.reason()
        if reason is not None:
            run.log.error("rollout", f"🛑 the rollout stops: {reason}")
            return (*reports, *(not_attempted(item, reason) for item in desired[len(reports) :]))
    return tuple(reports)


def refuse_too_many(
    saved: Sequence[SavedInstance], desired: Sequence[Desired], limit: str, accept: frozenset[str]
) -> None:
    """Enforce --max-changed on the plans of all instances before the first is written. Raises Refused, with the digest
    of all plans.

    A change that only follows Connect's answer needs nobody's consent, and is not counted.
    """
    names = [item.instance for item in _changing(saved, desired) if any(map(is_reviewed, item.changes))]
    found = too_many_instances(names, len(desired), limit)
    digest = whole_digest(saved, desired)
    if found and digest not in accept:
        raise Refused(f"{found}; if this is meant: --accept {digest}", code="guard")


def accepted_digests(
    saved: Sequence[SavedInstance],
    desired: Sequence[Desired],
    accept: frozenset[str],
    reviewed: Sequence[SavedInstance] = (),
) -> frozenset[str]:
    """Returns the digests that --accept lets through: the digest of the whole plan stands for all of its instances.
    Digests of the plan given by --plan (`reviewed`) are valid too: if it is stale by now, each of its instances says
    so.

    Raises UsageError for a digest that matches no plan, unless an instance could not be compared: it may be that one's.
    """
    plans = {
        whole_digest(found, desired): {item.digest for item in found if item.changes} for found in (reviewed, saved)
    }
    unknown = accept - frozenset().union(*plans.values()) - plans.keys()
    if unknown and len(saved) == len(desired):
        named = ", ".join(sorted(digest[:40] for digest in unknown))
        hint = 'it was made for other changes, manifests or secrets; look at "fivrec diff" again'
        raise UsageError(f"--accept {named} fits no plan of this run", hint=hint)
    return accept.union(*(digests for whole, digests in plans.items() if whole in accept))


def whole_digest(saved: Sequence[SavedInstance], desired: Sequence[Desired]) -> str | None:
    """The digest over the plans of all instances that an apply would change; None if there are none."""
    changing = _changing(saved, desired)
    return run_digest(changing) if changing else None


def _changing(saved: Sequence[SavedInstance], desired: Sequence[Desired]) -> list[SavedInstance]:
    """The instances that an apply would change: those that their manifest suspends are planned, but never written."""
    suspended = {item.instance for item in desired if item.suspend}
    return [item for item in saved if item.changes and item.instance not in suspended]
