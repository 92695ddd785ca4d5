"""A folder, a database and a Connect for each acceptance test."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.model.secret import Secret
from tests.support.harness import PASSWORD, Fivrec, connect_over_tls, manifest


@pytest.fixture
def bare(tmp_path: Path) -> Fivrec:
    """fivrec with nothing set."""
    return Fivrec(tmp_path)


@pytest.fixture
def fivrec(bare: Fivrec, absent_database: Secret) -> Iterator[Fivrec]:
    """fivrec with a manifest, a database yet to be created, and a Connect over TLS."""
    bare.env |= {
        "DATABASE_URL": absent_database.reveal(),
        "FIVREC_ENCRYPTION_KEY": base64.urlsafe_b64encode(bytes(range(32))).decode(),
        "FIV_ADMIN_PASSWORD": PASSWORD,
    }
    bare.write(manifest())
    with connect_over_tls(bare):
        yield bare


@pytest.fixture
def url(fivrec: Fivrec) -> str:
    """The instance's database."""
    return fivrec.env["DATABASE_URL"]
