"""Many instances in waves: the canary first; what is not begun any more is reported as skipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from reconciler.engine.batch import Done, One, Stop, run_many
from reconciler.engine.run import Run
from reconciler.model.errors import Refused
from reconciler.model.types import Desired
from reconciler.planning.guards import too_many
from reconciler.planning.report import InstanceReport
from reconciler.planning.rollout import Rollout, failed, proves, stop_reason, wave_size, waves
from reconciler.planning.saved_plan import SavedInstance, run_digest


@dataclass(slots=True)
class _Tally:
    """How the rollout goes so far."""

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
    """As run_many, in waves. Within a wave, too, nothing is begun once too many have failed."""
    tally = _Tally(rollout, len(desired))

    async def gated(item: Desired, run: Run) -> InstanceReport:
        reason = tally.reason()
        return await one(item, run) if reason is None else not_attempted(item, reason)

    def heard(report: InstanceReport) -> None:
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
            run.log.info("rollout", f"🌊 {named}: {len(wave)} instance(s)")
        reports += await run_many(wave, run, gated, forks=forks, stop=stop, done=heard)
        reason = "the run was stopped by a signal" if stop.signal else tally.reason()
        if reason is not None:
            run.log.error("rollout", f"🛑 the rollout stops: {reason}")
            return (*reports, *(not_attempted(item, reason) for item in desired[len(reports) :]))
    return tuple(reports)


def not_attempted(desired: Desired, reason: str) -> InstanceReport:
    return InstanceReport(
        instance=desired.instance,
        environment=desired.environment.name,
        outcome="skipped",
        duration_ms=0,
        notes=(f"not attempted: {reason}",),
        path=desired.origin.path,
        line=desired.origin.line,
        attempted=False,
    )


def refuse_too_many(
    saved: Sequence[SavedInstance], desired: Sequence[Desired], limit: str, accept: frozenset[str]
) -> None:
    """--max-changed, on the plans of all instances before the first is written. Refused with the digest of them all;
    what is suspended in its manifest is planned, and never written."""
    suspended = {item.instance for item in desired if item.suspend}
    written = [item for item in saved if item.instance not in suspended]
    found = too_many([item.instance for item in written if item.changes], len(desired), limit)
    digest = run_digest(written)
    if found and digest not in accept:
        raise Refused(f"{found}; if this is meant: --accept {digest}", code="guard")
