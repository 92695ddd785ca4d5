"""Fixtures of the fault tests: a key ring, and the manifest that they apply."""

from __future__ import annotations

import pytest

from reconciler.adapters.crypto import KeyRing
from reconciler.adapters.key_source import generate_key


@pytest.fixture
def keys() -> KeyRing:
    return KeyRing.from_environ({"FIVREC_ENCRYPTION_KEY": generate_key()})
