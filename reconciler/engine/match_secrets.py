"""Decide, between reading and comparing, which stored secrets are equal to the declared ones.

A password is verified, never hashed again to compare. If the keyed fingerprint of the last applied password matches
both the declared password and the stored hash, not even bcrypt is needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from reconciler.engine.bcrypt import Passwords
from reconciler.model.kinds import BY_NAME
from reconciler.model.kinds.setting import as_secret, is_secret
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret, Unencrypted, Unusable, cost_of
from reconciler.model.types import BCRYPT_MOST_COST, Applied, Desired, Key, Managed, Resource, Snapshot, Value
from reconciler.planning.cause import with_renames_undone
from reconciler.support.crypto.keyring import KeyRing

UNKNOWN = Secret("")
"""Replaces a sensitive value that differs from the declared one; no declared secret is empty."""


@dataclass(frozen=True, slots=True)
class Prints:
    """Computes and checks the keyed digests of one instance's secrets that fivrec.applied keeps. They are bound to the
    instance: somebody who can write one database and read another can't copy them across."""

    keys: KeyRing
    instance: str

    def of(self, key: Key, field: str, declared: Secret, stored: str | None) -> dict[str, str]:
        """Returns what is kept of a secret: a digest of the secret, and one of its stored form."""
        if not self.keys.keys:
            return {}  # `setup` may run without a key: then nothing is kept, and bcrypt decides
        kept = {"declared": self.keys.fingerprint(declared, self._purpose(key, field))}
        if stored is not None:
            kept["stored"] = self.keys.fingerprint(Secret(stored), self._purpose(key, field, "stored"))
        return kept

    def is_declared(self, kept: Value, key: Key, field: str, secret: Value) -> bool:
        return self._matches(kept, "declared", secret, self._purpose(key, field))

    def is_stored(self, kept: Value, key: Key, field: str, stored: Value) -> bool:
        """Whether `stored`, a hash or an envelope as it is in the row, is the one that was applied."""
        text = Secret(stored.reveal()) if isinstance(stored, Secret) else None
        return self._matches(kept, "stored", text, self._purpose(key, field, "stored"))

    def _matches(self, kept: Value, what: str, secret: Value, purpose: str) -> bool:
        return (
            isinstance(kept, dict)
            and isinstance(secret, Secret)
            and self.keys.matches(str(kept.get(what)), secret, purpose)
        )

    def _purpose(self, key: Key, field: str, what: str = "") -> str:
        return json.dumps([self.instance, key.kind, field, what])


def match_secrets(
    snapshot: Snapshot, managed: Mapping[str, Managed], desired: Desired, keys: KeyRing, passwords: Passwords
) -> Snapshot:
    """Replace every stored or remembered secret that equals the declared one by the declared Secret. Raises
    NeedsBcrypt.

    A hash whose cost is lower than declared counts as another password, so that it is hashed again.
    """
    prints = Prints(keys, desired.instance)
    state = dict(snapshot.state)
    applied = dict(snapshot.applied)
    hashes = dict(snapshot.hashes)
    for name, declared in managed.items():
        kind = BY_NAME[name]
        if not kind.sensitive:
            continue
        if desired.whole:  # the same resources
            declared = with_renames_undone(declared, snapshot.state, snapshot.applied)  # noqa: PLW2901
        rows = tuple(row for row in snapshot.state.values() if row.key.kind == name)
        matches = kind.match(declared.resources, rows)
        for resource in declared.resources:
            row = matches.get(resource.key)
            last = snapshot.applied.get(resource.key)
            for field, seal in kind.sensitive.items():
                secret = resource.fields.get(field)
                outdated = False
                if row is not None and seal == "bcrypt" and field not in resource.on_create:
                    cheap = _is_cheap(row, field, desired.bcrypt_cost)
                    outdated = cheap and _is_ours(row, field, last, prints)
                    known = row
                    if not cheap:
                        known = _verified(row, field, secret, last=last, prints=prints, passwords=passwords)
                    if known is not row:
                        hashes[resource.key, field] = row.fields[field].reveal()
                        state[row.key] = row = known
                if last is not None and field in last.fields:
                    # fivrec's own hash with too low a cost is not drift: the declaration asks for more.
                    last = _recognised(last, resource.key, field, UNKNOWN if outdated else secret, prints)
                    applied[resource.key] = last
    _match_settings(state, applied, managed.get("setting"), prints)
    return replace(snapshot, state=state, applied=applied, hashes=hashes)


def hash_ahead(managed: Mapping[str, Managed], desired: Desired, passwords: Passwords) -> None:
    """Hash what a first apply will write, before it reads more than that: else it would read and plan twice. Raises
    NeedsBcrypt."""
    for name, declared in managed.items():
        hashed = {field for field, seal in BY_NAME[name].sensitive.items() if seal == "bcrypt"}
        for resource in declared.resources:
            for secret in (resource.fields.get(field) for field in hashed):
                if isinstance(secret, Secret) and not isinstance(secret, Unusable):
                    passwords.hashed(secret, desired.bcrypt_cost)


def most_cost(desired: Desired) -> int:
    """The highest cost of a stored hash that is verified; a manifest may ask for a higher one."""
    return max(BCRYPT_MOST_COST, desired.bcrypt_cost)


def _match_settings(
    state: dict[Key, Resource], applied: dict[Key, Applied], managed: Managed | None, prints: Prints
) -> None:
    """Match secret settings: stored in the open, and remembered only by their fingerprint."""
    declared = {item.key: item.fields["value"] for item in (managed.resources if managed else ())}
    secret = {key for key, value in declared.items() if isinstance(value, Secret)}
    secret |= {key for key, last in applied.items() if key.kind == "setting" and is_secret(last)}
    for key in secret & state.keys():
        state[key] = as_secret(state[key])
    for key, last in applied.items():
        if key.kind != "setting" or not is_secret(last):
            continue
        live = state[key].fields["value"] if key in state else None
        known = last.fields.get("value")
        values = [value for value in (declared.get(key), live) if isinstance(value, Secret)]
        found = next((value for value in values if prints.is_declared(known, key, "value", value)), UNKNOWN)
        applied[key] = replace(last, fields={"value": found})


def untried_hashes(snapshot: Snapshot, desired: Desired) -> tuple[str, ...]:
    """Returns a note for each administrator whose stored hash has a cost so high that verifying it would block
    everything else."""
    most = most_cost(desired)
    return tuple(
        f"⚠️ {key}: its stored hash is of bcrypt cost {cost}; more than {most} is not tried, so it is no match"
        for key, row in sorted(snapshot.state.items())
        if key.kind == "admin" and (cost := _cost(row, "password")) is not None and cost > most
    )


def _is_cheap(row: Resource, field: str, bcrypt_cost: int) -> bool:
    cost = _cost(row, field)
    return cost is not None and cost < bcrypt_cost


def _cost(row: Resource, field: str) -> int | None:
    """The cost of a stored hash; None if it is not a hash, or was already replaced by the declared password."""
    stored = row.fields.get(field)
    return cost_of(stored.reveal()) if isinstance(stored, Unencrypted) else None


def _is_ours(row: Resource, field: str, last: Applied | None, prints: Prints) -> bool:
    """Whether the stored hash is the one that was last applied."""
    return prints.is_stored(last.fields.get(field) if last else None, row.key, field, row.fields.get(field))


def _verified(
    row: Resource, field: str, secret: Value, *, last: Applied | None, prints: Prints, passwords: Passwords
) -> Resource:
    stored = row.fields.get(field)
    if not isinstance(secret, Secret) or not isinstance(stored, Secret):
        return row
    kept = last.fields.get(field) if last else None
    remembered = prints.is_stored(kept, row.key, field, stored) and prints.is_declared(kept, row.key, field, secret)
    if remembered or passwords.verified(secret, stored.reveal()):
        return replace(row, fields={**row.fields, field: secret})
    return row


def _recognised(last: Applied, key: Key, field: str, secret: Value, prints: Prints) -> Applied:
    known = prints.is_declared(last.fields[field], key, field, secret)
    return replace(last, fields={**last.fields, field: secret if known else UNKNOWN})
