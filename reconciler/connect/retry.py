"""Limit the time of one call of Fi.V Connect: deadlines over all its attempts, and the pause before each."""

from __future__ import annotations

import asyncio
from random import SystemRandom

from reconciler.connect import errors as faults
from reconciler.connect.pool import ConnectSettings


class Clock:
    """When a call has to end, and whether another attempt is worthwhile."""

    def __init__(self, settings: ConnectSettings) -> None:
        self._settings = settings
        self._tries = 0
        self._deadline = self.now() + settings.total_s
        self._give_up = self.now() + settings.retry_s
        self.fault: faults.ConnectFault | None = None

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def limit(self) -> float:
        """The first attempt may be slow; a further one must not delay a known failure."""
        return self._deadline if self.fault is None else min(self._deadline, self._give_up)

    def excuse(self, seconds: float) -> None:
        """Time that passed before the request could be sent does not count."""
        self._deadline += seconds
        self._give_up += seconds

    async def pause_or_raise(self, fault: faults.ConnectFault) -> None:
        self._tries += 1
        self.fault = fault
        if not fault.passing or self._tries >= self._settings.tries:
            raise fault
        # Full jitter, so that a fleet does not come back all at once.
        spread = self._settings.backoff_s * 2 ** (self._tries - 1)
        pause = SystemRandom().uniform(0, spread) if fault.wait_s is None else fault.wait_s
        if self.now() + pause >= min(self._give_up, self._deadline):
            longest = self._settings.retry_after_s
            if fault.wait_s is None or not self._settings.retry_s < longest >= pause:
                raise fault
            self.excuse(pause)
        await asyncio.sleep(pause)
