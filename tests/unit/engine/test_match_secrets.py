"""Which stored secrets equal the declared ones: none of a resource declared without a secret, or no longer declared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from reconciler.engine.bcrypt import Passwords
from reconciler.engine.match_secrets import UNKNOWN, Prints, match_secrets
from reconciler.model.kinds.setting import SENSITIVE
from reconciler.model.secret import Secret, Unencrypted
from reconciler.model.types import Desired, Key, Managed, Resource, Snapshot, Value
from reconciler.support.crypto.key_files import generate_key
from reconciler.support.crypto.keyring import KeyRing
from tests.support.examples import INSTANCE, desired, setting, snapshot

KEYS = KeyRing.from_environ({"FIVREC_ENCRYPTION_KEY": generate_key()})
ANA, TOKEN = Key("admin", "ana@empresa.com"), Key("setting", "token")
HASH = "$2b$12$abcdefghijklmnopqrstuu5kYwVQ0e0hZ0Q2vTqk9sVwq3mXkKk5G"


def prints(key: Key, field: str, secret: str, stored: str | None = None) -> dict[str, str]:
    return Prints(KEYS, INSTANCE).of(key, field, Secret(secret), stored)


def admin(password: Value) -> Resource:
    return Resource(ANA, {"name": "Ana", "password": password, "role": "admin"})


def matched(wanted: Desired, found: Snapshot, managed: Mapping[str, Managed] | None = None) -> Snapshot:
    return match_secrets(found, wanted.managed if managed is None else managed, wanted, KEYS, Passwords())


def test_a_password_that_is_not_declared_is_not_asked_of_bcrypt() -> None:
    """Otherwise NeedsBcrypt would be raised; the applied password is still known as one that is not declared."""
    found = snapshot(admin(Unencrypted(HASH)), last=[admin(prints(ANA, "password", "old", HASH))])
    after = matched(desired(admin(None)), found)
    assert after.state[ANA].fields["password"].reveal() == HASH
    assert after.applied[ANA].fields["password"] is UNKNOWN
    assert after.hashes == {}


@pytest.mark.parametrize(("password", "known"), [("senha-123", True), ("another", False)])
def test_a_password_counts_as_applied_by_its_fingerprint(password: str, *, known: bool) -> None:
    kept = prints(ANA, "password", "senha-123", HASH)
    wanted = replace(admin(Secret(password)), on_create=frozenset({"password"}))
    after = matched(desired(wanted), snapshot(admin(Unencrypted(HASH)), last=[admin(kept)]))
    assert (after.applied[ANA].fields["password"] == Secret(password)) is known
    assert after.state[ANA].fields["password"].reveal() == HASH  # on_create: the stored hash is not verified


def remembered(secret: str) -> Resource:
    return Resource(TOKEN, {"value": prints(TOKEN, "value", secret), SENSITIVE: True})


@pytest.mark.parametrize("managed", [None, {}], ids=["others declared", "none managed"])
@pytest.mark.parametrize(("live", "known"), [("s3cret", True), ("by hand", False)])
def test_a_secret_setting_that_is_declared_no_more_stays_one(
    live: str, *, known: bool, managed: dict[str, Managed] | None
) -> None:
    """Its row is compared by fingerprint only, and its value is in no report."""
    found = snapshot(setting("token", live), setting("locale", "pt"), last=[remembered("s3cret")])
    after = matched(desired(setting("locale", "pt")), found, managed)
    assert after.state[TOKEN].fields["value"] == Secret(live)
    assert after.applied[TOKEN].fields["value"] == (Secret("s3cret") if known else UNKNOWN)
    assert after.state[Key("setting", "locale")] == setting("locale", "pt")


def test_a_secret_setting_whose_row_is_gone_is_unknown() -> None:
    after = matched(desired(setting("locale", "pt")), snapshot(last=[remembered("s3cret")]))
    assert after.state == {}
    assert after.applied[TOKEN].fields == {"value": UNKNOWN}
