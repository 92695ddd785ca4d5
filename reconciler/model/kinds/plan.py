"""kind plan: rows of plans, from Connect or from the manifest, known by Connect's id.

An existing row is matched by id, else by stripe_product_id, else by name, and keeps its id: others may refer to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from reconciler.model.kinds.base import (
    Breach,
    Document,
    ExportSpec,
    Kind,
    Matches,
    Section,
    check_twice,
    declared_items,
    literal,
)
from reconciler.model.types import (
    ConnectPlan,
    ConnectView,
    JsonText,
    Key,
    Managed,
    Resource,
    Source,
    Unmanaged,
    Value,
    canonical,
)

FIELDS = (
    *("name", "description", "price", "currency", "billing_interval", "features"),
    *("max_users", "max_conversations", "storage_limit", "is_active", "stripe_product_id", "stripe_price_id"),
)


def from_manifest(document: Document) -> Managed | None:
    plans = document.get("plans")
    if plans is None or plans["source"] != "manifest":
        return None
    declared = (ConnectPlan(**item) for item in plans["items"])
    return managed(tuple(declared), plans["unmanaged"], "manifest")


def from_connect(view: ConnectView, unmanaged: Unmanaged) -> Managed | None:
    """Returns None if Connect did not say: unknown is not absent."""
    return None if view.plans is None else managed(view.plans, unmanaged, "connect")


def managed(plans: Sequence[ConnectPlan], unmanaged: Unmanaged, source: Source) -> Managed:
    return Managed(
        tuple(_resource(plan, source) for plan in sorted(plans, key=lambda plan: plan.id)),
        unmanaged,
        source,
    )


def match(desired: Sequence[Resource], observed: Sequence[Resource]) -> Matches:
    """Each observed row goes to one desired plan at most; better kinds of match come first.

    Two prices of one product, or two plans with one name, must not swap their rows: what refers to a row would get the
    other plan. So a match in every field, and then one in the price, comes before one in the product alone. Of rows
    that match a plan equally well, an active one is used: the others are its retired doubles.
    """
    free = {row.key: row for row in sorted(observed, key=lambda row: not row.fields.get("is_active"))}
    matches: dict[Key, Resource] = {}
    for identity in (_id, _all_fields, _stripe_price, _product_and_name, _stripe_product, _name):
        waiting = [plan for plan in desired if plan.key not in matches]
        if not waiting or not free:
            break
        rows: dict[str, list[Resource]] = {}
        for row in free.values():
            rows.setdefault(identity(row), []).append(row)
        for plan in waiting:
            wanted = identity(plan)
            if wanted and rows.get(wanted):
                matches[plan.key] = row = rows[wanted].pop(0)
                del free[row.key]
    return matches


def _id(resource: Resource) -> str:
    return resource.key.name


def _all_fields(resource: Resource) -> str:
    return canonical([resource.fields.get(name) for name in FIELDS])


def _stripe_price(resource: Resource) -> str:
    price = resource.fields.get("stripe_price_id")
    return f"{_stripe_product(resource)}\0{price}" if price else ""


def _product_and_name(resource: Resource) -> str:
    product = _stripe_product(resource)
    return f"{product}\0{_name(resource)}" if product else ""


def _stripe_product(resource: Resource) -> str:
    return resource.fields.get("stripe_product_id") or ""


def _name(resource: Resource) -> str:
    return resource.fields.get("name") or ""


def _resource(plan: ConnectPlan, source: Source) -> Resource:
    # Not asdict(), which makes deep copies: for each plan in every turn of a watch, a tenth of its time.
    fields = {name: getattr(plan, name) for name in FIELDS}
    fields["features"] = list(plan.features)
    return Resource(Key("plan", plan.id), fields, source=source)


def places(document: Document, name: str) -> Mapping[str, str]:
    ids = [item["id"] for item in declared_items(document, "plans")]
    return {field: f"plans/items/{ids.index(name)}/{field}" for field in FIELDS} if name in ids else {}


def breaches(document: Document) -> Iterator[Breach]:
    ids = [plan.get("id") for plan in declared_items(document, "plans")]
    return check_twice("plans/items", "id", ids, "plans")


def names(document: Document) -> Iterator[tuple[str, str]]:
    for index, item in enumerate(declared_items(document, "plans")):
        yield f"plans/items/{index}/name", item["name"]


def export_item(row: Resource) -> dict[str, Value]:
    shown = {name: str(value) if isinstance(value, JsonText) else value for name, value in row.fields.items()}
    fields = {name: literal(value) for name, value in shown.items() if name != "duplicates"}
    return {"id": literal(row.key.name), **fields}


def export(rows: Sequence[Resource], about: ExportSpec) -> dict[str, Value]:
    if about.plans == "connect":
        return {"plans": {"source": "connect"}}
    return {"plans": {"source": "manifest", "items": [export_item(row) for row in rows]}} if rows else {}


KIND = Kind(
    name="plan",
    order=7,
    folded=str,  # an id is not a name: a row keeps its own
    fields=FIELDS,
    active="is_active",
    from_manifest=from_manifest,
    from_connect=from_connect,
    match=match,
    places=places,
    remembered=True,
    table="plans",
    json_fields=frozenset({"features"}),
    section=Section("plans", "plans", item="plan"),
    breaches=breaches,
    names=names,
    export=export,
    export_item=export_item,
    connect_request="GET /api/v1/plans",
)
