"""A plan's secrets: the keyed digest that names them, and the generated password's file."""

from __future__ import annotations

import hashlib
import hmac

from reconciler.core.model import Desired
from reconciler.core.plan import Plan
from reconciler.core.secret import Secret


def plan_secrets(desired: Desired) -> str:
    """A digest of the declared secrets, keyed by the instance key: a plan is stale when one of them changed.

    Who holds the plan can't try out passwords with it unless he holds the instance key already.
    """
    key = desired.connect.instance_key if desired.connect else None
    mac = hmac.new((key.reveal() if key else "").encode(), b"fivrec plan v1", hashlib.sha256)
    for name, managed in sorted(desired.managed.items()):
        for resource in managed.resources:
            for field, value in sorted(resource.fields.items()):
                if isinstance(value, Secret) and not (name == "admin" and desired.generated_new):
                    mac.update(f"{name}\0{resource.key.name}\0{field}\0{value.reveal()}\0".encode())
    return mac.hexdigest()


def write_generated_password(plan: Plan, desired: Desired) -> str | None:
    """Keep a generated password that this plan stores, before it is committed. Returns where, to be said."""
    if not desired.generated or not desired.generated_new:
        return None
    stored = any(field.sensitive for change in plan.changes if change.key.kind == "admin" for field in change.fields)
    if not stored:
        return None
    from reconciler.adapters.references import write_generated

    write_generated(desired)
    return f"🔑 the generated admin password is in {desired.generated}"
