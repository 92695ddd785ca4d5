"""Faults that fivrec once had, reintroduced one by one: the simulation must find each of them.

`python -m tests.simulation.faults` prints at which seed. A fault in a statement of the queue is put into its stand-in
(`fleet_tables.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import pytest

from reconciler.engine import status_check
from reconciler.model.errors import FivrecError
from reconciler.planning.status_check import KnownStatus, known_status
from reconciler.watch import messages, supervisor
from reconciler.watch.instance_state import InstanceState
from reconciler.watch.loop import Watch, loop_time
from reconciler.watch.manifests import ManifestSource
from reconciler.workers import scheduler, worker
from tests.simulation import test_fleet_life, test_watch_life
from tests.simulation.fleet_tables import Tables
from tests.simulation.shapes import MONTH, Shape, small_life

Fault = Callable[[pytest.MonkeyPatch], None]
LIVES: Final[Mapping[str, Callable[[int, Shape], list[str]]]] = {
    "watch": test_watch_life.violations,
    "fleet": test_fleet_life.violations,
    "fleet month": test_fleet_life.violations,
}


def a_part_dies_alone(patch: pytest.MonkeyPatch) -> None:
    async def run_once(name: str, part: supervisor.Part, log: Any) -> None:
        with suppress(Exception):
            await part()

    patch.setattr(supervisor, "_keep_running", run_once)


def limit_and_once_forget(patch: pytest.MonkeyPatch) -> None:
    begin = scheduler.Scheduler.__init__

    def begin_forgetting(self: Any, *args: Any, **more: Any) -> None:
        begin(self, *args, **more)
        self._forgets = True

    patch.setattr(scheduler.Scheduler, "__init__", begin_forgetting)
    patch.setattr(Tables, "withdraw", withdraw_at_once)


def withdraw_at_once(self: Tables, *, view: str, declared: Sequence[str], **_: Any) -> list[dict[str, Any]]:
    for row in self.instances.values():
        if row.view == view and row.instance not in declared:
            row.due_at = float("inf")
    return []


def other_paths_forget(patch: pytest.MonkeyPatch) -> None:
    withdraw = Tables.withdraw

    def of_all_views(self: Tables, *, view: str, **values: Any) -> list[dict[str, Any]]:
        gone = {row.instance for row in self.instances.values()} - set(values["declared"])
        kept = {row.view for row in self.instances.values()} - {view}
        for other in kept:
            withdraw(self, view=other, **{**values, "gone": sorted(gone)})
        return withdraw(self, view=view, **values)

    patch.setattr(Tables, "withdraw", of_all_views)


def failing_instances_owe_no_usage(patch: pytest.MonkeyPatch) -> None:
    begin = InstanceState.begin

    def begin_without(self: InstanceState, now: float) -> Any:
        found = begin(self, now)
        self.usage_due = self.usage_due and self.failures == 0
        return replace(found, report_usage=self.usage_due)

    patch.setattr(InstanceState, "begin", begin_without)


def health_goes_by_turns(patch: pytest.MonkeyPatch) -> None:
    def trouble_alive(self: Watch) -> str | None:
        ends = [one.last_end for one in self.instances.values() if one.last_end is not None]
        return None if not ends or loop_time() - max(ends) < 60 else "no turn has ended for a minute"

    patch.setattr(Watch, "trouble_alive", trouble_alive)


def suspended_alert_each_time(patch: pytest.MonkeyPatch) -> None:
    def before(desired: Any, run: Any, view: Any, snapshot: Any) -> Any:
        return known_status(snapshot.state, answered=snapshot.answered)

    patch.setattr(status_check, "_before", before)


def a_retry_writes_a_check(patch: pytest.MonkeyPatch) -> None:
    begin = InstanceState.begin
    patch.setattr(InstanceState, "begin", lambda self, now: replace(begin(self, now), retry=False))


def busy_ends_a_trouble(patch: pytest.MonkeyPatch) -> None:
    say = messages._say_trouble_or_end

    def say_all(log: Any, one: InstanceState, report: Any) -> None:
        if report.outcome == "busy":
            one.trouble = None
        say(log, one, report)

    patch.setattr(messages, "_say_trouble_or_end", say_all)


def an_unforeseen_end_loses_the_instance(patch: pytest.MonkeyPatch) -> None:
    put_back = Watch._put_back

    def put_back_the_well(self: Watch, one: InstanceState) -> None:
        if one.trouble != "internal":
            put_back(self, one)

    patch.setattr(Watch, "_put_back", put_back_the_well)


def a_broken_manifest_declares_nobody(patch: pytest.MonkeyPatch) -> None:
    def reload(self: ManifestSource) -> Any:
        try:
            self.held, self.trouble = self.load(self.paths), None
        except FivrecError as exc:
            self.held, self.trouble = (), exc
        return self.held

    patch.setattr(ManifestSource, "reload", reload)


def workers_forget(field: str) -> Fault:
    """The queue's row lacks this result of the last cycle."""

    def put_back(patch: pytest.MonkeyPatch) -> None:
        ended = worker._ended
        empty = False if field == "usage_due" else None
        patch.setattr(worker, "_ended", lambda *args: {**ended(*args), field: empty})

    return put_back


def nobody_declares_again(patch: pytest.MonkeyPatch) -> None:
    async def refresh(self: Any, gone: Any = frozenset()) -> None:
        await self._queue.run("respread")

    patch.setattr(scheduler.Scheduler, "refresh", refresh)


def tables_without(name: str) -> Fault:
    def put_back(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(Tables, name, lambda *_, **__: [])

    return put_back


def older_versions_read_what_they_know(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(worker, "_standing", lambda held: KnownStatus(**held))


def a_lost_turns_check_is_followed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(InstanceState, "_is_lost_turns", lambda *_: False)


FAULTS: Final[Mapping[str, tuple[str, Fault]]] = {
    "a file named `caf\\xe9.txt` ends what follows the manifests": ("watch", a_part_dies_alone),
    "the same in a scheduler": ("fleet", a_part_dies_alone),
    "`--limit` and `--once` take everybody else off": ("fleet", limit_and_once_forget),
    "a scheduler of other paths takes everybody off": ("fleet", other_paths_forget),
    "failing instances lose their usage reports": ("watch", failing_instances_owe_no_usage),
    "the same in a fleet": ("fleet", failing_instances_owe_no_usage),
    "health goes by turns: a Retry-After counts as dead": ("watch", health_goes_by_turns),
    "a trouble begins again with the next worker": ("fleet", workers_forget("trouble")),
    "`suspend: true` alerts at each turn": ("fleet", suspended_alert_each_time),
    "each retry writes a check": ("watch", a_retry_writes_a_check),
    "`busy` between two failures makes them two troubles": ("watch", busy_ends_a_trouble),
    "a turn with an unforeseen end loses its instance": ("watch", an_unforeseen_end_loses_the_instance),
    "a broken manifest declares nobody": ("watch", a_broken_manifest_declares_nobody),
    "a clock that was ahead freezes what is due": ("fleet", tables_without("pull_in")),
    "who is new is lost with a restored queue": ("fleet", nobody_declares_again),
    "changed intervals share a second": ("fleet", tables_without("respread")),
    "jobs of a killed worker stay taken": ("fleet", tables_without("recover")),
    "a worker fails on what a newer one wrote": ("fleet", older_versions_read_what_they_know),
    "a lost turn's check is followed as another watch's": ("fleet month", a_lost_turns_check_is_followed),
}


def first_seed(name: str, seeds: Sequence[int]) -> tuple[int, str] | None:
    """Returns the seed at which the fault is found, and the message; None if no seed finds it."""
    kind, fault = FAULTS[name]
    for seed in seeds:
        with pytest.MonkeyPatch.context() as patch:
            shape = MONTH if kind.endswith("month") else small_life(seed)
            shape.begin(patch)
            fault(patch)
            found = LIVES[kind](seed, shape)
        if found:
            return seed, found[0]
    return None


if __name__ == "__main__":
    for name in FAULTS if len(sys.argv) == 1 else sys.argv[1:]:
        print(f"| {name} | {FAULTS[name][0]} | {first_seed(name, range(50))} |", flush=True)  # noqa: T201 (a script)
