"""kind plan: rows of plans, from Connect or from the manifest, known by Connect's id.

An existing row is matched by id, else by stripe_product_id, else by name, and keeps its id: others may refer to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from reconciler.core.kinds.kind import Document, Kind, Matches
from reconciler.core.model import (
    ConnectPlan,
    ConnectView,
    Key,
    Managed,
    Resource,
    Source,
    Unmanaged,
)

FIELDS = (
    "name",
    "description",
    "price",
    "currency",
    "billing_interval",
    "features",
    "max_users",
    "max_conversations",
    "storage_limit",
    "is_active",
    "stripe_product_id",
    "stripe_price_id",
)


def from_manifest(document: Document) -> Managed | None:
    plans = document.get("plans")
    if plans is None or plans["source"] != "manifest":
        return None
    declared = (ConnectPlan(**item) for item in plans["items"])
    return managed(tuple(declared), plans["unmanaged"], "manifest")


def from_connect(view: ConnectView, unmanaged: Unmanaged) -> Managed | None:
    """None where Connect did not say: unknown is not absent."""
    return None if view.plans is None else managed(view.plans, unmanaged, "connect")


def managed(plans: Sequence[ConnectPlan], unmanaged: Unmanaged, source: Source) -> Managed:
    return Managed(
        tuple(_resource(plan, source) for plan in sorted(plans, key=lambda plan: plan.id)),
        unmanaged,
    )


def match(desired: Sequence[Resource], observed: Sequence[Resource]) -> Matches:
    """Each observed row goes to one desired plan at most; a better kind of match goes first."""
    free = {resource.key: resource for resource in observed}
    matches: dict[Key, Resource] = {}
    for identity in (_by_id, _by_stripe_product, _by_name):
        for plan in desired:
            if plan.key in matches:
                continue
            wanted = identity(plan)
            found = next((row for row in free.values() if wanted and identity(row) == wanted), None)
            if found is not None:
                matches[plan.key] = free.pop(found.key)
    return matches


def _by_id(resource: Resource) -> object:
    return resource.key.name


def _by_stripe_product(resource: Resource) -> object:
    return resource.fields.get("stripe_product_id")


def _by_name(resource: Resource) -> object:
    return resource.fields.get("name")


def _resource(plan: ConnectPlan, source: Source) -> Resource:
    fields = asdict(plan)
    name = fields.pop("id")
    fields["features"] = list(plan.features)
    return Resource(Key("plan", name), fields, source=source)


KIND = Kind(
    name="plan",
    order=7,
    fields=FIELDS,
    active="is_active",
    from_manifest=from_manifest,
    from_connect=from_connect,
    match=match,
)
