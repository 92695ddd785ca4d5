"""Fi.V Connect over HTTPS: the four endpoints of the seed, asked with deadlines, limits and retries of our own.

Faults that are foreseen become `ConnectError`, or problems inside a `ConnectView`; no text of an answer is quoted. This
is the one module outside the command line that knows the emulator: `embedded:` answers inside the process.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from reconciler import __version__
from reconciler.adapters import connect_answers as answers
from reconciler.adapters import connect_faults as faults
from reconciler.adapters.addresses import url_problem
from reconciler.adapters.connect_answers import ConnectDatabase
from reconciler.adapters.connect_transport import PinnedTransport
from reconciler.adapters.lean_httpx import httpx
from reconciler.core.model import ConnectPlan, ConnectTarget, ConnectView, Problem
from reconciler.core.secret import Secret
from reconciler.errors import ConnectError, MissingSetting

EMBEDDED = "embedded:"
MAX_BODY = 1024 * 1024
_CHUNK = 16 * 1024


@dataclass(frozen=True, slots=True)
class ConnectSettings:
    """`total_s` bounds one call with all its tries; after `retry_s` a 5xx or a lost connection counts as failed. A
    Retry-After is honoured within `retry_s`, or up to `retry_after_s` where that is more."""

    ca_file: str | None
    production: bool
    work_dir: Path
    total_s: float = 30
    tries: int = 3
    retry_s: float = 10
    retry_after_s: float = 10
    backoff_s: float = 0.3


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


@asynccontextmanager
async def open_client(
    target: ConnectTarget,
    instance: str,
    settings: ConnectSettings,
    pool: ConnectPool | None = None,
) -> AsyncIterator[ConnectClient]:
    """A client of one instance. MissingSetting where the CA file or the embedded state can't be read."""
    own = ConnectPool(settings.ca_file) if pool is None else None
    transport: httpx.AsyncBaseTransport = (pool or own).transport  # type: ignore[union-attr]
    key = target.instance_key
    if target.api_url.startswith(EMBEDDED):
        transport, key = _embedded(target, instance, settings)
    try:
        yield ConnectClient(transport, target.api_url, instance, key or Secret(""), settings)
    finally:
        if own is not None:
            await own.aclose()


def embedded_key(target: ConnectTarget, instance: str, work_dir: Path) -> Secret:
    """The key that the embedded Connect knows the instance by; made, or taken over, on first sight."""
    from reconciler.emulator.store import StateFile, issue_key

    return issue_key(StateFile(_state_path(target.api_url, work_dir)), instance, target.instance_key)


def _embedded(
    target: ConnectTarget, instance: str, settings: ConnectSettings
) -> tuple[httpx.AsyncBaseTransport, Secret]:
    from reconciler.emulator.app import build_app
    from reconciler.emulator.store import StateFile

    issued = embedded_key(target, instance, settings.work_dir)
    app = build_app(StateFile(_state_path(target.api_url, settings.work_dir)))
    return httpx.ASGITransport(app), target.instance_key or issued


def _state_path(api_url: str, work_dir: Path) -> Path:
    given = api_url.removeprefix(EMBEDDED)
    if not given:
        return work_dir / "connect.json"
    return Path(given) if given.endswith(".json") else Path(given) / "connect.json"


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


@dataclass(frozen=True, slots=True)
class _Answer:
    body: bytes
    elapsed_ms: int


class ConnectClient:
    """Asks Fi.V Connect as one instance. `instance_key` is the key it asks with, an issued one included."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        api_url: str,
        instance: str,
        key: Secret,
        settings: ConnectSettings,
    ) -> None:
        self.instance_key = key
        # A client of its own for each instance: cookies never pass from one to another.
        self._http = httpx.AsyncClient(transport=transport, timeout=None, trust_env=False)
        self._api_url = api_url
        self._instance = instance
        self._settings = settings

    async def fetch_view(self, *, plans: bool) -> ConnectView:
        """Status and plans, asked side by side. Never raises for a foreseen fault: it stands in the view."""
        if not plans:
            return await self._view_status()
        view, found = await asyncio.gather(self._view_status(), self._view_plans())
        held, problem = found
        return ConnectView(view.status, held, view.status_error, problem, view.response_time_ms, view.received)

    async def fetch_plans(self) -> tuple[ConnectPlan, ...]:
        answer = await self._ask("GET", "/api/v1/plans")
        return answers.plans_from_body(answer.body)

    async def fetch_databases(self) -> tuple[ConnectDatabase, ...]:
        answer = await self._ask("GET", f"/api/v1/instances/{quote(self._instance, safe='')}/databases")
        return answers.databases_from_body(answer.body)

    async def send_usage(self, payload: Mapping[str, Any], idempotency_key: str) -> None:
        """Sends a usage report. A repeat with the same key is counted once by Connect."""
        answers.check_usage(payload)
        path = f"/api/v1/instances/{quote(self._instance, safe='')}/usage"
        await self._ask("POST", path, payload, {"Idempotency-Key": idempotency_key})

    async def _view_status(self) -> ConnectView:
        try:
            answer = await self._ask("GET", "/api/v1/instances/status")
        except faults.ConnectFault as fault:
            return ConnectView(status_error=faults.problem_of(fault), response_time_ms=fault.elapsed_ms)
        found = answers.status_from_body(answer.body, instance=self._instance, key=self.instance_key)
        return ConnectView(
            status=found.status,
            status_error=found.problem,
            response_time_ms=answer.elapsed_ms,
            received=found.received,
        )

    async def _view_plans(self) -> tuple[tuple[ConnectPlan, ...] | None, Problem | None]:
        try:
            return await self.fetch_plans(), None
        except ConnectError as error:
            return None, faults.problem_of(error)

    async def _ask(
        self,
        method: str,
        path: str,
        payload: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> _Answer:
        """One call with all its tries. The deadlines hold whatever the other side does, a slow drip included."""
        request = self._request(method, path, payload, headers or {})
        clock = _Clock(self._settings)
        while True:
            started = clock.now()
            try:
                async with asyncio.timeout_at(clock.limit()):
                    body = await self._attempt(request)
                return _Answer(body, _ms(clock.now() - started))
            except TimeoutError:
                fault = clock.fault or faults.too_slow(self._settings.total_s)
                fault.passing = False
            except faults.ConnectFault as raised:
                fault = raised
            except httpx.HTTPError as error:
                fault = faults.invalid_answer(f"{type(error).__name__} in reading it")
            fault.elapsed_ms = _ms(clock.now() - started)
            await clock.pause_or_raise(fault)

    async def _attempt(self, request: httpx.Request) -> bytes:
        response = await self._http.send(request, stream=True, follow_redirects=False)
        try:
            if fault := faults.status_fault(response.status_code, response.headers):
                raise fault
            return await _read_body(response)
        finally:
            await response.aclose()

    def _request(
        self, method: str, path: str, payload: Mapping[str, Any] | None, more: Mapping[str, str]
    ) -> httpx.Request:
        key = self.instance_key.reveal()
        if key != key.strip() or not key.isprintable() or not key:
            raise faults.ConnectFault(
                "Missing instance key: it is empty, or holds characters that no header can",
                code="connect_denied",
                hint="set FIV_APP_API_KEY to the key that the Connect panel shows, without spaces around it",
            )
        # UTF-8 bytes, as curl sends them: httpx would name a character of the key in its error.
        secret = key.encode()
        headers: list[tuple[bytes, bytes]] = [
            (b"X-Instance-Key", secret),
            (b"Authorization", b"Bearer " + secret),
            (b"Content-Type", b"application/json"),
            (b"Accept", b"application/json"),
            (b"Accept-Encoding", b"gzip"),
            (b"User-Agent", f"fivrec/{__version__}".encode()),
            *((name.encode(), value.encode()) for name, value in more.items()),
        ]
        return self._http.build_request(method, self._base() + path, headers=headers, json=payload)

    def _base(self) -> str:
        if self._api_url.startswith(EMBEDDED):
            return "http://connect.embedded"
        if problem := url_problem(self._api_url, production=self._settings.production):
            raise faults.ConnectFault(
                f"connect_api_url {problem}",
                code="connect_address_refused",
                hint="correct connect_api_url, or FIV_APP_API_URL",
            )
        return self._api_url.rstrip("/")


class _Clock:
    """When a call has to end, and whether another try is worth it."""

    def __init__(self, settings: ConnectSettings) -> None:
        self._settings = settings
        self._tries = 0
        self._deadline = self.now() + settings.total_s
        self._give_up = self.now() + settings.retry_s
        self.fault: faults.ConnectFault | None = None

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def limit(self) -> float:
        """The first try may be slow; a further one must not make a known failure wait."""
        return self._deadline if self.fault is None else min(self._deadline, self._give_up)

    async def pause_or_raise(self, fault: faults.ConnectFault) -> None:
        self._tries += 1
        self.fault = fault
        if not fault.passing or self._tries >= self._settings.tries:
            raise fault
        # Full jitter, so that a fleet does not come back at once.
        spread = self._settings.backoff_s * 2 ** (self._tries - 1)
        pause = random.uniform(0, spread) if fault.wait_s is None else fault.wait_s  # noqa: S311  not a secret
        if self.now() + pause >= min(self._give_up, self._deadline):
            if fault.wait_s is None or not self._may_wait(pause):
                raise fault
            self._deadline += pause
            self._give_up += pause
        await asyncio.sleep(pause)

    def _may_wait(self, pause: float) -> bool:
        return self._settings.retry_s < self._settings.retry_after_s >= pause


async def _read_body(response: httpx.Response) -> bytes:
    """The body, unpacked by hand: httpx unpacks a chunk whole, which is where a small gzip becomes large."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "", "gzip", "x-gzip"):
        raise faults.invalid_answer("it is packed in a way that was not asked for")
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 16) if "gzip" in encoding else None
    body = bytearray()
    try:
        async for part in response.aiter_raw(_CHUNK):
            room = MAX_BODY + 1 - len(body)
            body += part if unpack is None else unpack.decompress(part, room)
            if len(body) > MAX_BODY:
                raise faults.too_large(MAX_BODY)
    except zlib.error as error:
        raise faults.invalid_answer("its gzip is broken") from error
    if unpack is not None and not unpack.eof:
        raise faults.invalid_answer("its gzip ends too early")
    return bytes(body)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
