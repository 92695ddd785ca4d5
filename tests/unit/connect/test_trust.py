"""trust: which CAs count for servers other than Connect."""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from reconciler.connect.pool import ConnectPool
from reconciler.connect.trust import Trust, WiderTrust, load_context
from reconciler.web.oidc import Client, Provider


def trusted(own: Trust) -> int:
    """Returns how many certificates are trusted besides the system's."""
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


def test_an_identity_provider_may_use_a_ca_of_system_or_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is for Connect: it may not contain the provider's CA."""
    authorities = trustme.CA(), trustme.CA()
    for name, authority in zip(("system.pem", "connect.pem"), authorities, strict=True):
        authority.cert_pem.write_to_path(str(tmp_path / name))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "system.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    made: list[ssl.SSLContext] = []
    monkeypatch.setattr("httpx.AsyncClient", lambda *, verify, **_: made.append(verify))
    for ca_file in (None, str(tmp_path / "connect.pem")):
        Provider(Client("https://login.example", "fivrec", ca_file=ca_file), lambda: datetime.now(UTC))._http()
    assert [len(context.get_ca_certs()) for context in made] == [1, 2]


def test_a_ca_taken_out_of_the_file_counts_no_more_beside_the_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    authorities, path, changes = [trustme.CA(), trustme.CA()], tmp_path / "connect.pem", []
    authorities[0].cert_pem.write_to_path(str(path))
    wider = WiderTrust(Trust(str(path)), lambda: changes.append("changed"))

    def known() -> list[bytes]:
        return wider.context().get_ca_certs(binary_form=True)

    assert (known(), wider.context() is wider.context()) == ([der(authorities[0])], True)
    draft = tmp_path / "new.pem"
    authorities[1].cert_pem.write_to_path(str(draft))
    draft.replace(path)
    assert (known(), changes) == ([der(authorities[1])], ["changed"])


def der(authority: trustme.CA) -> bytes:
    return ssl.PEM_cert_to_DER_cert(authority.cert_pem.bytes().decode())


async def test_with_a_ca_file_other_servers_have_a_trust_of_their_own(tmp_path: Path) -> None:
    """The file is for Connect: a receiver of alerts may have a certificate of a public CA."""
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "connect.pem"))
    for ca_file, shared in ((None, True), (str(tmp_path / "connect.pem"), False)):
        pool = ConnectPool(ca_file)
        assert (pool.for_others is pool.transport) is shared
        await pool.aclose()
