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

_MODULES = (admin, config, database, development_rows, environment, plan, queue, schema, setting, status)

KINDS: tuple[Kind, ...] = tuple(sorted((module.KIND for module in _MODULES), key=lambda kind: kind.order))

BY_NAME = {kind.name: kind for kind in KINDS}

PER_ENVIRONMENT = tuple(kind.name for kind in KINDS if kind.per_environment)
"""The kinds whose rows belong to one environment; the others belong to the instance."""

SECTIONS = {kind.section.key: kind.section for kind in KINDS if kind.section is not None}
"""The sections of a manifest that declare one kind each, by their keys."""


def folded_key(key: Key) -> Key:
    """Returns a key that is equal for all spellings of a resource's name."""
    return Key(key.kind, BY_NAME[key.kind].folded(key.name))


def is_short(key: str) -> bool:
    """Whether the section may be written as just a list."""
    return key in SECTIONS and SECTIONS[key].short


def long_path(path: str) -> str:
    """Returns `queues/items/0/name` for `queues/0/name`; any other path as it is."""
    key, _, rest = path.partition("/")
    return f"{key}/items/{rest}" if is_short(key) and rest[:1].isdigit() else path


def short_path(path: str) -> str:
    """Returns `queues/0/name` for `queues/items/0/name`; any other path as it is."""
    key, _, rest = path.partition("/")
    return f"{key}/{rest.removeprefix('items/')}" if is_short(key) else path
