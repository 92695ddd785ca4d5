"""The rows of the fleet's page, its filters, and the same as JSON. Pure."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from reconciler.engine.status_and_logs import is_unchecked, needs_somebody
from reconciler.model.records import dataclass
from reconciler.planning.rollout import WELL
from reconciler.web.fleet_board import Entry
from reconciler.web.responses import UNKNOWN, format_moment

CHOICES: Mapping[str, tuple[str, ...]] = {
    "needs": ("yes", "no"),
    "status": ("active", "pending_payment", "suspended", UNKNOWN),
    "billing": ("paid", "overdue", UNKNOWN),
    "access": ("open", "locked"),
    "drift": ("yes", "no"),
    "former": ("yes", "no"),
    "read": ("readable", "unreadable", "not_applied"),
}
"""The filters besides the search, by their names in the address; each row matches one choice of each."""


@dataclass(frozen=True, slots=True)
class SourceLinks:
    """Links into the repository's web page: `url` contains {path} and {line}, or is what precedes both. `root` is the
    repository's folder on this machine."""

    url: str
    root: str

    def link(self, place: tuple[str, int]) -> str | None:
        """The link to a file and line; None if the file is not in the repository."""
        file, line = place
        path = os.path.relpath(os.path.abspath(file), self.root).replace(os.sep, "/")  # noqa: PTH100 (no link is followed)
        if path.startswith("../"):
            return None
        template = self.url if "{path}" in self.url else f"{self.url.rstrip('/')}/{{path}}#L{{line}}"
        return template.replace("{path}", quote(path)).replace("{line}", str(line))


@dataclass(frozen=True, slots=True)
class FleetItem:
    """An instance as in the page and the JSON. `choices`: the choice of each filter that it matches. `drift` is what
    the last recorded run left, `drift_since` when a run first saw the oldest of it. `undone`: the last run did not do
    its work. `unchecked`: no check for two intervals when it was read."""

    entry: Entry
    choices: Mapping[str, str]
    drift: int
    drift_since: datetime | None
    former: int
    source: str | None
    find: str
    undone: bool = False
    unchecked: bool = False

    def fits(self, q: str, wanted: Mapping[str, str]) -> bool:
        """Whether every word of `q` is found, and every filter that is set matches."""
        return all(word in self.find for word in q.lower().split()) and all(
            self.choices[name] == value for name, value in wanted.items() if value
        )


def build_items(
    entries: Sequence[Entry], links: SourceLinks | None, words: Mapping[str, str] | None = None
) -> tuple[FleetItem, ...]:
    """`words` are the translations: the search finds what the page shows, too."""
    return tuple(_item(entry, links, words or {}) for entry in entries)


def count_items(items: Sequence[FleetItem]) -> Counter[str]:
    """How many instances match each choice, as `filter=choice`."""
    return Counter(f"{name}={choice}" for item in items for name, choice in item.choices.items())


def as_json(item: FleetItem) -> dict[str, Any]:
    overview, view = item.entry.overview, item.entry.overview.view
    return {
        "instance": overview.instance,
        "environment": overview.environment,
        "declaredEnvironment": overview.declared,
        "labels": dict(overview.labels),
        "readAt": format_moment(item.entry.read_at),
        "read": item.choices["read"],
        "status": item.choices["status"],
        "billingStatus": item.choices["billing"],
        "isLocked": view.is_locked if view else None,
        "lastCheck": _check(item),
        "drift": {"count": item.drift, "since": format_moment(item.drift_since)} if view else None,
        "former": item.former if view else None,
        "needsSomebody": {"yes": True, "no": False}.get(item.choices["needs"]),
        "lastRun": _last_run(item),
        "error": {"code": overview.error.code, "message": overview.error.message} if overview.error else None,
        "source": item.source,
    }


def _item(entry: Entry, links: SourceLinks | None, words: Mapping[str, str]) -> FleetItem:
    overview, view = entry.overview, entry.overview.view
    run = view.last_run if view else None
    drift, former = (run.open_drift, len(run.former)) if run else ((), 0)
    since = min((item.since for item in drift), default=None)
    needs = UNKNOWN if entry.read_at is None else "yes" if needs_somebody(view) or not entry.served else "no"
    choices = {
        "needs": needs,
        "status": _known("status", view.status if view else None),
        "billing": _known("billing", view.billing_status if view else None),
        "access": UNKNOWN if view is None else "locked" if view.is_locked else "open",
        "drift": UNKNOWN if view is None else "yes" if drift else "no",
        "former": UNKNOWN if view is None else "yes" if former else "no",
        "read": _reading(entry),
    }
    labels = " ".join(f"{name}={value}" for name, value in sorted(overview.labels.items()))
    said = [words.get(choice, choice) for name, choice in choices.items() if name in ("status", "billing")]
    find = " ".join((overview.instance, overview.environment, labels, *said)).lower()
    undone = run is not None and run.outcome not in WELL
    source = links.link(entry.place) if links else None
    unchecked = view is not None and entry.read_at is not None and is_unchecked(view, entry.read_at)
    return FleetItem(entry, choices, len(drift), since, former, source, find, undone, unchecked)


def _known(name: str, value: str | None) -> str:
    return value if value in CHOICES[name] else UNKNOWN


def _reading(entry: Entry) -> str:
    if entry.read_at is None:
        return "pending"
    if entry.overview.view is not None:
        return "readable"
    return "unreadable" if entry.overview.error is not None else "not_applied"


def _check(item: FleetItem) -> dict[str, Any] | None:
    view = item.entry.overview.view
    check = view.last_check if view else None
    if check is None:
        return None
    return {"at": format_moment(check.at), "type": check.check_type, "success": check.success}


def _last_run(item: FleetItem) -> dict[str, Any] | None:
    view = item.entry.overview.view
    run = view.last_run if view else None
    if run is None:
        return None
    return {
        "at": format_moment(run.at),
        "by": run.actor,
        "command": run.command,
        "commit": run.git_commit,
        "outcome": run.outcome,
        "changes": run.changes,
    }
