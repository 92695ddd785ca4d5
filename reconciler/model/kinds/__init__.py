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
