"""The fixture `connect_server`: an emulator over TLS with a CA of its own.

Use it by `pytest_plugins = ("tests.support.connect_fixture",)` in a test module. Types and tools to import are in
connect_running.py: a module that was imported before pytest loads it as a plugin makes pytest warn.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.connect_running import ConnectServer, running_connect


@pytest.fixture
def connect_server(tmp_path: Path) -> Iterator[ConnectServer]:
    folder = tmp_path / "connect"
    folder.mkdir()
    with running_connect(folder) as server:
        yield server
