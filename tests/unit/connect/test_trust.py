"""Whom servers that are not Connect are trusted by."""

from __future__ import annotations

import os
from pathlib import Path

import trustme

from reconciler.connect.trust import Trust, WiderTrust, load_context


def trusted(own: Trust) -> int:
    """How many certificates are trusted besides the system's."""
    wider = WiderTrust(own, lambda: None)
    return wider.context().cert_store_stats()["x509"] - load_context(None).cert_store_stats()["x509"]


def test_a_certificate_that_is_no_ca_counts_beside_the_systems(tmp_path: Path) -> None:
    authority = trustme.CA()
    leaf = authority.issue_cert("hook.example").cert_chain_pems[0]
    for content in (leaf, authority.cert_pem):
        content.write_to_path(str(tmp_path / "ca.pem"))
        assert trusted(Trust(str(tmp_path / "ca.pem"))) == 1


def test_the_cas_of_a_pipe_count(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, trustme.CA().cert_pem.bytes())
    os.close(writing)
    try:
        assert trusted(Trust(f"/dev/fd/{reading}")) == 1
    finally:
        os.close(reading)
