"""Addresses to listen on: parsed from text, with errors that don't repeat Python's wording."""

from __future__ import annotations

import socket

import pytest

from reconciler.model.errors import FivrecError, UsageError
from reconciler.support.asgi_server import Listen, bound_socket, listen_from_text


def test_a_taken_port_is_named_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(FivrecError) as caught, bound_socket(Listen("127.0.0.1", port)):
            pass
    assert (caught.value.code, caught.value.message) == (
        "listen_failed",
        f"can't listen on 127.0.0.1:{port}: address already in use",
    )


def test_a_host_that_is_not_found_is_reported_as_such() -> None:
    with pytest.raises(FivrecError) as caught, bound_socket(Listen("nowhere.invalid", 0)):
        pass
    assert caught.value.message == "can't listen on nowhere.invalid:0: the host's name can't be resolved"


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1",
        ":",
        ":8443",
        "127.0.0.1:",
        "127.0.0.1:abc",
        "127.0.0.1:65536",
        "[::1",
        "[::1]",
        "h:٣",
        "h: 80",
        "h:1:2",
        "::1:80",
    ],
)
def test_an_address_without_host_or_port_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        listen_from_text(text, what=None)
    assert caught.value.message == f'--listen "{text}" is not HOST:PORT'


def test_brackets_belong_to_an_ipv6_host() -> None:
    found = [listen_from_text(text, what=None) for text in ("[::1]:8443", "127.0.0.1:0")]
    assert [(one.host, one.port) for one in found] == [("::1", 8443), ("127.0.0.1", 0)]
