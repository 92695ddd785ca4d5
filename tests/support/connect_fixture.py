"""The fixture `connect_server`: an emulator over TLS with a CA of its own.

Use it by `pytest_plugins = ("tests.support.connect_fixture",)` in a test module. Import types and tools from
connect_running.py instead: pytest warns if a plugin's module was imported before it is loaded.
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
