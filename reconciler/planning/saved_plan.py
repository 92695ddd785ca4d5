"""Saved plans: what `diff --out` keeps of each instance's plan, and whether the plan is still the same. Pure.

A saved plan is never carried out: it is compared with the plan that is computed under the lock. So it needs no
signature, and an edited one is refused like a stale one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from reconciler.model.names import cut
from reconciler.model.records import dataclass
from reconciler.model.types import Value, rfc3339, same
from reconciler.planning.plan import Bound, Plan, change_as_json, compute_digest, is_reviewed, short_digest

Shown = Mapping[str, Value]
"""A change as reports show it."""

LONGEST, LONGEST_SENTENCE = 60, 300


@dataclass(frozen=True, slots=True)
class SavedInstance:
    """One instance's plan. `manifest` is the digest of its rendered manifest, `digest` that of the plan with the
    declared secrets; `database` and `connect` identify its targets, and are empty in older files."""

    instance: str
    environment: str
    manifest: str
    digest: str
    changes: tuple[Shown, ...]
    database: str = ""
    connect: str = ""


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """The plans of one `diff`; `commit` is that of the manifests, if they are in git."""

    run_id: str
    created_at: datetime
    fivrec: str
    commit: str | None
    instances: tuple[SavedInstance, ...]


def save(plan: Plan, *, manifest: str, bound: Bound) -> SavedInstance:
    changes, digest = tuple(change_as_json(change) for change in plan.changes), plan.digest(bound)
    return SavedInstance(plan.instance, plan.environment, manifest, digest, changes, bound.database, bound.connect)


def staleness(saved: SavedInstance, plan: Plan, *, manifest: str, bound: Bound) -> tuple[str, ...]:
    """Returns a sentence for each thing that is not as it was planned; empty if the plan is the saved one.

    An older file names no target, and is valid for any; removing the names from a newer file changes its digest."""
    then = replace(bound, database=saved.database, connect=saved.connect)
    if not saved.database and not saved.connect:
        bound = then
    if saved == save(plan, manifest=manifest, bound=bound):
        return ()
    found: list[str] = []
    if saved.environment != plan.environment:
        found.append(f"the environment was {saved.environment} when planned, and is {plan.environment} now")
    if saved.manifest != manifest:
        found.append("the manifest changed since it was planned")
    found += [
        f"{what} is not the one that it was planned for"
        for what, planned, now in (
            ("the database", saved.database, bound.database),
            ("Connect's address", saved.connect, bound.connect),
        )
        if planned != now
    ]
    if saved.digest != compute_digest(saved.instance, saved.environment, saved.changes, then):
        found.append("a declared secret changed since, or the file was edited")
    found += _changes(saved.changes, tuple(change_as_json(change) for change in plan.changes))
    return tuple(_plain(sentence) for sentence in found) or ("the changes are in another order than planned",)


def _changes(then: Sequence[Shown], now: Sequence[Shown]) -> list[str]:
    planned = {_name(change): change for change in then}
    current = {_name(change): change for change in now}
    found: list[str] = []
    for name in sorted(planned.keys() | current.keys()):
        if name not in current:
            found.append(f"{name}: {planned[name]['action']} was planned, there is nothing to do now")
        elif name not in planned:
            found.append(f"{name}: {current[name]['action']} is needed now and was not planned")
        else:
            found += _change(name, planned[name], current[name])
    return found


def _change(name: str, then: Shown, now: Shown) -> list[str]:
    found = [
        f"{name}: the {key} was {then[key]} when planned, and is {now[key]} now"
        for key in ("action", "source", "cause")
        if then[key] != now[key]
    ]
    planned = {field["field"]: field for field in then["fields"]}
    current = {field["field"]: field for field in now["fields"]}
    for field in sorted(planned.keys() | current.keys()):
        found += _field(f"{name}/{field}", planned.get(field), current.get(field), now["source"])
    return found


def _field(path: str, then: Shown | None, now: Shown | None, source: str) -> list[str]:
    if then is None or now is None:
        return [f"{path}: {'differs now, and did not then' if then is None else 'differed, and no longer does'}"]
    found = []
    if not same(then.get("before"), now.get("before")):
        words = f"the database had {_show(then.get('before'))} when planned, and has {_show(now.get('before'))} now"
        found.append(f"{path}: {words}")
    if not same(then.get("after"), now.get("after")):
        who = "Connect" if source == "connect" else "the manifest"
        found.append(f"{path}: {who} said {_show(then.get('after'))} when planned, and {_show(now.get('after'))} now")
    return found


def _name(change: Shown) -> str:
    return f"{change['kind']}/{change['name']}"


def _show(value: Value) -> str:
    return cut(json.dumps(value, ensure_ascii=False, sort_keys=True), LONGEST)


def _plain(sentence: str) -> str:
    """Escapes what a terminal or a text column can't take: names and values may come from an edited file."""
    short = cut(sentence, LONGEST_SENTENCE)
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in short)


def as_document(plan: SavedPlan) -> dict[str, Value]:
    """Returns the plan as schemas/plan.v1.schema.json defines it."""
    return {
        "version": 1,
        "run_id": plan.run_id,
        "created_at": rfc3339(plan.created_at, "auto"),
        "fivrec": plan.fivrec,
        "git_commit": plan.commit,
        "instances": [
            {
                "instance": item.instance,
                "environment": item.environment,
                "manifest_digest": item.manifest,
                **_target(item),
                "digest": item.digest,
                "changes": list(item.changes),
            }
            for item in plan.instances
        ],
    }


def _target(item: SavedInstance) -> dict[str, Value]:
    named = {"database_digest": item.database, "connect_digest": item.connect}
    return {key: digest for key, digest in named.items() if digest}


def from_document(document: Mapping[str, Value]) -> SavedPlan:
    """`document` must be valid by the schema."""
    return SavedPlan(
        run_id=document["run_id"],
        created_at=datetime.fromisoformat(document["created_at"]),
        fivrec=document["fivrec"],
        commit=document["git_commit"],
        instances=tuple(
            SavedInstance(
                item["instance"],
                item["environment"],
                item["manifest_digest"],
                item["digest"],
                tuple(item["changes"]),
                item.get("database_digest", ""),
                item.get("connect_digest", ""),
            )
            for item in document["instances"]
        ),
    )


def run_digest(instances: Sequence[SavedInstance]) -> str:
    """Returns 16 hex digits that identify a run's plans: those of the instances that would change."""
    content = {item.instance: item.digest for item in instances if any(map(is_reviewed, item.changes))}
    return short_digest(content)
