"""A Connect over TLS that answers as documented, or echoes the key that it was sent."""

from __future__ import annotations

import gzip
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.support.connect_running import make_tls

STATUS = {
    "instanceId": "client-abc-123",
    "status": "active",
    "billingStatus": "paid",
    "enabledFeatures": {"chat": True},
}
PLAN = {"id": "plan_x", "name": "X", "price": 2900, "currency": "BRL", "billingInterval": "monthly", "features": []}


@dataclass
class Echo:
    """`mode` says how it answers from now on."""

    url: str
    ca_file: str
    mode: str = "well"

    def answer(self, path: str, key: str) -> tuple[int, dict[str, str], bytes]:
        """Returns status, headers and body. Every mode but "well" puts the key wherever it fits."""
        if self.mode.isdigit():
            return int(self.mode), {"X-Echo": ascii(key)}, json.dumps({"error": f"no such key: {key}"}).encode()
        well: object = [] if "databases" in path else [PLAN] if path.endswith("/plans") else STATUS
        if "/usage" in path:
            well = {"success": True}
        bodies = {
            "not json": f"<html>{key}</html>".encode(),
            "not utf-8": b"\xff" + key.encode(),
            "wrong type": json.dumps([key]).encode(),
            "wrong instance": json.dumps({**STATUS, "instanceId": key}).encode(),
            "unknown status": json.dumps({**STATUS, "status": key}).encode(),
            "unknown billing": json.dumps({**STATUS, "billingStatus": key}).encode(),
            "odd feature": json.dumps({**STATUS, "enabledFeatures": {key: key}}).encode(),
            "unknown key": json.dumps({**STATUS, key: key}).encode(),
            "too large": json.dumps({**STATUS, "x": key * 100_000}).encode(),
            "gzip bomb": gzip.compress(key.encode() + bytes(20 << 20)),
            "broken gzip": gzip.compress(key.encode())[:-9],
        }
        headers = {"Content-Encoding": "gzip"} if "gzip" in self.mode else {}
        if self.mode == "redirect":
            return 302, {"Location": f"https://127.0.0.1:1/{key!a}"}, b""
        return 200, headers, bodies.get(self.mode) or json.dumps(well).encode()


@contextmanager
def echoing(folder: Path) -> Iterator[Echo]:
    files = make_tls(folder)
    echo = Echo("", str(files.ca))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, headers, body = echo.answer(self.path, self.headers.get("X-Instance-Key") or "")
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 (http.server names it so)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (http.server's signature)
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.cert, files.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    echo.url = f"https://127.0.0.1:{server.server_address[1]}"
    try:
        yield echo
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)
