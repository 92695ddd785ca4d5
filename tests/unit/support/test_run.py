"""run: what the instances of one run share."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime, timedelta

from reconciler.engine.run import Run
from reconciler.planning.audit import Actor
from reconciler.support.crypto.keyring import KeyRing
from reconciler.support.log import EventLog


def test_the_day_of_a_run_does_not_end_at_midnight() -> None:
    clock = iter(datetime(2026, 1, 1, 23, 59, tzinfo=UTC) + timedelta(minutes=number) for number in range(9))
    now = lambda: next(clock)  # noqa: E731
    open_end = Run("r", "watch", Actor("t"), KeyRing(()), EventLog(io.StringIO()), now=now)
    assert [open_end.today, open_end.today] == [date(2026, 1, 1), date(2026, 1, 2)]
    begun = Run("r", "apply", Actor("t"), KeyRing(()), EventLog(io.StringIO()), now=now, day=date(2026, 1, 1))
    assert [begun.today, begun.today] == [date(2026, 1, 1)] * 2
