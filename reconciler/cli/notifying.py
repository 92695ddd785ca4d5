"""The receivers that --notify-url and --notify name, and the delivery of alerts alongside a loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from reconciler.cli.options import receiver_url
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret
from reconciler.model.types import Desired
from reconciler.support.log import EventLog, counted
from reconciler.support.quiet_log import QuietLog

if TYPE_CHECKING:
    from reconciler.connect.pool import ConnectPool
    from reconciler.engine.run import Run
    from reconciler.manifest.loader import Manifest
    from reconciler.watch.instance_state import InstanceState
    from reconciler.watch.notify import Notifier
    from reconciler.web.status_service import StatusService

FLUSH_S = 1.0


@dataclass(frozen=True, slots=True)
class Receivers:
    """The receivers of the options, checked."""

    webhooks: tuple[Secret, ...] = ()
    services: tuple[Secret, ...] = ()

    @classmethod
    def of(cls, webhooks: Sequence[str], services: Sequence[str]) -> Receivers:
        """Raises UsageError or MissingSetting if one can't be used."""
        if not webhooks and not services:
            return cls()
        from reconciler.watch.receivers import AppriseReceiver, check_url

        found = cls(
            tuple(check_url(receiver_url(url)) for url in webhooks),
            tuple(Secret(receiver_url(url)) for url in services),
        )
        for url in found.services:
            AppriseReceiver(url)
        return found

    def build_notifier(self, pool: ConnectPool, log: EventLog) -> Notifier | None:
        """Returns None if there is no receiver."""
        if not self.webhooks and not self.services:
            return None
        from reconciler.watch.notify import Notifier
        from reconciler.watch.receivers import AppriseReceiver, Webhook

        webhooks = (Webhook(url, pool.for_others, name) for url, name in _numbered(self.webhooks, "--notify-url"))
        services = (AppriseReceiver(url, name) for url, name in _numbered(self.services, "--notify"))
        return Notifier((*webhooks, *services), log)


def _numbered(urls: Sequence[Secret], option: str) -> Iterator[tuple[Secret, str]]:
    """Each with its name in messages: the option, and its number if there are several. Its URL is a password."""
    for number, url in enumerate(urls, 1):
        yield url, option if len(urls) == 1 else f"{option}, number {number}"


@asynccontextmanager
async def notifying(notifier: Notifier, log: EventLog) -> AsyncIterator[None]:
    """Deliver alerts while the block runs; at its end, waiting alerts get one short last attempt."""
    from reconciler.watch.supervisor import supervised

    log.listeners.append(notifier.hear)
    async with supervised(log, {"notifications": notifier.run}):
        yield
    with suppress(TimeoutError):
        async with asyncio.timeout(FLUSH_S):
            await notifier.flush()
    if notifier.waiting:
        waiting = counted(notifier.waiting, "alert")
        said = f"⚠️ {waiting} not delivered; those stored with their instances are sent after the next start"
        log.warning("notify", said, error="alerts_waiting", waiting=notifier.waiting)


def settler(
    instances: Callable[[], Mapping[str, InstanceState]], resolve: Callable[[Manifest], Awaitable[Desired]], run: Run
) -> Callable[[str, Sequence[str]], Awaitable[None]]:
    """Returns the function that marks alerts as delivered in their instance's database, if it is still watched."""

    async def settle(instance: str, ids: Sequence[str]) -> None:
        from reconciler.engine.alerts import mark_delivered

        one = instances().get(instance)
        if one is not None:
            async with asyncio.timeout(run.timeout_s):
                await mark_delivered(await resolve(one.manifest), run, ids)

    return settle


@asynccontextmanager
async def beside_server(receivers: Receivers, checks: StatusService) -> AsyncIterator[StatusService]:
    """The checks of a server, whose alerts go to the receivers. Its log is not quiet, because failed logins are counted
    from it."""
    run = checks.service.run
    quiet = QuietLog.over(run.log)
    shared = run.connect
    assert shared is not None  # noqa: S101 (a run that a command began has them)
    notifier = receivers.build_notifier(shared.pool(run), quiet)
    if notifier is None:
        yield checks
        return
    watching = replace(checks, stored_alerts=notifier.take)
    notifier.settle = settler(lambda: watching.watched, checks.resolve, run)
    async with notifying(notifier, run.log):
        yield watching
