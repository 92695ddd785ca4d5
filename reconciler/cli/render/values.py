"""Make values and foreign text safe to show: no control or bidirectional character reaches a terminal or a page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from reconciler.model.changes import Accepted, Change, Conflict, FieldChange, Former
from reconciler.model.names import cut, mixed_scripts, printable
from reconciler.model.secret import MASK
from reconciler.model.types import Key, Value, rfc3339

SIGNS = {"create": "+", "update": "~", "deactivate": "-", "remove": "-"}


def show(value: Value, longest: int = 100) -> str:
    """A value as JSON, cut if it is long, marked if it may be read as another; JSON output has it in full."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return cut(printable(text), longest) + _mark(text)


def show_both(before: Value, after: Value, longest: int = 100) -> tuple[str, str]:
    """Both values as `show` gives them; but if they differ only in what it cuts off, from a little before that."""
    texts = [json.dumps(value, ensure_ascii=False, sort_keys=True) for value in (before, after)]
    seen = [printable(text) for text in texts]
    same = next((at for at, (one, other) in enumerate(zip(*seen, strict=False)) if one != other), min(map(len, seen)))
    if same >= longest - longest // 4:
        seen = [f"…{text[same - longest // 2 :]}" for text in seen]
    first, second = (cut(shown, longest) + _mark(text) for shown, text in zip(seen, texts, strict=True))
    return first, second


def _mark(text: str) -> str:
    """Marks words that mix alphabets, because letters that look alike can imitate another name."""
    scripts = mixed_scripts(text)
    return f" [mixed scripts: {', '.join(scripts)}]" if scripts else ""


def change_line(change: Change) -> str:
    """`~ queue/Sales (drift)`, with the source if it is not the manifest."""
    source = "" if change.source == "manifest" else f", {change.source}"
    key = str(change.key)
    return f"{SIGNS[change.action]} {printable(key)}{_mark(key)} ({change.cause}{source})"


def former_line(former: Former) -> str:
    """`? queue/Night (former: applied 2026-11-20 by run 644bad66)`."""
    when = former.at.astimezone(UTC).date().isoformat()
    return f"? {printable(str(former.key))} (former: applied {when} by run {printable(former.run_id[:8])})"


def accepted_line(accepted: Accepted) -> str:
    """`queue/Sales/description: accepted drift until 2030-12-31: a campaign`."""
    return printable(f"{accepted.key}/{accepted.field}: {accepted_words(accepted)}")


def accepted_words(accepted: Accepted) -> str:
    end = f" until {accepted.until.isoformat()}" if accepted.until else ", no end"
    return printable(f"accepted drift{end}: {accepted.reason}")


def since_words(change: Change, since: Mapping[Key, datetime]) -> str:
    """` since 2026-11-20T10:00:00Z`, for drift that a recording run saw before."""
    known = since.get(change.key) if change.cause == "drift" else None
    return f" since {rfc3339(known)}" if known else ""


def field_line(field: FieldChange) -> str:
    name = printable(field.field)
    if field.sensitive:
        return f"{name}: {MASK}"
    return f"{name}: {' → '.join(show_both(field.before, field.after))}"


def conflict_line(conflict: Conflict, longest: int = 100) -> str:
    path = printable(f"{conflict.key}/{conflict.field}")
    expected, observed = show(conflict.expected, longest), show(conflict.observed, longest)
    return f"! {path}: expected {expected}, Connect says {observed}"
