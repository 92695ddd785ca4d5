"""Take out of a manifest what was found wrong in it, so that the rules can be asked of the rest. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from typing import Any

from reconciler.support.json_schema.validate import Violation


def prune(
    raw: Mapping[str, Any], wrong: Iterable[str], violations: Callable[[Any], Iterable[Violation]]
) -> dict[str, Any]:
    """`raw` without the values at the paths that are `wrong`; an entry of a list becomes an empty one, so that the
    others keep their places. What then still does not fit, but for keys that are missing, goes with its whole part."""
    pruned = deepcopy(dict(raw))
    for path in wrong:
        _take_out(pruned, [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")])
    for violation in violations(pruned):
        if not violation.message.endswith("is missing"):
            pruned.pop(violation.path.partition("/")[0], None)
    return pruned


def _take_out(node: Any, parts: list[str]) -> None:
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        match node:
            case dict() if part in node:
                if last:
                    del node[part]
                    return
                node = node[part]
            case list() if part.isdigit() and int(part) < len(node):
                if last:
                    node[int(part)] = {}
                    return
                node = node[int(part)]
            case _:
                return
