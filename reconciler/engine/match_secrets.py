"""Between reading and comparing: which stored secrets are the declared ones.

A password is verified, never hashed anew to compare. Where the keyed fingerprint of the last applied password fits
both the declared one and the stored hash, not even bcrypt is needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from reconciler.engine.bcrypt import Passwords
from reconciler.model.kinds import BY_NAME
from reconciler.model.kinds.setting import as_secret, is_secret
from reconciler.model.secret import Secret
from reconciler.model.types import Applied, Key, Managed, Resource, Snapshot, Value
from reconciler.support.crypto.keyring import KeyRing

UNKNOWN = Secret("")
"""Stands for a sensitive value that is not the declared one; no declared secret is empty."""


def fingerprint(keys: KeyRing, key: Key, field: str, declared: Secret, stored: str | None) -> dict[str, str]:
    """What fivrec.applied keeps of a secret: a keyed digest of it, and a digest of what was stored for it."""
    if not keys.keys:
        return {}  # `setup` may run without a key: nothing to compare by, bcrypt will tell
    kept = {"declared": keys.fingerprint(declared, f"{key.kind}.{field}")}
    if stored is not None:
        kept["stored"] = _digest(stored)
    return kept


def match_secrets(
    snapshot: Snapshot, managed: Mapping[str, Managed], keys: KeyRing, bcrypt_cost: int, passwords: Passwords
) -> Snapshot:
    """Put the declared Secret in place of every stored or remembered one that is the same. Unanswered.

    A hash of less than `bcrypt_cost` counts as another password, so that it is made anew.
    """
    state = dict(snapshot.state)
    applied = dict(snapshot.applied)
    hashes = dict(snapshot.hashes)
    for name, declared in managed.items():
        kind = BY_NAME[name]
        if not kind.sensitive:
            continue
        rows = tuple(row for row in snapshot.state.values() if row.key.kind == name)
        matches = kind.match(declared.resources, rows)
        for resource in declared.resources:
            row = matches.get(resource.key)
            last = snapshot.applied.get(resource.key)
            for field, seal in kind.sensitive.items():
                secret = resource.fields.get(field)
                outdated = False
                if row is not None and seal == "bcrypt" and field not in resource.on_create:
                    cheap = _is_cheap(row, field, bcrypt_cost)
                    outdated = cheap and _is_ours(row, field, last)
                    known = row
                    if not cheap:
                        known = _verified(row, field, secret, last=last, keys=keys, passwords=passwords)
                    if known is not row:
                        hashes[resource.key, field] = row.fields[field].reveal()
                        state[row.key] = row = known
                if last is not None and field in last.fields:
                    # A hash of ours that is too cheap by now is no drift: the declaration asks for more.
                    last = _recognised(last, resource.key, field, UNKNOWN if outdated else secret, keys)
                    applied[resource.key] = last
    _match_settings(state, applied, managed.get("setting"), keys)
    return replace(snapshot, state=state, applied=applied, hashes=hashes)


def _match_settings(
    state: dict[Key, Resource], applied: dict[Key, Applied], managed: Managed | None, keys: KeyRing
) -> None:
    """Secret settings: stored in the open, and remembered by the fingerprint alone."""
    declared = {item.key: item.fields["value"] for item in (managed.resources if managed else ())}
    secret = {key for key, value in declared.items() if isinstance(value, Secret)}
    for key in secret & state.keys():
        state[key] = as_secret(state[key])
    for key, last in applied.items():
        if key.kind != "setting" or not is_secret(last):
            continue
        live = state[key].fields["value"] if key in state else None
        known = last.fields.get("value")
        text = str(known.get("declared")) if isinstance(known, dict) else ""
        values = [value for value in (declared.get(key), live) if isinstance(value, Secret)]
        found = next((value for value in values if keys.matches(text, value, f"{key.kind}.value")), UNKNOWN)
        applied[key] = replace(last, fields={"value": found})


def _is_cheap(row: Resource, field: str, bcrypt_cost: int) -> bool:
    from reconciler.support.crypto.passwords import read_cost

    stored = row.fields.get(field)
    cost = read_cost(stored.reveal()) if isinstance(stored, Secret) else None
    return cost is not None and cost < bcrypt_cost


def _is_ours(row: Resource, field: str, last: Applied | None) -> bool:
    """Whether the stored hash is the one that was last applied."""
    kept = last.fields.get(field) if last else None
    stored = row.fields.get(field)
    return isinstance(kept, dict) and isinstance(stored, Secret) and kept.get("stored") == _digest(stored.reveal())


def _verified(
    row: Resource, field: str, secret: Value, *, last: Applied | None, keys: KeyRing, passwords: Passwords
) -> Resource:
    stored = row.fields.get(field)
    if not isinstance(secret, Secret) or not isinstance(stored, Secret):
        return row
    kept = last.fields.get(field) if last else None
    if _remembered(f"{row.key.kind}.{field}", secret, stored, kept, keys):
        return replace(row, fields={**row.fields, field: secret})
    if passwords.verified(secret, stored.reveal()):
        return replace(row, fields={**row.fields, field: secret})
    return row


def _remembered(purpose: str, secret: Secret, stored: Secret, kept: Value, keys: KeyRing) -> bool:
    if not isinstance(kept, dict) or kept.get("stored") != _digest(stored.reveal()):
        return False
    return keys.matches(str(kept.get("declared")), secret, purpose)


def _recognised(last: Applied, key: Key, field: str, secret: Value, keys: KeyRing) -> Applied:
    kept = last.fields[field]
    known = (
        isinstance(secret, Secret)
        and isinstance(kept, dict)
        and keys.matches(str(kept.get("declared")), secret, f"{key.kind}.{field}")
    )
    return replace(last, fields={**last.fields, field: secret if known else UNKNOWN})


def _digest(stored: str) -> str:
    return hashlib.sha256(stored.encode()).hexdigest()
