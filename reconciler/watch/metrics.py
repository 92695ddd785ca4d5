"""Metrics of `watch` for Prometheus, in a registry of their own. Label values are bounded: fivrec's own names, and
instances.

Counters grow with each turn; an instance's gauges are read when the page is requested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from platform import python_version
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from reconciler import __version__
from reconciler.model.records import dataclass
from reconciler.model.types import CheckType, Value
from reconciler.planning.databases import PROBLEMS
from reconciler.planning.report import InstanceReport

if TYPE_CHECKING:
    from reconciler.watch.instance_state import InstanceState

STATUSES = ("active", "suspended", "pending_payment", "unknown")
BILLING = ("paid", "overdue", "unknown")
QUEUE_SILENCE = ("fivrec_queue_silence_seconds", "Seconds since the queue answered last.")
LOOP_GAUGES = {
    "instances": ("fivrec_instances", "Instances watched."),
    "due": ("fivrec_queue_depth", "Instances that are due and wait."),
    "running": ("fivrec_running", "Instances that have their turn now."),
    "kept_connections": ("fivrec_kept_connections", "Idle connections to databases."),
    "manifest_broken": ("fivrec_manifest_broken", "1 if a manifest is broken."),
    "alerts_waiting": ("fivrec_alerts_waiting", "Alerts that no receiver has taken yet."),
    "silence_s": QUEUE_SILENCE,
}
"""A worker of the fleet has no `instances`, a watch no `silence_s`."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


@dataclass(frozen=True, slots=True)
class InstanceFacts:
    """What is known of one instance now; None for unknown values.

    `status` and `billing_status` are Connect's last answer. `drift` counts, per kind, the resources that others changed
    and the last turn left. `database_problems` are those of planning.databases.
    """

    instance: str
    locked: bool | None
    last_success_age_s: float | None
    failures: int
    fights: int
    status: str | None = None
    billing_status: str | None = None
    drift: Mapping[str, int] = field(default_factory=dict)
    last_run_age_s: float | None = None
    database_problems: frozenset[str] | None = None


def build_instance_facts(instances: Mapping[str, InstanceState], now: float) -> Iterator[InstanceFacts]:
    """What metrics show of each instance. `now` is on the clock of the instances' times."""
    for name, one in sorted(instances.items()):
        known = one.standing
        yield InstanceFacts(
            instance=name,
            locked=known.locked if known is not None else None,
            last_success_age_s=now - one.last_success if one.last_success is not None else None,
            failures=one.failures,
            fights=len(one.fights.held),
            status=known.status if known is not None else None,
            billing_status=known.billing_status if known is not None else None,
            drift=one.drift,
            last_run_age_s=now - one.last_end if one.last_end is not None else None,
            database_problems=one.database_problems,
        )


class Gauges(Collector):
    """A page of gauges, read at each scrape. `facts` are the process's own, by the keys of `known`; it may lack some.
    `instances` are those that are shown."""

    def __init__(
        self,
        facts: Callable[[], Mapping[str, float]],
        instances: Callable[[], Iterable[InstanceFacts]],
        known: Mapping[str, tuple[str, str]],
    ) -> None:
        self._facts = facts
        self._instances = instances
        self._known = known
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(namespace="fivrec", registry=self._registry)

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        words = "Always 1; the version is a label."
        build = GaugeMetricFamily("fivrec_build_info", words, labels=["version", "python"])
        build.add_metric([__version__, python_version()], 1)
        yield build
        facts = self._facts()
        for key, (name, words) in self._known.items():
            if key in facts:
                yield GaugeMetricFamily(name, words, float(facts[key]))
        yield from _instance_gauges(tuple(self._instances()))

    def page(self) -> bytes:
        return generate_latest(self._registry)


class Metrics(Gauges):
    """With the counters of turns, checks, alerts and reports."""

    def __init__(
        self, facts: Callable[[], Mapping[str, float]], instances: Callable[[], Iterable[InstanceFacts]]
    ) -> None:
        super().__init__(facts, instances, LOOP_GAUGES)
        registry = self._registry
        self._runs = Counter("fivrec_runs", "Turns that ended, by outcome.", ["outcome"], registry=registry)
        self._changes = Counter(
            "fivrec_changes",
            "Changes written, by kind, action and cause.",
            ["kind", "action", "cause"],
            registry=registry,
        )
        self._drift = Counter(
            "fivrec_drift", "Changes made by others that were found, by kind.", ["kind"], registry=registry
        )
        self._checks = Counter(
            "fivrec_checks", "Status checks recorded, by type and result.", ["type", "result"], registry=registry
        )
        self._response = Histogram(
            "fivrec_connect_response_seconds", "Response time of Fi.V Connect.", buckets=_SECONDS, registry=registry
        )
        self._duration = Histogram(
            "fivrec_run_duration_seconds", "Duration of a turn.", buckets=_SECONDS, registry=registry
        )
        self._alerts = Counter("fivrec_alerts", "Alerts, by name.", ["alert"], registry=registry)
        self._notices = Counter(
            "fivrec_notifications", "Posts to receivers of alerts, by result.", ["result"], registry=registry
        )
        self._usage = Counter("fivrec_usage_reports", "Usage reports sent, by result.", ["result"], registry=registry)

    def turn_ended(self, report: InstanceReport, check_type: CheckType) -> None:
        self._runs.labels(report.outcome).inc()
        self._duration.observe(report.duration_ms / 1000)
        written = report.outcome in ("changed", "degraded")
        for change in report.changes:
            if change.cause == "drift":
                self._drift.labels(change.key.kind).inc()
            if written:
                self._changes.labels(change.key.kind, change.action, change.cause).inc()
        view = report.connect
        if view is None:
            return
        if view.response_time_ms is not None:
            self._response.observe(view.response_time_ms / 1000)
        if report.turned is not None and report.turned.check_id is not None:
            self._checks.labels(check_type, "success" if view.status else "failure").inc()

    def hear(self, record: dict[str, Value]) -> None:
        """A listener of the log: counts alerts."""
        if "alert" in record:
            self._alerts.labels(record["alert"]).inc()

    def notified(self, taken: bool) -> None:  # noqa: FBT001  a callback of one answer
        self._notices.labels("success" if taken else "failure").inc()

    def usage_sent(self, sent: int, *, failed: bool) -> None:
        self._usage.labels("success").inc(sent)
        if failed:
            self._usage.labels("failure").inc()


def _of_instance(name: str, words: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, words, labels=["instance", *labels])


_OF_EACH: Final[tuple[tuple[str, str, Callable[[InstanceFacts], float | None]], ...]] = (
    ("fivrec_locked", "1 if the instance is locked.", lambda one: one.locked),
    ("fivrec_last_success_age_seconds", "Seconds since the last successful turn.", lambda one: one.last_success_age_s),
    ("fivrec_last_run_age_seconds", "Seconds since the last turn.", lambda one: one.last_run_age_s),
    ("fivrec_failures_in_a_row", "Failed turns since then.", lambda one: one.failures),
    ("fivrec_fights", "Fields left alone because of a fight.", lambda one: one.fights),
)


def _instance_gauges(instances: Sequence[InstanceFacts]) -> Iterable[Metric]:
    for name, words, fact in _OF_EACH:
        family = _of_instance(name, words)
        for one in instances:
            if (value := fact(one)) is not None:
                family.add_metric([one.instance], float(value))
        yield family
    drift = _of_instance(
        "fivrec_instance_drift", "Resources that others changed and that were left as they are.", "kind"
    )
    status = _of_instance("fivrec_instance_status", "1 for the status that Connect reported last.", "status")
    billing = _of_instance(
        "fivrec_instance_billing", "1 for the billing status that Connect reported last.", "billing_status"
    )
    words = "1 if Connect does not list the database, or says that its status or backup is not good."
    database = _of_instance("fivrec_instance_database_problem", words, "problem")
    for one in instances:
        for kind, count in sorted(one.drift.items()):
            drift.add_metric([one.instance, kind], count)
        _add_states(status, one.instance, one.status, STATUSES)
        _add_states(billing, one.instance, one.billing_status, BILLING)
        if one.database_problems is not None:
            for problem in PROBLEMS:
                database.add_metric([one.instance, problem], float(problem in one.database_problems))
    yield from (drift, status, billing, database)


def _add_states(family: GaugeMetricFamily, instance: str, current: str | None, states: tuple[str, ...]) -> None:
    """A sample per state, 1 for the current one: a series that ends would hide a change from `changes()`."""
    current = current if current in states else "unknown"
    for state in states:
        family.add_metric([instance, state], float(state == current))
