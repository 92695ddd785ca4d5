"""A plan's secrets: the keyed digest that identifies them and their destination, and the generated password's file."""

from __future__ import annotations

import hashlib
import hmac

from reconciler.model.kinds.config import canonical_url
from reconciler.model.secret import Secret
from reconciler.model.types import Desired, Value, is_embedded
from reconciler.planning.plan import Bound, Plan, short_digest


def build_bound(desired: Desired) -> Bound:
    """What a plan of this manifest is bound to: its secrets, and the database and the Connect that they open."""
    connect = canonical_url(desired.connect.api_url) if desired.connect else None
    return Bound(
        _secrets(desired), _named("database", desired, _database(desired)), _named("connect", desired, connect)
    )


def _named(what: str, desired: Desired, target: Value) -> str:
    return short_digest([what, desired.instance, target])


def _database(desired: Desired) -> Value:
    """Host, port and name; user and password may change. An embedded server counts by the name in the manifest."""
    from reconciler.support.conninfo import server_identity

    spec = desired.database
    return spec.embedded or (spec.url.reveal() if is_embedded(spec.url.reveal()) else list(server_identity(spec.url)))


def _secrets(desired: Desired) -> str:
    """A digest of the declared secrets, keyed by the instance key: a plan is stale when one of them changed.

    Somebody who holds the plan can't test guesses of passwords against it without the instance key.
    """
    key = desired.connect.instance_key if desired.connect and not desired.issued_new else None
    mac = hmac.new((key.reveal() if key else "").encode(), b"fivrec plan v1", hashlib.sha256)
    for name, managed in sorted(desired.managed.items()):
        for resource in managed.resources:
            for field, value in sorted(resource.fields.items()):
                new = desired.generated_new if name == "admin" else name == "config" and desired.issued_new
                if isinstance(value, Secret) and not new:
                    mac.update(f"{name}\0{resource.key.name}\0{field}\0{value.reveal()}\0".encode())
    return mac.hexdigest()


def write_generated_password(plan: Plan, desired: Desired) -> str | None:
    """Keep a generated password that this plan stores, before the commit. Returns the place, for the log."""
    if not desired.generated or not desired.generated_new:
        return None
    stored = any(field.sensitive for change in plan.changes if change.key.kind == "admin" for field in change.fields)
    if not stored:
        return None
    from reconciler.manifest.references import write_generated

    write_generated(desired)
    return f"🔑 the generated admin password is in {desired.generated}"
