"""What the instances of one run share: its id, who runs it, limits, keys, where it logs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from reconciler.database.pipeline import Limits
from reconciler.model.records import dataclass
from reconciler.model.types import CheckType, Key, Value
from reconciler.planning.audit import Actor
from reconciler.support.crypto.keyring import KeyRing
from reconciler.support.log import EventLog

if TYPE_CHECKING:
    from reconciler.connect.pool import ConnectPool
    from reconciler.database.pool import ConnectionPool
    from reconciler.planning.saved_plan import SavedInstance
    from reconciler.planning.status_check import KnownStatus


Mine: TypeAlias = Callable[[], Awaitable[bool | None]]
"""Whether the turn still belongs to this worker; None if the queue can't be asked."""

DATABASE, CONNECT = "the database", "Fi.V Connect"
REPLICA = "replica "
"""Begins the names, in `Run.noted`, of the replicas that were read."""


@dataclass(frozen=True, slots=True)
class CycleContext:
    """What one turn of `watch` knows of the turns before.

    A check that another watch recorded within `fresh_s` is not repeated; `own_check` is the id of the last check that
    this watch recorded. `due`: the turn's due time has come; `retry`: the last turn failed. `last_known` is Connect's
    answer in the last turn, written or not. `report_usage` queues a usage report with the check. `recorded` is the code
    of the failure that the audit log already has: it is not reported again until it changes. `alerted_drift` names the
    drift that the last turn found and left. `slot_age_s`: seconds since the due time; 0 if the turn serves none, except
    for a worker's retry. `mine` is called before anything is written. `usage_id` is the id of the usage report, if it
    is the same for all turns of one due time.
    """

    fresh_s: float
    own_check: str | None = None
    report_usage: bool = False
    recorded: str | None = None
    due: bool = True
    retry: bool = False
    last_known: KnownStatus | None = None
    alerted_drift: tuple[str, ...] = ()
    slot_age_s: float = 0.0
    mine: Mine | None = None
    usage_id: str | None = None


def _in_time() -> bool:
    return False


class SharedConnect:
    """The connections to Connect that the instances of a run share: opened at first use, closed by `aclose`.

    An event loop that starts after another one has ended starts with none.
    """

    def __init__(self, forks: int) -> None:
        self._forks = forks
        self._pool: ConnectPool | None = None

    def pool(self, run: Run) -> ConnectPool:
        """Raises MissingSetting if the CA file can't be used."""
        if self._pool is None:
            from reconciler.connect.pool import ConnectPool

            self._pool = ConnectPool(run.ca_file, self._forks, lambda words: run.log.debug("connect", words))
        return self._pool

    async def aclose(self) -> None:
        if self._pool is not None:
            pool, self._pool = self._pool, None
            await pool.aclose()


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one command.

    `accept` holds the digests of plans that a guard would refuse and that are let through. `saved`, if given, holds the
    one plan of each instance that may be applied. `explain` is the resource that the dry run explains; with
    `find_drift` it also says which part of the plan is drift, as edits of the manifest. `retry_after_s` limits how long
    a Retry-After of Connect is waited for. `timeout_s` limits one instance's whole work. `check_only` is for work that
    needs a configured instance and creates none. `pool` keeps connections to databases between runs, `connect` shares
    those to Connect; None opens one for each. `turn` is set in `watch` only. `stored_alerts` takes alerts that wait in
    a database, for receivers. `removed` is called with each batch of test data that is deleted. `noted` holds what was
    logged once and is not logged again, even for another instance. `waits` says what an instance waits for, DATABASE or
    CONNECT; `is_late` says whether `timeout_s` is over. `dry`: nothing is created or kept, not even by the embedded
    Connect. `report_only`: find and record, follow Connect's lock, change nothing else. `drift_only`: the dry run shows
    only what others changed. `day` is when the run began: entries of `ignore` expire between runs, never within one.
    """

    id: str
    command: str
    actor: Actor
    keys: KeyRing
    log: EventLog
    now: Callable[[], datetime]
    work_dir: Path = Path(".fivrec")
    ca_file: str | None = None
    limits: Limits = field(default_factory=Limits)
    check_type: CheckType = "manual"
    accept: frozenset[str] = frozenset()
    saved: Mapping[str, SavedInstance] | None = None
    explain: Key | None = None
    find_drift: bool = False
    adopt: bool = False
    deep: bool = False
    timeout_s: float = 120.0
    retry_after_s: float = 10.0
    check_only: bool = False
    pool: ConnectionPool | None = None
    connect: SharedConnect | None = None
    stored_alerts: Callable[[Iterable[dict[str, Value]]], None] | None = None
    turn: CycleContext | None = None
    removed: Callable[[str, int], None] | None = None
    noted: set[str] = field(default_factory=set)
    waits: set[str] | None = None
    is_late: Callable[[], bool] = _in_time
    dry: bool = False
    report_only: bool = False
    drift_only: bool = False
    day: date | None = None

    @property
    def today(self) -> date:
        return self.day or self.now().date()

    @property
    def application_name(self) -> str:
        """The application_name in pg_stat_activity; `busy` errors name the holder by it."""
        return f"fivrec {self.command} {self.id[:8]}"

    def warn_once(self, what: str, words: str, instance: str | None = None) -> None:
        if what not in self.noted:
            self.noted.add(what)
            self.log.warning(self.command, words, instance=instance)

    def read_replica(self) -> bool:
        """Whether this run read a replica, and warned of it."""
        return any(what.startswith(REPLICA) for what in self.noted)

    @contextmanager
    def waiting_for(self, side: str) -> Iterator[None]:
        """Note what is being waited for until it ends. If a deadline cuts the wait off the note stays: that side was
        slow."""
        if self.waits is not None:
            self.waits.add(side)
        yield
        if self.waits is not None:
            self.waits.discard(side)
