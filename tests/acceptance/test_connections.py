"""A run of many instances opens at most --forks connections to Connect, in every command that uses it."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reconciler.model.secret import Secret
from tests.support.connect_running import make_tls
from tests.support.harness import PASSWORD, Fivrec

NAMES = [f"client-{number}" for number in range(6)]
PLAN = {"id": "plan_x", "name": "X", "price": 2900, "currency": "BRL", "billingInterval": "monthly", "features": []}
ONE = """\
version: 1
instance: {name}
environment: production
database: {{url: {{env: DATABASE_URL_{number}}}}}
config:
  connect_api_url: {{env: FIV_APP_API_URL}}
  instance_key: {{env: KEY_{number}}}
  company_name: Empresa
admin: {{name: A, email: a@empresa.com, password: {{env: FIV_ADMIN_PASSWORD}}, bcrypt_cost: 12}}
queues: [{{name: Sales}}]
plans: {{source: connect}}
"""


@dataclass
class Panel:
    url: str = ""
    connections: int = 0
    requests: list[str] = field(default_factory=list)


@asynccontextmanager
async def panel(folder: Path) -> AsyncIterator[Panel]:
    """Serves Connect for all of NAMES; the key of each is key-of-NAME."""
    files, seen = make_tls(folder), Panel()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.cert, files.key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                path = head.split(" ")[1]
                seen.requests.append(path)
                name = head.partition("X-Instance-Key: key-of-")[2].partition("\r\n")[0]
                status = {"instanceId": name, "status": "active", "billingStatus": "paid", "enabledFeatures": {}}
                content = json.dumps([PLAN] if path.endswith("plans") else status).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content))
                await writer.drain()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    seen.url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield seen
    finally:
        server.close()


@pytest.mark.parametrize("forks", [1, 3])
@pytest.mark.parametrize("command", ["plans", "apply"])
async def test_a_run_opens_as_many_connections_as_forks(
    command: str, forks: int, tmp_path: Path, make_database: Callable[[], Secret]
) -> None:
    fivrec = Fivrec(tmp_path)
    async with panel(tmp_path) as connect:
        fivrec.env = {
            "FIV_APP_API_URL": connect.url,
            "SSL_CERT_FILE": str(tmp_path / "ca.pem"),
            "FIV_ADMIN_PASSWORD": PASSWORD,
            "FIVREC_ENCRYPTION_KEY": "A" * 43 + "=",
        }
        for number, name in enumerate(NAMES):
            fivrec.env |= {f"KEY_{number}": f"key-of-{name}", f"DATABASE_URL_{number}": make_database().reveal()}
        text = "---\n".join(ONE.format(name=name, number=number) for number, name in enumerate(NAMES))
        fivrec.write(text, "fleet.yaml")
        ended = await asyncio.to_thread(fivrec.run, command, "fleet.yaml", "--forks", str(forks), "-o", "json")
    assert ended.code == 0, ended.stderr + ended.stdout
    expected = {"plans": len(NAMES), "apply": 2 * len(NAMES)}[command]
    assert (len(connect.requests), connect.connections <= forks) == (expected, True), connect.connections
