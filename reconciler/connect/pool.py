"""What the clients of one run share: settings, connections, and whom they trust."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from reconciler.connect.transport import PinnedTransport
from reconciler.model.errors import MissingSetting
from reconciler.model.records import dataclass


@dataclass(frozen=True, slots=True)
class ConnectSettings:
    """`total_s` bounds one call with all its tries; after `retry_s` a 5xx or a lost connection counts as failed. A
    Retry-After is honoured within `retry_s`, or up to `retry_after_s` where that is more. `dry`: the embedded Connect
    keeps nothing."""

    ca_file: str | None
    production: bool
    work_dir: Path
    total_s: float = 30
    tries: int = 3
    retry_s: float = 10
    retry_after_s: float = 10
    backoff_s: float = 0.3
    dry: bool = False


class ConnectPool:
    """Connections and trust that the clients of one run share."""

    def __init__(self, ca_file: str | None) -> None:
        if ca_file is not None:
            _load_trust(ca_file)  # a wrong file is told before anything is asked
        self.transport = PinnedTransport(lambda: _load_trust(ca_file))

    async def aclose(self) -> None:
        await self.transport.aclose()


@asynccontextmanager
async def open_pool(settings: ConnectSettings) -> AsyncIterator[ConnectPool]:
    pool = ConnectPool(settings.ca_file)
    try:
        yield pool
    finally:
        await pool.aclose()


def _load_trust(ca_file: str | None) -> ssl.SSLContext:
    """The system's CAs, as SSL_CERT_FILE and SSL_CERT_DIR may name them, or those of `ca_file` alone."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or "it holds no PEM certificate"
        raise MissingSetting(
            f"the CA file {ca_file} can't be used: {reason}",
            hint="give --ca-file a readable file of PEM certificates",
            code="connect_tls",
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
