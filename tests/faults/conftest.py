"""Fixtures of the fault tests: a key ring, and the manifest to apply."""

from __future__ import annotations

import pytest

from reconciler.support.crypto.key_files import generate_key
from reconciler.support.crypto.keyring import KeyRing


@pytest.fixture
def keys() -> KeyRing:
    return KeyRing.from_environ({"FIVREC_ENCRYPTION_KEY": generate_key()})
