"""Metrics of `watch` for Prometheus, in a registry of their own. Label values are bounded: fivrec's own names, and
instances.

Counters grow with each turn; an instance's gauges are read when the page is requested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field
from platform import python_version
from typing import TYPE_CHECKING

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


@dataclass(frozen=True, slots=True)
class LoopFacts:
    """The state of the loop: `due` instances wait for their turn, `running` have one. `instances` is None if the
    process does not know them all, `queue_silence_s` if it uses no queue."""

    instances: int | None
    due: int
    running: int
    kept_connections: int
    manifest_broken: bool
    alerts_waiting: int = 0
    queue_silence_s: float | None = None


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


class Metrics:
    """`instances` and `loop` are called at each scrape."""

    def __init__(self, instances: Callable[[], Iterable[InstanceFacts]], loop: Callable[[], LoopFacts]) -> None:
        self._registry = registry = CollectorRegistry()
        registry.register(_Now(instances, loop))
        ProcessCollector(namespace="fivrec", registry=registry)
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

    def page(self) -> bytes:
        return generate_latest(self._registry)


class _Now(Collector):
    def __init__(self, instances: Callable[[], Iterable[InstanceFacts]], loop: Callable[[], LoopFacts]) -> None:
        self._instances = instances
        self._loop = loop

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        yield from _loop_gauges(self._loop())
        instances = tuple(self._instances())
        yield from instance_gauges(instances)
        yield database_gauge(instances)


def build_info() -> Metric:
    build = GaugeMetricFamily("fivrec_build_info", "Always 1; the version is a label.", labels=["version", "python"])
    build.add_metric([__version__, python_version()], 1)
    return build


def _loop_gauges(loop: LoopFacts) -> Iterable[Metric]:
    yield build_info()
    if loop.instances is not None:
        yield GaugeMetricFamily("fivrec_instances", "Instances watched.", loop.instances)
    yield GaugeMetricFamily("fivrec_queue_depth", "Instances that are due and wait.", loop.due)
    yield GaugeMetricFamily("fivrec_running", "Instances that have their turn now.", loop.running)
    yield GaugeMetricFamily("fivrec_kept_connections", "Idle connections to databases.", loop.kept_connections)
    yield GaugeMetricFamily("fivrec_manifest_broken", "1 if a manifest is broken.", float(loop.manifest_broken))
    yield GaugeMetricFamily("fivrec_alerts_waiting", "Alerts that no receiver has taken yet.", loop.alerts_waiting)
    if loop.queue_silence_s is not None:
        yield GaugeMetricFamily(*QUEUE_SILENCE, loop.queue_silence_s)


def _of_instance(name: str, words: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, words, labels=["instance", *labels])


def instance_gauges(instances: Iterable[InstanceFacts]) -> Iterable[Metric]:
    locked = _of_instance("fivrec_locked", "1 if the instance is locked.")
    age = _of_instance("fivrec_last_success_age_seconds", "Seconds since the last successful turn.")
    run_age = _of_instance("fivrec_last_run_age_seconds", "Seconds since the last turn.")
    failures = _of_instance("fivrec_failures_in_a_row", "Failed turns since then.")
    fights = _of_instance("fivrec_fights", "Fields left alone because of a fight.")
    drift = _of_instance(
        "fivrec_instance_drift", "Resources that others changed and that were left as they are.", "kind"
    )
    status = _of_instance("fivrec_instance_status", "1 for the status that Connect reported last.", "status")
    billing = _of_instance(
        "fivrec_instance_billing", "1 for the billing status that Connect reported last.", "billing_status"
    )
    for one in instances:
        for family, value in ((locked, one.locked), (age, one.last_success_age_s), (run_age, one.last_run_age_s)):
            if value is not None:
                family.add_metric([one.instance], float(value))
        failures.add_metric([one.instance], one.failures)
        fights.add_metric([one.instance], one.fights)
        for kind, count in sorted(one.drift.items()):
            drift.add_metric([one.instance, kind], count)
        _add_states(status, one.instance, one.status, STATUSES)
        _add_states(billing, one.instance, one.billing_status, BILLING)
    yield from (locked, age, run_age, failures, fights, drift, status, billing)


def database_gauge(instances: Iterable[InstanceFacts]) -> Metric:
    words = "1 if Connect does not list the database, or says that its status or backup is not good."
    family = _of_instance("fivrec_instance_database_problem", words, "problem")
    for one in instances:
        if one.database_problems is not None:
            for problem in PROBLEMS:
                family.add_metric([one.instance, problem], float(problem in one.database_problems))
    return family


def _add_states(family: GaugeMetricFamily, instance: str, current: str | None, states: tuple[str, ...]) -> None:
    """A sample per state, 1 for the current one: a series that ends would hide a change from `changes()`."""
    current = current if current in states else "unknown"
    for state in states:
        family.add_metric([instance, state], float(state == current))
