"""roll_out: which instances begin, in which order, and which are left alone once it stops."""

from __future__ import annotations

import asyncio
import io
import signal
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from reconciler.engine.batch import Stop
from reconciler.engine.rollout import accepted_digests, refuse_too_many, roll_out, whole_digest
from reconciler.engine.run import Run
from reconciler.model.changes import Create
from reconciler.model.errors import Refused, UsageError
from reconciler.model.secret import Secret
from reconciler.model.types import DatabaseSpec, Desired, EnvironmentSpec, Key, Resource
from reconciler.planning.audit import Actor
from reconciler.planning.plan import Plan
from reconciler.planning.report import InstanceReport, Outcome, exit_code
from reconciler.planning.rollout import Rollout
from reconciler.planning.saved_plan import SavedInstance, run_digest
from reconciler.support.crypto.keyring import KeyRing
from reconciler.support.log import EventLog


def instances(count: int) -> list[Desired]:
    names = (f"client-{number:02}" for number in range(count))
    return [Desired(name, EnvironmentSpec("production"), DatabaseSpec(Secret("")), None, {}) for name in names]


class Fleet:
    """Instances that end as the test says; records what began, and how many ran at once."""

    def __init__(self, count: int, *, changed: str = "queue", **outcomes: Outcome) -> None:
        self.desired = instances(count)
        self.changed = Resource(Key(changed, "Sales"), {})
        self.outcomes = {name.replace("_", "-"): outcome for name, outcome in outcomes.items()}
        self.begun: list[str] = []
        self.under_way = 0
        self.most = 0
        self.log = io.StringIO()
        self.heard: list[str] = []
        self.stop = Stop()

    async def one(self, item: Desired, run: Run) -> InstanceReport:
        self.begun.append(item.instance)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0.001)
        self.under_way -= 1
        outcome = self.outcomes.get(item.instance, "changed")
        if outcome == "busy":
            self.stop.ask(signal.SIGTERM)
            await asyncio.sleep(5)
        made = () if outcome != "changed" else (Create(self.changed.key, (), "manifest", "new", self.changed),)
        plan = Plan(item.instance, "production", made)
        return InstanceReport(item.instance, "production", outcome, 1, 1 if outcome == "failed" else 0, plan=plan)

    def roll(self, rollout: Rollout, *, forks: int = 1) -> tuple[InstanceReport, ...]:
        log = EventLog(self.log)
        run = Run("run-1", "apply", Actor("test"), KeyRing(()), log, now=lambda: datetime.now(UTC))
        hear = lambda report: self.heard.append(report.instance)  # noqa: E731
        work = roll_out(self.desired, run, self.one, rollout, forks=forks, stop=self.stop, done=hear)
        return asyncio.run(work)


def outcomes(reports: tuple[InstanceReport, ...]) -> list[str]:
    return [report.outcome for report in reports]


def test_all_well_goes_through_in_order() -> None:
    fleet = Fleet(7)
    reports = fleet.roll(Rollout(canary=1, serial="2"))
    assert fleet.begun == [item.instance for item in fleet.desired] == [report.instance for report in reports]
    assert outcomes(reports) == ["changed"] * 7
    assert fleet.heard == fleet.begun
    assert [line.split(": ")[0] for line in fleet.log.getvalue().splitlines()] == [
        "🌊 wave 1 of 4 (canary)",
        "🌊 wave 2 of 4",
        "🌊 wave 3 of 4",
        "🌊 wave 4 of 4",
    ]


def test_a_canary_without_changes_or_suspended_proves_nothing() -> None:
    fleet = Fleet(6, client_00="in_sync", client_01="skipped", client_02="failed")
    reports = fleet.roll(Rollout(canary=1), forks=16)
    assert fleet.begun == ["client-00", "client-01", "client-02"]
    assert outcomes(reports) == ["in_sync", "skipped", "failed", *["skipped"] * 3]
    assert reports[3].notes == ("not attempted: 1 of 1 canary instances failed",)


def test_a_canary_that_only_followed_connects_word_proves_nothing() -> None:
    fleet = Fleet(5, changed="status", client_02="failed")
    reports = fleet.roll(Rollout(canary=1), forks=16)
    assert outcomes(reports) == ["changed", "changed", "failed", "skipped", "skipped"]
    assert reports[3].notes == ("not attempted: 1 of 1 canary instances failed",)


def test_a_fleet_in_sync_goes_through_whole() -> None:
    fleet = Fleet(4, **{f"client_{number:02}": "in_sync" for number in range(4)})  # type: ignore[arg-type]
    assert outcomes(fleet.roll(Rollout(canary=2))) == ["in_sync"] * 4


@pytest.mark.parametrize("forks", [1, 16])
def test_a_wave_bounds_what_is_under_way(forks: int) -> None:
    fleet = Fleet(9)
    fleet.roll(Rollout(serial="3"), forks=forks)
    assert fleet.most == min(3, forks)


@pytest.mark.parametrize("outcome", ["failed", "degraded", "refused"])
def test_a_canary_that_does_not_end_well_stops_everything(outcome: Outcome) -> None:
    fleet = Fleet(30, client_00=outcome)
    reports = fleet.roll(Rollout(canary=1, max_fail="50%"), forks=16)
    assert fleet.begun == ["client-00"]
    assert outcomes(reports) == [outcome, *["skipped"] * 29]
    assert reports[1].notes == ("not attempted: 1 of 1 canary instances failed",)


def test_without_max_fail_any_failure_stops_a_staged_rollout() -> None:
    fleet = Fleet(6, client_01="failed")
    reports = fleet.roll(Rollout(serial="2"), forks=2)
    assert outcomes(reports) == ["changed", "failed", *["skipped"] * 4]
    assert exit_code(reports) == 5


def test_a_rollout_that_is_not_staged_goes_through_all() -> None:
    fleet = Fleet(6, client_01="failed")
    assert outcomes(fleet.roll(Rollout(), forks=2)) == ["changed", "failed", *["changed"] * 4]
    assert "🛑" not in fleet.log.getvalue()


def test_a_wave_starts_nothing_more_once_too_many_failed() -> None:
    fleet = Fleet(10, client_01="failed", client_02="failed")
    reports = fleet.roll(Rollout(max_fail="1"), forks=1)
    assert fleet.begun == ["client-00", "client-01", "client-02"]
    assert outcomes(reports) == ["changed", "failed", "failed", *["skipped"] * 7]


def test_failures_within_the_limit_do_not_stop_it() -> None:
    fleet = Fleet(10, client_01="failed")
    assert outcomes(fleet.roll(Rollout(serial="1", max_fail="10%"))).count("changed") == 9


def test_a_signal_begins_no_further_wave() -> None:
    fleet = Fleet(6, client_02="busy")  # asks to stop
    reports = fleet.roll(Rollout(serial="2"), forks=2)
    assert fleet.begun == ["client-00", "client-01", "client-02", "client-03"]
    assert outcomes(reports)[4:] == ["skipped", "skipped"]
    assert reports[4].notes == ("not attempted: the run was stopped by a signal",)
    assert reports[2].exit_code == 143
    assert "wave 3" not in fleet.log.getvalue()


def saved(count: int, changed: int) -> tuple[SavedInstance, ...]:
    change = {"kind": "queue", "name": "Sales", "action": "update"}
    return tuple(
        SavedInstance(f"client-{number:02}", "production", "a" * 64, "b" * 16, (change,) if number < changed else ())
        for number in range(count)
    )


def test_more_than_max_changed_is_refused_with_the_digest() -> None:
    plans = saved(10, 6)
    refuse_too_many(plans, instances(10), "60%", frozenset())
    with pytest.raises(Refused) as caught:
        refuse_too_many(plans, instances(10), "5", frozenset({run_digest(saved(10, 7))}))
    assert (caught.value.code, caught.value.exit_code) == ("guard", 3)
    assert caught.value.message.endswith(f"; if this is meant: --accept {run_digest(plans)}")
    refuse_too_many(plans, instances(10), "5", frozenset({run_digest(plans)}))


def test_a_share_counts_instances_that_could_not_be_compared() -> None:
    refuse_too_many(saved(5, 5), instances(10), "50%", frozenset())


def test_suspended_instances_are_not_counted_as_changing() -> None:
    desired = [replace(item, suspend=number < 2) for number, item in enumerate(instances(10))]
    plans = saved(10, 6)
    refuse_too_many(plans, desired, "4", frozenset())
    with pytest.raises(Refused) as caught:
        refuse_too_many(plans, desired, "3", frozenset())
    assert caught.value.message.startswith(
        "4 of 10 instances would change: client-02, client-03, client-04, client-05;"
    )
    refuse_too_many(plans, desired, "3", frozenset({run_digest(plans[2:])}))


def test_connects_word_alone_is_not_counted() -> None:
    """If the panel suspends many at once, fivrec follows; the digests of such plans would equal those of any others."""
    word = {"kind": "status", "name": "client", "action": "update"}
    plans = tuple(replace(item, changes=(*item.changes, word)) for item in saved(10, 3))
    refuse_too_many(plans, instances(10), "3", frozenset())
    with pytest.raises(Refused) as caught:
        refuse_too_many(plans, instances(10), "2", frozenset())
    assert caught.value.message.startswith("3 of 10 instances would change: client-00, client-01, client-02;")
    assert caught.value.message.endswith(f"--accept {run_digest(saved(10, 3))}")


class TestAccepted:
    DESIRED = instances(3)
    PLANS = tuple(replace(item, digest=f"digest-{number}") for number, item in enumerate(saved(3, 2)))

    def test_the_whole_digest_accepts_all_of_its_instances(self) -> None:
        whole = whole_digest(self.PLANS, self.DESIRED)
        assert whole is not None
        accepted = accepted_digests(self.PLANS, self.DESIRED, frozenset({whole}))
        assert accepted == {whole, "digest-0", "digest-1"}

    def test_one_instances_digest_accepts_only_that_instance(self) -> None:
        only = frozenset({"digest-1"})
        assert accepted_digests(self.PLANS, self.DESIRED, only) == only

    def test_those_of_the_plan_that_was_reviewed_fit_also_if_it_is_stale(self) -> None:
        reviewed = tuple(replace(item, digest=f"then-{item.digest}") for item in self.PLANS)
        whole = whole_digest(reviewed, self.DESIRED)
        assert whole is not None
        accepted = accepted_digests(self.PLANS, self.DESIRED, frozenset({whole}), reviewed)
        assert accepted == {whole, "then-digest-0", "then-digest-1"}

    def test_one_that_fits_nothing_is_refused_if_all_could_be_compared(self) -> None:
        other = frozenset({"digest-0", "made-for-another"})
        with pytest.raises(UsageError, match="--accept made-for-another fits no plan of this run"):
            accepted_digests(self.PLANS, self.DESIRED, other)
        assert accepted_digests(self.PLANS[:2], self.DESIRED, other) == other

    def test_a_plan_in_sync_has_no_digest(self) -> None:
        assert whole_digest(saved(3, 0), self.DESIRED) is None
