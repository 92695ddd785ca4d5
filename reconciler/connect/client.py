"""Fi.V Connect over HTTPS: the four endpoints of the seed, with deadlines, limits and retries of fivrec's own.

Expected faults become `ConnectError`, or problems within a `ConnectView`; no text of an answer is quoted. This is the
only module outside the command line that knows the emulator: `embedded:` answers inside the process.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from reconciler import __version__
from reconciler.connect import errors as faults
from reconciler.connect import responses as answers
from reconciler.connect.exchange import InProcess, Request, Transport, host_header
from reconciler.connect.pool import ConnectPool, ConnectSettings, Places, open_pool
from reconciler.connect.proxy import find_proxy
from reconciler.connect.question import Question
from reconciler.connect.responses import ConnectDatabase
from reconciler.connect.transport import Line
from reconciler.model.errors import ConnectError
from reconciler.model.kinds.config import canonical_url
from reconciler.model.secret import Secret
from reconciler.model.types import EMBEDDED, ConnectPlan, ConnectTarget, ConnectView, ErrorInfo, is_embedded
from reconciler.support.network import Endpoint, endpoint_of, url_hint, url_problem

_PLANS = "/api/v1/plans"


_EMBEDDED = Endpoint("http", "connect.embedded", 80)
_KEPT = "/%:@!$&'()*+,;=~-._"
"""Characters that stay as they are in a path; all others are percent-encoded."""


@asynccontextmanager
async def open_client(
    target: ConnectTarget,
    instance: str,
    settings: ConnectSettings,
    pool: ConnectPool | None = None,
) -> AsyncIterator[ConnectClient]:
    """A client for one instance. Raises MissingSetting if the CA file, HTTPS_PROXY or the embedded state can't be
    used."""
    if is_embedded(target.api_url):
        transport, key = _embedded(target, instance, settings)
        yield ConnectClient(transport, target.api_url, instance, key, settings)
        return
    key = target.instance_key or Secret("")
    if endpoint := endpoint_of(target.api_url):
        find_proxy(endpoint, os.environ)  # an unusable one is an error before any request
    async with AsyncExitStack() as stack:
        shared = await stack.enter_async_context(open_pool(settings)) if pool is None else pool
        places = shared.places(canonical_url(target.api_url))
        yield ConnectClient(shared.transport, target.api_url, instance, key, settings, places=places)


def embedded_key(target: ConnectTarget, instance: str, work_dir: Path, *, dry: bool = False) -> tuple[Secret, bool]:
    """The key under which the embedded Connect knows the instance. It is created, or taken over, on first use; the
    second value says so. A dry run keeps nothing of that."""
    from reconciler.connect.emulator.state_file import StateFile, issue_key

    file = StateFile(_state_path(target.api_url, work_dir), dry=dry)
    new = instance not in file.read().instances
    return issue_key(file, instance, target.instance_key), new


def _embedded(target: ConnectTarget, instance: str, settings: ConnectSettings) -> tuple[Transport, Secret]:
    from reconciler.connect.emulator.app import build_app
    from reconciler.connect.emulator.state_file import StateFile, issue_key

    file = StateFile(_state_path(target.api_url, settings.work_dir), dry=settings.dry)
    issued = issue_key(file, instance, target.instance_key)
    app = build_app(file)
    return InProcess(app), target.instance_key or issued


def _state_path(api_url: str, work_dir: Path) -> Path:
    given = api_url.removeprefix(EMBEDDED)
    if not given:
        return work_dir / "connect.json"
    return Path(given) if given.endswith(".json") else Path(given) / "connect.json"


class ConnectClient:
    """Sends requests to Fi.V Connect as one instance. `instance_key` is its key, which the emulator may have issued."""

    def __init__(
        self,
        transport: Transport,
        api_url: str,
        instance: str,
        key: Secret,
        settings: ConnectSettings,
        *,
        places: Places | None = None,
    ) -> None:
        self.instance_key = key
        self._transport = transport
        # A key that is part of the instance's name can't be distinguished from it in an answer.
        self._echo_key = Secret("") if key.reveal() in instance else key
        self._api_url = api_url
        self._instance = instance
        self._settings = settings
        self._places = places or Places(settings.forks)

    async def fetch_view(self, *, plans: bool, if_late: Callable[[ConnectView], None] = lambda _: None) -> ConnectView:
        """Fetch status and plans. Never raises for an expected fault: the view contains it. If this is cancelled when
        only the plans are missing, calls `if_late` with the status."""
        if not plans:
            return await self._view_status(self._status())
        listed, status = self._question("GET", _PLANS), self._status()
        try:
            await self._ask_both(listed, status)
            view, found = await asyncio.gather(self._view_status(status), self._view_plans(listed))
        except asyncio.CancelledError:
            if status.answer is not None:
                if_late(await self._view_status(status))
            raise
        if view.status is None:
            # The list names no instance: without a status it may be another instance's, or from an outage.
            found = replace(found, plans=None, plans_error=found.plans_error or view.status_error)
        waits = [wait for wait in (view.retry_after_s, found.retry_after_s) if wait is not None]
        return replace(view, plans=found.plans, plans_error=found.plans_error, retry_after_s=max(waits, default=None))

    async def fetch_plans(self) -> tuple[ConnectPlan, ...]:
        return await self._read_plans(self._question("GET", _PLANS))

    async def fetch_databases(self) -> tuple[ConnectDatabase, ...]:
        listed = self._question("GET", f"/api/v1/instances/{quote(self._instance, safe='')}/databases")
        answer = await listed.finish(self._places)
        return answers.databases_from_body(answer.body, key=self._echo_key, headers=answer.headers)

    async def send_usage(self, payload: Mapping[str, Any], idempotency_key: str) -> None:
        """Send a usage report. Connect counts a repeat with the same key once."""
        answers.check_usage(payload)
        path = f"/api/v1/instances/{quote(self._instance, safe='')}/usage"
        report = self._question("POST", path, payload, {"Idempotency-Key": idempotency_key})
        report.fresh = True  # nothing follows a receipt that could confirm it
        await report.finish(self._places)

    async def _ask_both(self, listed: Question, status: Question) -> None:
        """One attempt each."""
        async with self._places.held(), AsyncExitStack() as more:
            if self._places.is_free() and not self._transport.has_kept(endpoint_of(self._api_url)):
                await more.enter_async_context(self._places.held())
                for question in (listed, status):  # side by side, over new connections
                    question.begin(fresh=True)
                await asyncio.gather(listed.attempt(), status.attempt())
            else:
                await self._ask_in_turn(listed, status)

    async def _ask_in_turn(self, question: Question, status: Question) -> None:
        """One attempt each over one connection, the status last, because it names the instance. Requests whose answer
        is not certain to be their own are left to be repeated."""
        patience, line = asyncio.timeout(self._settings.patience_s), Line()
        for asked in (question, status):
            asked.begin()
        try:
            with suppress(TimeoutError):
                async with patience:
                    await question.attempt(line)
            if not patience.expired():
                await status.attempt(line)
        finally:
            line.release()
        if patience.expired() or not question.is_vouched_for_by(status):
            question.forget()

    async def _view_status(self, status: Question) -> ConnectView:
        try:
            answer = await status.finish(self._places)
        except faults.ConnectFault as fault:
            return ConnectView(
                status_error=ErrorInfo.of(fault),
                response_time_ms=fault.elapsed_ms,
                retry_after_s=fault.wait_s,
            )
        found = answers.status_from_body(answer.body, instance=self._instance, key=self._echo_key)
        return ConnectView(
            status=found.status,
            status_error=found.problem,
            response_time_ms=answer.elapsed_ms,
            received=found.received,
        )

    async def _view_plans(self, listed: Question) -> ConnectView:
        try:
            return ConnectView(plans=await self._read_plans(listed))
        except faults.ConnectFault as fault:
            return ConnectView(plans_error=ErrorInfo.of(fault), retry_after_s=fault.wait_s)
        except ConnectError as error:
            return ConnectView(plans_error=ErrorInfo.of(error))

    async def _read_plans(self, listed: Question) -> tuple[ConnectPlan, ...]:
        answer = await listed.finish(self._places)
        return answers.plans_from_body(answer.body, key=self._echo_key, headers=answer.headers)

    def _status(self) -> Question:
        named = partial(answers.names_instance, instance=self._instance)
        return self._question("GET", "/api/v1/instances/status", named=named, usual=answers.is_all_well)

    def _question(
        self,
        method: str,
        path: str,
        payload: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Question:
        request = partial(self._request, method, path, payload, headers or {})
        return Question(self._transport, request, self._settings, self._echo_key, receipt=payload is not None, **more)

    def _request(self, method: str, path: str, payload: Mapping[str, Any] | None, more: Mapping[str, str]) -> Request:
        key = self.instance_key.reveal()
        if key != key.strip() or not key.isprintable() or not key:
            raise faults.ConnectFault(
                "Missing instance key: it is empty, or holds characters that no header can",
                code="connect_denied",
                hint=f"{faults.KEY_HINT}, without spaces around it",
            )
        secret = key.encode()  # UTF-8, as curl sends it
        endpoint, base = self._place()
        body = b"" if payload is None else json.dumps(payload, ensure_ascii=False, allow_nan=False).encode()
        headers: list[tuple[bytes, bytes]] = [
            (b"Host", host_header(endpoint)),
            (b"X-Instance-Key", secret),
            (b"Authorization", b"Bearer " + secret),
            (b"Content-Type", b"application/json"),
            (b"Accept", b"application/json"),
            (b"Accept-Encoding", b"gzip"),
            (b"User-Agent", f"fivrec/{__version__}".encode()),
            *((name.encode(), value.encode()) for name, value in more.items()),
        ]
        if payload is not None:
            headers.append((b"Content-Length", str(len(body)).encode()))
        return Request(method, endpoint, quote(base + path, safe=_KEPT).encode("ascii"), headers, body)

    def _place(self) -> tuple[Endpoint, str]:
        """Connect's address, and the path that its own paths are appended to."""
        if is_embedded(self._api_url):
            return _EMBEDDED, ""
        if problem := url_problem(self._api_url, production=self._settings.production):
            raise faults.ConnectFault(
                f"connect_api_url {problem}",
                code="connect_address_refused",
                hint=url_hint(self._api_url) or "correct connect_api_url, or FIV_APP_API_URL",
            )
        endpoint = endpoint_of(self._api_url)
        assert endpoint is not None  # noqa: S101 (url_problem named nothing)
        return endpoint, urlsplit(self._api_url).path.rstrip("/")
