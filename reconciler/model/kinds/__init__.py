"""The kinds of resources, in the order in which they are written."""

from __future__ import annotations

from reconciler.model.kinds import (
    admin,
    config,
    database,
    development_rows,
    environment,
    plan,
    queue,
    schema,
    setting,
    status,
)
from reconciler.model.kinds.base import Kind
from reconciler.model.types import Key

KINDS: tuple[Kind, ...] = tuple(
    sorted(
        (
            database.KIND,
            schema.KIND,
            environment.KIND,
            setting.KIND,
            config.KIND,
            admin.KIND,
            queue.KIND,
            plan.KIND,
            status.KIND,
            development_rows.KIND,
        ),
        key=lambda kind: kind.order,
    )
)

BY_NAME = {kind.name: kind for kind in KINDS}

PER_ENVIRONMENT = tuple(kind.name for kind in KINDS if kind.per_environment)
"""The kinds whose rows are of one environment; the others are the instance's."""

SECTIONS = {kind.section.key: kind.section for kind in KINDS if kind.section is not None}
"""The sections of a manifest that declare one kind each, by their keys."""


def folded_key(key: Key) -> Key:
    """What is equal of the keys of one resource: a name may be spelled in two ways."""
    return Key(key.kind, BY_NAME[key.kind].folded(key.name))


def is_short(key: str) -> bool:
    """Whether a list alone may stand for the section."""
    return key in SECTIONS and SECTIONS[key].short


def long_path(path: str) -> str:
    """`queues/0/name` as `queues/items/0/name`; any other path as it is."""
    key, _, rest = path.partition("/")
    return f"{key}/items/{rest}" if is_short(key) and rest[:1].isdigit() else path


def short_path(path: str) -> str:
    """`queues/items/0/name` as `queues/0/name`; any other path as it is."""
    key, _, rest = path.partition("/")
    return f"{key}/{rest.removeprefix('items/')}" if is_short(key) else path
