"""Compare what Connect says about an instance's database with the one that the manifest names. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

OLDEST_BACKUP = timedelta(days=2)


class Listed(Protocol):
    """An entry of GET /api/v1/instances/:instanceId/databases."""

    @property
    def database(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def backup_enabled(self) -> bool | None: ...
    @property
    def last_backup(self) -> str | None: ...


PROBLEMS = ("unlisted", "status", "backup")


def find_problems(name: str, listed: Sequence[Listed], now: datetime) -> dict[str, str]:
    """Returns what an operator should know, in words, keyed by PROBLEMS: another name, a status that is not active, no
    backup or an old one. What Connect leaves out is unknown, and not a problem."""
    found = next((item for item in listed if item.database == name), None)
    if found is None:
        named = ", ".join(sorted(item.database for item in listed)) or "none"
        return {"unlisted": f"Connect does not list the database {name}; it lists {named}"}
    problems: dict[str, str] = {}
    if found.status != "active":
        problems["status"] = f"Connect says that the database {name} is {found.status}"
    if found.backup_enabled is False:
        problems["backup"] = f"Connect says that the database {name} has no backup"
    elif found.last_backup is not None:
        age = _age(found.last_backup, now)
        if age is None or age > OLDEST_BACKUP:
            when = "at a time that can't be read" if age is None else f"{age.days} days ago, {found.last_backup}"
            problems["backup"] = f"Connect says that the last backup of the database {name} was {when}"
    return problems


def _age(moment: str, now: datetime) -> timedelta | None:
    try:
        at = datetime.fromisoformat(moment)
    except ValueError:
        return None
    return now - (at if at.tzinfo is not None else at.replace(tzinfo=UTC))
