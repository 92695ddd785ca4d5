"""The status page's HTML, for the server and for `fivrec report`. Pure except for reading its own templates."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from reconciler import __version__
from reconciler.engine.status_and_logs import is_unchecked
from reconciler.model.names import printable
from reconciler.model.records import dataclass
from reconciler.model.secret import MASK, Secret
from reconciler.model.types import Value
from reconciler.planning.rollout import WELL
from reconciler.web.charts import sparkline, timeline
from reconciler.web.overview import Detail, Overview
from reconciler.web.translations import load_translations

HERE = Path(__file__).parent
UNKNOWN = "unknown"
_SIGNS = {"BRL": "R$", "USD": "US$", "EUR": "€"}
_LONG = 200


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the fleet's table with its search texts. `drift` is what the last run left, `drift_at` when that was;
    None if nobody looked yet. `undone`: how the last run ended, if it did not do its work. `unchecked`: what is shown
    is old. `hidden`: it does not match the filter."""

    item: Overview
    status: str
    billing: str
    find: str
    spark: Markup
    response: int | None
    drift: int | None = None
    drift_at: datetime | None = None
    undone: str = ""
    unchecked: bool = False
    hidden: bool = False


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_seen,
    )
    environment.filters |= {"shown": _shown, "price": _price}
    return environment


@cache
def static(name: str) -> str:
    return (HERE / "static" / name).read_text(encoding="utf-8")


def render(template: str, language: str, **context: Any) -> str:
    words = load_translations(language)
    return _environment().get_template(template).render(t=words, language=language, version=__version__, **context)


def fleet(
    overviews: Sequence[Overview], language: str, now: datetime, *, q: str = "", status: str = ""
) -> dict[str, Any]:
    """The context of the fleet's table: its rows, hidden if they don't match the filter, and their totals."""
    words = load_translations(language)
    rows = [_row(item, words, now) for item in overviews]
    needles = q.lower().split()
    fits = [all(word in row.find for word in needles) and status in ("", row.status) for row in rows]
    shown = [replace(row, hidden=not fit) for row, fit in zip(rows, fits, strict=True)]
    return {"rows": shown, "fitting": sum(fits), "tally": _tally(rows, words), "q": q, "status": status}


def instance(detail: Detail, language: str) -> dict[str, Any]:
    words = load_translations(language)
    chart = timeline(detail.overview.checks, f"{words['timeline']}: {detail.overview.instance}")
    return {"detail": detail, "chart": chart}


def report(details: Sequence[Detail], language: str, at: datetime, broken: str = "") -> str:
    """The whole page as one file that loads nothing, for a pipeline's artifacts. `broken`: the problems of manifests
    whose instances are not among the details."""
    style, script = static("page.css"), static("page.js")
    places = {detail.overview.instance: f"#i-{number}" for number, detail in enumerate(details, start=1)}
    context = fleet([detail.overview for detail in details], language, at)
    context["rows"] = [_compared(row, detail, at) for row, detail in zip(context["rows"], details, strict=True)]
    context["tally"] = _tally(context["rows"], load_translations(language))
    shown = [(one["detail"], one["chart"]) for one in (instance(detail, language) for detail in details)]
    return render(
        "report.html",
        language,
        **context,
        link=places.__getitem__,
        details=shown,
        at=at,
        broken=broken,
        style=Markup(style),  # noqa: S704 (a file of the package)
        script=Markup(script),  # noqa: S704 (a file of the package)
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def link_to(instance: str) -> str:
    return f"/instances/{instance}"


Link = Callable[[str], str]


def _row(item: Overview, words: Mapping[str, str], now: datetime) -> Row:
    view = item.view
    status = (view.status if view else None) or UNKNOWN
    billing = (view.billing_status if view else None) or UNKNOWN
    labels = " ".join(f"{name}={value}" for name, value in sorted(item.labels.items()))
    found = (item.instance, item.environment, words.get(item.environment, ""), labels, status, words.get(status, ""))
    last = next((check for check in item.checks if check.success), None)
    run = view.last_run if view else None
    return Row(
        item=item,
        status=status if status in words else UNKNOWN,
        billing=billing if billing in words else UNKNOWN,
        find=" ".join(found).lower(),
        spark=sparkline(item.checks, f"{words['response_time']}: {item.instance}"),
        response=last.response_time_ms if last else None,
        drift=len(run.open_drift) if run else None,
        drift_at=run.at if run else None,
        undone="" if run is None or run.outcome in WELL else words.get(f"outcome_{run.outcome}", run.outcome),
        unchecked=view is not None and is_unchecked(view, now),
    )


def _compared(row: Row, detail: Detail, at: datetime) -> Row:
    """A report has looked itself: its column shows its own diff."""
    if detail.diff is None or detail.diff.plan is None:
        return row
    return replace(row, drift=sum(change.cause == "drift" for change in detail.diff.changes), drift_at=at)


def _tally(rows: Sequence[Row], words: Mapping[str, str]) -> list[tuple[str, str, int]]:
    by_status = Counter(row.status for row in rows if row.item.view)
    overdue = sum(row.billing == "overdue" or row.status == "pending_payment" for row in rows)
    drifted = sum(bool(row.drift) for row in rows)
    tally = [
        ("main", words["instances"], len(rows)),
        ("good", words["active"], by_status["active"]),
        ("warn" if overdue else "", words["payment_due"], overdue),
        ("bad" if by_status["suspended"] else "", words["suspended"], by_status["suspended"]),
        ("warn" if drifted else "", words["drift"], drifted),
    ]
    unread = sum(row.item.error is not None for row in rows)
    return [*tally, ("bad", words["unreadable"], unread)] if unread else tally


def _seen(value: Any) -> Any:
    """Filter everything that a template writes: no text may turn a line around or be invisible."""
    return value if value is None or isinstance(value, Markup | int | float) else printable(str(value))


def _shown(value: Value) -> str:
    """A value as the page shows it: JSON except for texts, cut if it is long."""
    if isinstance(value, Secret):
        return MASK
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONG else text[:_LONG] + "…"


def _price(plan: Any) -> str:
    """Cents as money; `plan` is a row's fields or Connect's plan."""
    price, currency = (
        plan[name] if isinstance(plan, Mapping) else getattr(plan, name) for name in ("price", "currency")
    )
    amount = f"{(price or 0) / 100:,.2f}"
    if currency == "BRL":
        amount = re.sub("[,.]", lambda mark: {",": ".", ".": ","}[mark.group()], amount)
    return f"{_SIGNS.get(currency, currency)} {amount}"


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
