"""Metrics of `fleet schedule` for Prometheus: how the queue stands. A worker's turns are in metrics.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

GAUGES = {
    "waiting": ("fivrec_queue_depth", "Instances that are due and wait."),
    "running": ("fivrec_running", "Instances whose turn it is."),
    "oldest_s": ("fivrec_queue_oldest_seconds", "Since the job that waits for longest was queued."),
    "alive": ("fivrec_fleet_workers", "Workers with a heartbeat."),
    "instances": ("fivrec_instances", "Instances scheduled."),
    "failing": ("fivrec_fleet_failing", "Instances whose last turn failed."),
    "overdue": ("fivrec_fleet_overdue", "Instances without a good turn for two intervals."),
}


class FleetMetrics(Collector):
    """`facts` is called at each scrape; what it does not know yet is left out."""

    def __init__(self, facts: Callable[[], Mapping[str, float]]) -> None:
        self._facts = facts
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(namespace="fivrec", registry=self._registry)

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        facts = self._facts()
        for key, (name, words) in GAUGES.items():
            if key in facts:
                yield GaugeMetricFamily(name, words, float(facts[key]))

    def page(self) -> bytes:
        return generate_latest(self._registry)
