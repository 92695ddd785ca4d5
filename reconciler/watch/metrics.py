"""Metrics of `watch` for Prometheus, in a registry of its own. Label sets are bounded: names of ours, and instances.

Counters are told of each turn; what is true of an instance now is asked for when somebody reads the page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from reconciler.model.records import dataclass
from reconciler.model.types import CheckType, Value
from reconciler.planning.report import InstanceReport

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


@dataclass(frozen=True, slots=True)
class InstanceFacts:
    """What is known of one instance now; None for what is not known."""

    instance: str
    locked: bool | None
    last_success_age_s: float | None
    failures: int
    fights: int


@dataclass(frozen=True, slots=True)
class LoopFacts:
    """How the loop stands: `due` instances wait for their turn, `running` have it."""

    instances: int
    due: int
    running: int
    kept_connections: int
    manifest_broken: bool


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
            "fivrec_notifications", "Posts to --notify-url, by result.", ["result"], registry=registry
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
        loop = self._loop()
        yield GaugeMetricFamily("fivrec_instances", "Instances watched.", loop.instances)
        yield GaugeMetricFamily("fivrec_queue_depth", "Instances that are due and wait.", loop.due)
        yield GaugeMetricFamily("fivrec_running", "Instances whose turn it is.", loop.running)
        yield GaugeMetricFamily("fivrec_kept_connections", "Idle connections to databases.", loop.kept_connections)
        yield GaugeMetricFamily("fivrec_manifest_broken", "1 where a manifest is broken.", float(loop.manifest_broken))
        locked = GaugeMetricFamily("fivrec_locked", "1 where the instance is locked.", labels=["instance"])
        age = GaugeMetricFamily("fivrec_last_success_age_seconds", "Since a turn last ended well.", labels=["instance"])
        failures = GaugeMetricFamily("fivrec_failures_in_a_row", "Failed turns since then.", labels=["instance"])
        fights = GaugeMetricFamily("fivrec_fights", "Fields left alone because of a fight.", labels=["instance"])
        for one in self._instances():
            if one.locked is not None:
                locked.add_metric([one.instance], float(one.locked))
            if one.last_success_age_s is not None:
                age.add_metric([one.instance], one.last_success_age_s)
            failures.add_metric([one.instance], one.failures)
            fights.add_metric([one.instance], one.fights)
        yield from (locked, age, failures, fights)
