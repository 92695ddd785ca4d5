"""Small model values, for tests that state only what matters to them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from reconciler.model.secret import Secret
from reconciler.model.types import (
    Applied,
    ConnectPlan,
    ConnectView,
    DatabaseSpec,
    Desired,
    EnvironmentSpec,
    InstanceStatus,
    Key,
    Managed,
    Resource,
    Snapshot,
    State,
    Value,
)

NOON = datetime(2026, 10, 1, 12, tzinfo=UTC)
INSTANCE = "client-abc-123"


def queue(name: str, description: str | None = None, *, is_active: bool | None = True, **more: Value) -> Resource:
    return Resource(Key("queue", name), {"description": description, "is_active": is_active}, **more)


def setting(name: str, value: Value) -> Resource:
    return Resource(Key("setting", name), {"value": value})


def connect_plan(plan_id: str, name: str = "Starter", price: int = 2900, **more: Value) -> ConnectPlan:
    return ConnectPlan(plan_id, name, price, "monthly", ["basic_chat"], **more)


def state(*resources: Resource) -> State:
    return {resource.key: resource for resource in resources}


def applied(*resources: Resource) -> dict[Key, Applied]:
    return {resource.key: Applied(resource.fields, "run-1", NOON) for resource in resources}


def status(word: str = "active", billing: str = "paid", **features: bool) -> InstanceStatus:
    return InstanceStatus(INSTANCE, word, billing, features)  # type: ignore[arg-type]


def view(word: str = "active", billing: str = "paid", **features: bool) -> ConnectView:
    return ConnectView(status=status(word, billing, **features), response_time_ms=41, received=word)


def desired(*resources: Resource, **more: Value) -> Desired:
    """Returns a production manifest that manages the kinds of these resources and nothing else."""
    return Desired(
        instance=INSTANCE,
        environment=EnvironmentSpec("production"),
        database=DatabaseSpec(Secret("postgresql://u:p@localhost/app")),
        connect=None,
        managed=by_kind(resources),
        database_name="app",
        **more,
    )


def by_kind(resources: Iterable[Resource]) -> dict[str, Managed]:
    kinds: dict[str, list[Resource]] = {}
    for resource in resources:
        kinds.setdefault(resource.key.kind, []).append(resource)
    return {kind: Managed(tuple(items)) for kind, items in kinds.items()}


def snapshot(*resources: Resource, last: Iterable[Resource] = ()) -> Snapshot:
    return Snapshot(1, state(*resources), applied(*last), owner=INSTANCE, config_id="1", answered=True)
