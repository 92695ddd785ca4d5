"""Saved plans as files: schemas/plan.v1. Writes and reads them; compares nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from typing import Any, Final

from reconciler.model.errors import Refused, UsageError
from reconciler.model.types import encodable
from reconciler.planning.saved_plan import SavedPlan, as_document, from_document

MAX_BYTES: Final = 256 * 1024 * 1024
"""Enough for some 100,000 instances that are all new."""

MAX_DEPTH: Final = 200
PLAN_AGAIN: Final = 'plan again: "fivrec diff --out FILE"'


def write_plan(path: str, plan: SavedPlan) -> None:
    """Raises FivrecError if the file can't be written."""
    from reconciler.support.files import replace_text

    moment = replace(plan, created_at=plan.created_at.astimezone(UTC))
    replace_text(path, encodable(json.dumps(as_document(moment), ensure_ascii=False, indent=2)) + "\n")


def read_plan(path: str) -> SavedPlan:
    """Raises UsageError if there is no such file, Refused if it is not a plan: its intent is unknown."""
    try:
        with Path(path).open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as exc:
        reason = os.strerror(exc.errno or 0).lower()
        raise UsageError(f"the saved plan {path} cannot be read: {reason}", hint="check the path") from exc
    document = _parsed(text)
    if document is None:
        raise _no_plan(path, "it is not JSON")
    from reconciler.support.json_schema.validate import first_problem

    if problem := first_problem("plan", document):
        raise _no_plan(path, problem)
    names = [item["instance"] for item in document["instances"]]
    if len(set(names)) < len(names):
        raise _no_plan(path, "an instance is in it twice")
    try:
        return from_document(document)
    except ValueError as exc:
        raise _no_plan(path, "created_at is not a point in time") from exc


def _parsed(text: bytes) -> Any:
    if len(text) > MAX_BYTES:
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return None if _is_deep(document) else document


def _is_deep(document: Any) -> bool:
    """Whether it is nested deeper than any manifest or answer may be: recursive code could not handle it."""
    level = [document]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in _children(node)]
        if not level:
            return False
    return True


def _children(node: Any) -> Iterable[Any]:
    return node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()


def _no_plan(path: str, why: str) -> Refused:
    return Refused(f"{path} is not a saved plan: {why}", hint=PLAN_AGAIN, code="plan_invalid")
