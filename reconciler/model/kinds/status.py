"""kind status: what Connect says about the instance, and the lock that follows from it, in instance_config.

suspended locks, active unlocks; pending_payment leaves the lock as it is (seed: Estados da Instância).
"""

from __future__ import annotations

from reconciler.model.kinds.base import Kind
from reconciler.model.types import ConnectView, InstanceStatus, Key, Managed, Resource, Unmanaged, Value


def is_locked_by(answer: InstanceStatus) -> bool | None:
    """Whether Connect's answer locks the instance; None if the lock stays as it is."""
    match answer.status:
        case "suspended":
            return True
        case "active":
            return False
        case "pending_payment":
            return None


def from_connect(view: ConnectView, unmanaged: Unmanaged) -> Managed | None:  # noqa: ARG001 (a kind's signature)
    if view.status is None:
        return None
    fields: dict[str, Value] = {
        "status": view.status.status,
        "billing_status": view.status.billing_status,
        "enabled_features": dict(view.status.enabled_features),
    }
    locked = is_locked_by(view.status)
    if locked is not None:
        fields["is_locked"] = locked
    resource = Resource(Key("status", view.status.instance_id), fields, source="connect")
    return Managed((resource,), source="connect")


KIND = Kind(
    name="status",
    order=8,
    fields=("status", "billing_status", "enabled_features", "is_locked"),
    from_connect=from_connect,
    table="instance_config",
    json_fields=frozenset({"enabled_features"}),
    yes_no_fields=frozenset({"is_locked"}),
    shares_rows_of="config",
    connect_request="GET /api/v1/instances/status",
)
