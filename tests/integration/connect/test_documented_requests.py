"""docs/reference/connect.md matches what is sent: each request, its headers, and the fields of the bodies."""

from __future__ import annotations

import json
import re
from pathlib import Path

from reconciler.connect.client import open_client
from reconciler.connect.pool import ConnectSettings
from reconciler.model.secret import Secret
from reconciler.model.types import ConnectTarget
from tests.support.connect_server import Behaviour, answering, misbehaving

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/reference/connect.md").read_text(encoding="utf-8")
SECTIONS = dict(part.split("\n", 1) for part in PAGE.split("\n## ")[1:])
INSTANCE = "client-abc-123"
OF_HTTP = {"Host", "Content-Length", "Connection"}
REPORT = {
    "instanceId": INSTANCE,
    **dict.fromkeys(("totalUsers", "totalConversations", "totalClients", "totalQueues", "activeConversations"), 0),
    "environment": "production",
    "lastActivity": None,
    "features": {},
}


def named(text: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", text))


def first_column(section: str) -> set[str]:
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("|")]
    return named(" ".join(cells))


async def sent(tmp_path: Path) -> dict[str, set[str]]:
    """Returns each request by its line, with the names of its headers."""
    settings = ConnectSettings(ca_file=None, production=False, work_dir=tmp_path, backoff_s=0.01)
    answers: list[Behaviour] = [answering(b"[]")] * 4
    async with (
        misbehaving(*answers) as server,
        open_client(ConnectTarget(server.url, Secret("key-of-a-test")), INSTANCE, settings) as client,
    ):
        await client.fetch_view(plans=True)
        await client.fetch_databases()
        await client.send_usage(REPORT, "one")
    found = {}
    for head in server.requests:
        line, *headers = head.strip().split("\r\n")
        found[line.removesuffix(" HTTP/1.1").replace(INSTANCE, "INSTANCE")] = {
            header.partition(":")[0] for header in headers
        }
    return found


async def test_the_page_has_each_request_and_its_headers(tmp_path: Path) -> None:
    requests = await sent(tmp_path)
    assert set(requests) == {title for title in SECTIONS if re.match(r"(GET|POST) ", title)}
    everywhere = set(re.findall(r"^\| `([\w-]+)` \|", SECTIONS["Headers"], re.MULTILINE))
    for request, headers in requests.items():
        own = {"Idempotency-Key"} if request.startswith("POST") else set()
        assert headers - OF_HTTP == everywhere | own, request


def test_the_page_has_each_field() -> None:
    shown = {
        "status": first_column(SECTIONS["GET /api/v1/instances/status"]),
        "plans": first_column(SECTIONS["GET /api/v1/plans"]),
        "databases": named(SECTIONS["GET /api/v1/instances/INSTANCE/databases"].partition("The answer")[2]),
        "usage": first_column(SECTIONS["POST /api/v1/instances/INSTANCE/usage"]),
    }
    for name, fields in shown.items():
        schema = json.loads((ROOT / f"schemas/connect/{name}.schema.json").read_text(encoding="utf-8"))
        assert fields == set(schema.get("items", schema)["properties"]), name
