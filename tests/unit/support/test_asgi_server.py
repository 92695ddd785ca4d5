"""A port that is taken is reported in the system's words, without Python's."""

from __future__ import annotations

import socket

import pytest

from reconciler.model.errors import FivrecError
from reconciler.support.asgi_server import Listen, bound_socket


def test_a_taken_port_is_named_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(FivrecError) as caught, bound_socket(Listen("127.0.0.1", port)):
            pass
    assert (caught.value.code, caught.value.message) == (
        "listen_failed",
        f"can't listen on 127.0.0.1:{port}: address already in use",
    )
