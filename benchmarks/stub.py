"""A fast Connect for benchmarks: status and plans of any instance, over kept loopback HTTP/1.1 connections; with TLS if
it has a certificate.

The key names the instance: `key-<instance>`. Prints `listening PORT`; ends on SIGTERM or when stdin closes. GET /counts
returns the number of connections, of resumed TLS sessions, and of requests. `--faults 0.05` answers that share of
requests with a 500, by a seeded generator. The tested emulator is `fivrec connect serve`; this one only has to cost
nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import ssl
import sys
from collections import Counter
from typing import ClassVar

PLANS = (
    ("starter", "Starter", "Basic plan for small businesses", 2900, 2, 50, 500, ["basic_chat", "email_support"]),
    ("professional", "Professional", "Plan for growing teams", 9900, 10, 500, 5000, ["advanced_chat", "ai_chatbot"]),
    ("enterprise", "Enterprise", "Plan for large companies", 29900, 50, 2000, 20000, ["full_chat", "ai_agent"]),
)  # fmt: skip


def plans() -> list[dict[str, object]]:
    """Returns the answer to GET /api/v1/plans."""
    return [
        {
            "id": f"plan_{slug}",
            "name": name,
            "description": description,
            "price": price,
            "currency": "BRL",
            "billingInterval": "monthly",
            "features": features,
            "maxUsers": users,
            "maxConversations": conversations,
            "storageLimit": storage,
            "isActive": True,
            "stripeProductId": f"prod_{slug}",
            "stripePriceId": f"price_{slug}",
        }
        for slug, name, description, price, users, conversations, storage, features in PLANS
    ]


def status(instance: str) -> dict[str, object]:
    """Returns the answer to GET /api/v1/instances/status."""
    features = {"chat": True, "chatbot": True, "ai_agent": False}
    return {
        "instanceId": instance,
        "status": "active",
        "billingStatus": "paid",
        "enabledFeatures": features,
    }


def answer(code: str, body: object) -> bytes:
    payload = json.dumps(body).encode()
    head = f"HTTP/1.1 {code}\r\nContent-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
    return head.encode() + payload


class Connect(asyncio.Protocol):
    """One client's connection; requests may arrive in pieces or several at once."""

    plans = answer("200 OK", plans())
    broken = answer("500 Internal Server Error", {"error": "benchmark fault"})

    counts: ClassVar[Counter[str]] = Counter()

    def __init__(self, faults: float, chance: random.Random, delay: float) -> None:
        self.faults = faults
        self.delay = delay
        self.chance = chance
        self.rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.counts["connections"] += 1
        secured = transport.get_extra_info("ssl_object")
        self.counts["resumed"] += bool(secured and secured.session_reused)

    def data_received(self, data: bytes) -> None:
        self.rest += data
        while (end := self.rest.find(b"\r\n\r\n")) >= 0:
            head = self.rest[:end]
            lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
            fields = {name.strip().lower(): value.strip() for name, _, value in lines}
            length = int(fields.get(b"content-length", b"0"))
            if len(self.rest) < end + 4 + length:
                return
            self.rest = self.rest[end + 4 + length :]
            if self.delay:
                answering = self.transport.write  # type: ignore[attr-defined]
                asyncio.get_running_loop().call_later(self.delay, answering, self.reply(head, fields))
            else:
                self.transport.write(self.reply(head, fields))  # type: ignore[attr-defined]

    def reply(self, head: bytes, fields: dict[bytes, bytes]) -> bytes:
        key = fields.get(b"x-instance-key", b"").decode()
        path = head.split(b" ", 2)[1]
        if path == b"/counts":
            self.counts["connections"] -= 1  # this request's own connection does not count
            return answer("200 OK", self.counts)
        return self.api(path, key)

    def api(self, path: bytes, key: str) -> bytes:
        self.counts["requests"] += 1
        if self.faults and self.chance.random() < self.faults:
            return self.broken
        if not key.startswith("key-"):
            return answer("401 Unauthorized", {"error": "Missing instance key"})
        match path:
            case b"/api/v1/plans":
                return self.plans
            case b"/api/v1/instances/status":
                return answer("200 OK", status(key.removeprefix("key-")))
            case _ if path.endswith(b"/usage"):
                return answer("200 OK", {"success": True})
            case _:
                return answer("404 Not Found", {"error": "Instance not configured"})


async def serve(given: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    chance = random.Random(given.seed)
    context = None
    if given.cert:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(given.cert, given.key)
    listening = await loop.create_server(
        lambda: Connect(given.faults, chance, given.delay), "127.0.0.1", given.port, backlog=1024, ssl=context
    )
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    loop.add_reader(sys.stdin.fileno(), ended.set)
    print("listening", listening.sockets[0].getsockname()[1], flush=True)
    await ended.wait()
    listening.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--faults", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--cert", help="TLS: a file of PEM certificates")
    parser.add_argument("--key", help="TLS: its private key")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
