"""What Connect's list of databases means for an operator."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from reconciler.planning.databases import find_problems

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Entry:
    database: str = "fivapp_a"
    status: str = "active"
    backup_enabled: bool | None = True
    last_backup: str | None = "2026-11-25T06:00:00Z"


SAYS = "Connect says that the database fivapp_a"
LAST = "Connect says that the last backup of the database fivapp_a was"


@pytest.mark.parametrize(
    ("listed", "found"),
    [
        ((Entry("other"), Entry()), {}),
        ((), {"unlisted": "Connect does not list the database fivapp_a; it lists none"}),
        ((Entry("b"), Entry("c")), {"unlisted": "Connect does not list the database fivapp_a; it lists b, c"}),
        ((Entry(status="maintenance"),), {"status": f"{SAYS} is maintenance"}),
        ((Entry(backup_enabled=False, last_backup=None),), {"backup": f"{SAYS} has no backup"}),
        ((Entry(backup_enabled=None, last_backup=None),), {}),
        ((Entry(last_backup="2026-11-24T12:00:00Z"),), {}),
        (
            (Entry(last_backup="2026-11-24T11:59:59"),),
            {"backup": f"{LAST} 2 days ago, 2026-11-24T11:59:59"},
        ),
        (
            (Entry(last_backup="2026-11-24T13:00:00+02:00"),),
            {"backup": f"{LAST} 2 days ago, 2026-11-24T13:00:00+02:00"},
        ),
        ((Entry(last_backup="yesterday"),), {"backup": f"{LAST} at a time that can't be read"}),
        (
            (Entry(status="deleted", backup_enabled=False),),
            {"status": f"{SAYS} is deleted", "backup": f"{SAYS} has no backup"},
        ),
    ],
)
def test_connects_list_of_databases_is_compared(listed: tuple[Entry, ...], found: dict[str, str]) -> None:
    assert find_problems("fivapp_a", listed, NOW) == found
