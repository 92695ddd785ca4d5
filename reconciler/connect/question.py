"""One request to Fi.V Connect with all its attempts, and whether the answer certainly belongs to it.

HTTP/1.1 numbers nothing: data that a server sends late, after its answer, can arrive as the answer to the next request
over that connection. So over a connection that was used before, an answer counts only if it names the right instance,
or if a later answer over the same connection does: an extra byte would have shifted both. All other requests are
repeated over a new connection.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Mapping

from reconciler.connect import errors as faults
from reconciler.connect.echo import KeyWatch
from reconciler.connect.exchange import Request, Response, Transport
from reconciler.connect.pool import ConnectSettings, Places
from reconciler.connect.retry import Clock
from reconciler.connect.transport import Line
from reconciler.connect.wholeness import part_fault
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret

MAX_BODY = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """`connection` is the one that it came over; `shared`: it carried other answers before."""

    body: bytes
    headers: Mapping[str, str]
    elapsed_ms: int
    connection: object
    shared: bool


class Question:
    """`named` says whether a body names the instance, None if such bodies name none; `usual` whether nothing follows
    from it. `receipt`: any 2xx is accepted."""

    def __init__(
        self,
        transport: Transport,
        request: Callable[[], Request],
        settings: ConnectSettings,
        key: Secret,
        *,
        named: Callable[[bytes], bool] | None = None,
        usual: Callable[[bytes], bool] = lambda _: True,
        receipt: bool = False,
    ) -> None:
        self.answer: Answer | None = None
        self.fresh = False
        self._transport = transport
        self._build = request
        self._request: Request | None = None
        self._settings = settings
        self._key = key
        self._named = named
        self._usual = usual
        self._vouches_for: object | None = None
        self._receipt = receipt
        self._clock = Clock(settings)
        self._fault: faults.ConnectFault | None = None
        self._waits_since = self._clock.now()
        self._started = 0.0

    async def finish(self, places: Places) -> Answer:
        """Returns the answer, within the remaining attempts. Raises ConnectFault. The deadlines hold whatever the other
        side does."""
        while self.answer is None:
            if self._fault is not None:
                await self._clock.pause_or_raise(self._fault)
            self._waits_since = self._clock.now()
            async with places.held():
                self.begin()
                await self.attempt()
        return self.answer

    def begin(self, *, fresh: bool = False) -> None:
        """Note that a place was given: the wait for it counts for no deadline. `fresh`: use a new connection."""
        self.fresh = self.fresh or fresh
        self._clock.excuse(self._clock.now() - self._waits_since)

    async def attempt(self, line: Line | None = None) -> None:
        """One attempt, while a place is held. Sets `answer`, or keeps the fault for `finish`."""
        try:
            self._request = self._request or self._build()
        except faults.ConnectFault as fault:
            self._fault = fault
            return
        try:
            async with asyncio.timeout_at(self._clock.limit()):
                self.answer = await self._ask(self._request, line)
        except TimeoutError:
            late = self._clock.fault or faults.too_slow(self._settings.total_s, self._request.proxy)
            late.passing = False
            self._keep(late)
        except faults.ConnectFault as fault:
            self._keep(fault)

    def _keep(self, fault: faults.ConnectFault) -> None:
        self._fault, self.fresh = fault, True
        if self._request is not None:
            fault.elapsed_ms = self._took_ms(self._request)

    def forget(self) -> None:
        """Nothing confirms the answer: repeat the request over a new connection."""
        self.answer, self.fresh = None, True

    def is_vouched_for_by(self, other: Question) -> bool:
        """Whether the answer certainly belongs to this request. `other` was sent after it, and its answers name the
        instance."""
        if self.answer is None or not self.answer.shared:
            return True
        return other._vouches_for is self.answer.connection

    async def _ask(self, request: Request, line: Line | None) -> Answer:
        try:
            answer = await self._exchange(request, line)
            if not answer.shared or self._named is None:
                return answer
            if self._named(answer.body):
                self._vouches_for = answer.connection
                if self._usual(answer.body):
                    return answer
        except faults.ConnectFault as error:
            if error.passing or not request.shared:
                raise
        self.fresh = True
        return await self._exchange(request, None)

    async def _exchange(self, request: Request, line: Line | None) -> Answer:
        self._started = self._clock.now()
        watch = KeyWatch(self._key)
        request.key_watch, request.line, request.fresh = watch, line, self.fresh
        response = await self._transport.send(request)
        try:
            if fault := faults.status_fault(response.status, response.headers, receipt=self._receipt):
                raise fault
            body = await _read_body(response)
            headers = response.headers  # with the trailers
            if not self._receipt and (fault := faults.echoed_key() if watch.seen else part_fault(headers)):
                raise fault
            return Answer(body, headers, self._took_ms(request), response.connection, request.shared)
        finally:
            response.end()

    def _took_ms(self, request: Request) -> int:
        """Connect's own time, without the idle time of a kept connection."""
        return round((self._clock.now() - self._started - request.rested_s) * 1000)


async def _read_body(response: Response) -> bytes:
    """Returns the body. Unpacks no more than MAX_BODY, beyond any real answer: a small gzip may become large."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "", "gzip", "x-gzip"):
        raise faults.invalid_answer("it is compressed in a way that was not asked for")
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 16) if "gzip" in encoding else None
    body = bytearray()
    try:
        async for part in response.parts:
            room = MAX_BODY + 1 - len(body)
            body += part if unpack is None else unpack.decompress(part, room)
            if len(body) > MAX_BODY:
                raise faults.too_large(MAX_BODY)
    except zlib.error as error:
        raise faults.invalid_answer("its gzip is broken") from error
    if unpack is not None and not unpack.eof:
        raise faults.invalid_answer("its gzip ends too early")
    if unpack is not None and unpack.unused_data:
        raise faults.invalid_answer("something follows its gzip")
    return bytes(body)
