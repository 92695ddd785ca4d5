"""`fivrec watch` as a process that tests start, inspect and stop."""

from __future__ import annotations

import json
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from subprocess import Popen
from threading import Thread
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from tests.support.harness import Fivrec, manifest

T = TypeVar("T")


def until(ask: Callable[[], T], seconds: float = 120.0, what: str = "") -> T:
    """Returns the first true answer. Raises AssertionError if none comes in time."""
    end = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < end, f"not within {seconds} s: {what or ask}: {answer!r}"
        time.sleep(0.05)


@dataclass
class Watching:
    """A running watch. `events` are the lines of its log, as documents."""

    process: Popen[str]
    events: list[dict[str, Any]] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    def of(self, operation: str, **fields: Any) -> list[dict[str, Any]]:
        return [
            event
            for event in list(self.events)
            if event["operation"] == operation and all(event.get(name) == value for name, value in fields.items())
        ]

    def alerts(self, name: str) -> list[dict[str, Any]]:
        return [event for event in list(self.events) if event.get("alert") == name]

    @property
    def address(self) -> str:
        (line,) = until(lambda: [it for it in self.events if "health and metrics on" in it["message"]])
        return str(line["message"]).rsplit(" ", 1)[-1]

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urlopen(self.address + path, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as answer:
            return answer.code, answer.read().decode()
        except URLError as error:
            return 0, str(error)

    def metric(self, name: str) -> float:
        """Returns the sum of a metric's samples."""
        page = self.get("/metrics")[1].splitlines()
        values = [line.rsplit(" ", 1)[1] for line in page if line.split("{")[0].split(" ")[0] == name]
        return sum(map(float, values))

    def stop(self, number: int = signal.SIGTERM, seconds: float = 60.0) -> int:
        self.process.send_signal(number)
        return self.process.wait(seconds)


@contextmanager
def watching(fivrec: Fivrec, *words: str, code: int | None = 143, **more: str | None) -> Iterator[Watching]:
    """Start a watch on client.yaml; stop it afterwards, and check that it ended as it should."""
    named = words if any(word.endswith((".yaml", "/")) for word in words) else ("client.yaml", *words)
    process = fivrec.start("watch", *named, "--log-format", "json", **more)
    found = Watching(process)

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            try:
                found.events.append(json.loads(line))
            except ValueError:
                found.other.append(line)

    reader = Thread(target=read, daemon=True)
    reader.start()
    try:
        yield found
    finally:
        if process.poll() is None:
            found.stop()
        reader.join(60)
        assert process.stdout is not None
        process.stdout.close()
        if process.stderr is not None:
            process.stderr.close()
    if code is not None:
        assert (process.returncode, found.other) == (code, [])


def another(fivrec: Fivrec, name: str, url: str) -> str:
    """Write a manifest for one more instance whose database has this URL, and make Connect know it. Returns the file's
    name."""
    mark = name.upper().replace("-", "_")
    fivrec.env |= {f"DATABASE_{mark}": url, f"KEY_{mark}": f"key-of-{name}-{secrets.token_hex(8)}"}
    fivrec.connect_set("--key-env", f"KEY_{mark}", instance=name)
    text = manifest(name, url=f"env: DATABASE_URL|env: DATABASE_{mark}", key=f"env: FIV_APP_API_KEY|env: KEY_{mark}")
    fivrec.write(text, f"{name}.yaml")
    return f"{name}.yaml"


class _Hook(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        receiver: Receiver = self.server.receiver  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer, delay_s = receiver.answer, receiver.delay_s  # of now: a test may set others for the posts to come
        receiver.posts.append(json.loads(body))
        time.sleep(delay_s)
        self.send_response(answer)
        self.end_headers()

    def log_message(self, *words: Any) -> None:
        """Log nothing."""


@dataclass
class Receiver:
    """Receives alerts at `url`."""

    url: str = ""
    answer: int = 200
    delay_s: float = 0.0
    posts: list[dict[str, Any]] = field(default_factory=list)

    def alerts(self) -> list[tuple[str | None, str]]:
        return [(alert.get("instance"), alert["alert"]) for post in list(self.posts) for alert in post["alerts"]]


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hook)
    server.receiver = receiver  # type: ignore[attr-defined]
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/hook-secret"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
