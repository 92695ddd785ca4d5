"""`apply --retry REPORT`: the instances that a JSON report of an apply lists as not done."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler.cli.gitops import NO_LONGER_MANAGED
from reconciler.engine.batch import SUSPENDED
from reconciler.model.errors import UsageError
from reconciler.model.names import first_of
from reconciler.support.log import EventLog

if TYPE_CHECKING:
    from reconciler.manifest.loader import Manifest

DONE = frozenset({"in_sync", "changed"})
MOST_NAMED = 10


def only_undone(manifests: tuple[Manifest, ...], path: str, log: EventLog, command: str) -> tuple[Manifest, ...]:
    """The manifests of those instances, in order. Raises UsageError if the file is not a report of an apply, or if none
    of the unfinished instances is selected: a retry that tries none of them has repaired nothing.

    A report of a run that failed as a whole names no instance: then none was done.
    """
    report = _read_report(path)
    if report.get("error") is not None and not report["instances"]:
        return manifests
    undone = {item["instance"] for item in report["instances"] if _is_undone(item)}
    chosen = tuple(manifest for manifest in manifests if manifest.instance in undone)
    log.info(command, f"🔁 {len(undone)} of {len(report['instances'])} instances of {path} were not done")
    if gone := sorted(undone - {manifest.instance for manifest in chosen}):
        named = first_of(gone, MOST_NAMED)
        if not chosen:
            raise UsageError(
                f"what {path} says was not done is not chosen here, or no longer declared: {named}",
                hint="check the paths and --limit; if it is gone for good, there is nothing to retry",
            )
        log.warning(command, f"⚠️ not chosen here, or no longer declared, so left alone: {named}")
    return chosen


def _is_undone(item: dict[str, Any]) -> bool:
    """Whether the instance was not done in full; one that its manifest suspends, or that no manifest declares, was not
    supposed to be."""
    notes = item.get("notes", ())
    wanted = SUSPENDED not in notes and not any(str(note).startswith(NO_LONGER_MANAGED) for note in notes)
    return item.get("outcome") not in DONE and wanted


def _read_report(path: str) -> dict[str, Any]:
    hint = "write one: fivrec apply -o json … > FILE"
    try:
        document = json.loads(Path(path).read_bytes())
    except OSError as exc:
        reason = os.strerror(exc.errno or 0).lower()
        raise UsageError(f"the report {path} cannot be read: {reason}", hint="check the path") from exc
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"{path} is not a report: it is not JSON", hint=hint) from exc
    if not _is_report(document):
        raise UsageError(f"{path} is not a report of an apply", hint=hint)
    found: dict[str, Any] = document
    return found


def _is_report(document: object) -> bool:
    if not isinstance(document, dict) or document.get("version") != 1:
        return False
    instances = document.get("instances")
    if document.get("command") not in ("apply", "fleet apply") or not isinstance(instances, list):
        return False
    return all(isinstance(item, dict) and isinstance(item.get("instance"), str) for item in instances)
