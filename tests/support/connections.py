"""The type of the fixture that opens connections."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from reconciler.database.connection import Connection

Connect: TypeAlias = Callable[..., Awaitable[Connection]]
