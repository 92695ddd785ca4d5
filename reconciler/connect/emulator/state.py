"""The emulator's knowledge: instances and plans, as values and as the JSON of its state file. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from typing import Any

from reconciler.connect.emulator.plans import seed_plans
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret

FAULTS = ("html", "list", "redirect", "other-instance", "garbage")
KEPT_REPORTS = 100
"""Per instance. The whole state is written at each report."""


def default_features() -> dict[str, bool]:
    return {"chat": True, "chatbot": True, "ai_agent": False}


@dataclass(frozen=True, slots=True)
class Fault:
    """`fail` is an HTTP status of 400-599 or one of FAULTS, "" for none; `delay_s` delays every answer."""

    fail: str = ""
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Instance:
    """`reports` maps the Idempotency-Key of each counted usage report to the report; the newest KEPT_REPORTS."""

    key: Secret
    status: str = "active"
    billing_status: str = "paid"
    enabled_features: Mapping[str, bool] = field(default_factory=default_features)
    created_at: str = "2025-01-01T00:00:00Z"
    reports: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    reports_counted: int = 0
    fault: Fault = Fault()

    def count_report(self, idempotency_key: str, report: Mapping[str, Any]) -> Instance:
        if idempotency_key in self.reports:
            return self
        kept = dict(list(self.reports.items())[-KEPT_REPORTS + 1 :])
        kept[idempotency_key] = report
        return replace(self, reports=kept, reports_counted=self.reports_counted + 1)


@dataclass(frozen=True, slots=True)
class EmulatorState:
    """`plans` is None for the seed's three."""

    instances: Mapping[str, Instance] = field(default_factory=dict)
    plans: tuple[Mapping[str, Any], ...] | None = None

    def with_instance(self, name: str, instance: Instance) -> EmulatorState:
        return replace(self, instances={**self.instances, name: instance})

    def current_plans(self) -> list[Mapping[str, Any]]:
        return list(seed_plans() if self.plans is None else self.plans)


def state_to_json(state: EmulatorState) -> dict[str, Any]:
    """Includes the keys: the file for it has mode 0600."""
    return {
        "version": 1,
        "plans": None if state.plans is None else list(state.plans),
        "instances": {
            name: {
                "key": instance.key.reveal(),
                "status": instance.status,
                "billingStatus": instance.billing_status,
                "enabledFeatures": dict(instance.enabled_features),
                "createdAt": instance.created_at,
                "reports": dict(instance.reports),
                "reportsCounted": instance.reports_counted,
                "fail": instance.fault.fail,
                "delay": instance.fault.delay_s,
            }
            for name, instance in sorted(state.instances.items())
        },
    }


def state_from_json(document: Mapping[str, Any]) -> EmulatorState:
    """Raises KeyError, TypeError or AttributeError on anything that `state_to_json` did not write."""
    plans = document["plans"]
    instances = {
        name: Instance(
            key=Secret(item["key"]),
            status=item["status"],
            billing_status=item["billingStatus"],
            enabled_features=dict(item["enabledFeatures"]),
            created_at=item["createdAt"],
            reports=dict(item["reports"]),
            reports_counted=item["reportsCounted"],
            fault=Fault(item["fail"], item["delay"]),
        )
        for name, item in document["instances"].items()
    }
    return EmulatorState(instances, None if plans is None else tuple(plans))
