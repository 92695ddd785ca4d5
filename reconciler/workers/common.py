"""What the fleet's scheduler and workers share: health, waiting times, messages."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from reconciler.planning.schedule import retry_delay
from reconciler.support.log import EventLog
from reconciler.watch.loop import loop_time, stuck_loop
from reconciler.workers.job_queue import STALE_S, TABLES, Queue

LONGEST_WAIT_S = 15.0
ANSWERS = "✅ the queue answers again"


class QueueContact:
    """When the loop last made a round and when the queue last answered, and what /healthz and /readyz say about
    that."""

    def __init__(self) -> None:
        self.stopping = False
        self.last_beat = self.last_contact = loop_time()
        self.said_version = TABLES

    async def is_behind(self, queue: Queue, log: EventLog) -> bool:
        """Whether the queue's tables are those of an older fivrec. Logs once if they are another version's."""
        found = await queue.version()
        if found not in (TABLES, self.said_version):
            older = f'needs {TABLES}: run "fivrec fleet init" of this version'
            newer = f"knows {TABLES}: it goes on with what both know; upgrade it"
            said = f"its tables are version {found}, and this fivrec {older if found < TABLES else newer}"
            log.warning("fleet", f"⚠️ {queue.where}: {said}", error="schema_missing" if found < TABLES else None)
        self.said_version = found
        return found < TABLES

    def beat(self) -> None:
        """Note a round of the loop, whether or not the queue answers."""
        self.last_beat = loop_time()

    def note_contact(self) -> None:
        self.last_contact = loop_time()

    def silence_s(self) -> float:
        """Seconds since the queue last answered."""
        return loop_time() - self.last_contact

    def trouble_alive(self) -> str | None:
        """The answer of /healthz: a restart does not help against a queue that can't be asked."""
        return stuck_loop(self.last_beat)

    def trouble_ready(self) -> str | None:
        if self.stopping:
            return "stopping"
        silent = self.silence_s()
        return self.trouble_alive() if silent <= 2 * STALE_S else f"the queue could not be asked for {silent:.0f} s"


def wait_s(failures: int) -> float:
    """Seconds to leave the queue alone after so many failures in a row."""
    return min(retry_delay(failures, random.random()), LONGEST_WAIT_S)  # noqa: S311 (spreads retries)


def say_recovered(log: EventLog, instances: Sequence[str]) -> None:
    if instances:
        named = ", ".join(instances[:5]) + (", …" if len(instances) > 5 else "")  # noqa: PLR2004 (a line, not a list)
        log.warning("fleet", f"🚑 {len(instances)} jobs of a lost worker are back in the queue: {named}")


def build_problems(found: Mapping[str, Any]) -> frozenset[str] | None:
    """What Connect says about an instance's database, from the `drift` column of its row; None if no turn has asked."""
    problems = found.get("problems")
    return None if problems is None else frozenset(problems)
