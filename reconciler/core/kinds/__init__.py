"""The kinds of resources, in the order in which they are written."""

from __future__ import annotations

from reconciler.core.kinds import (
    admin,
    config,
    database,
    environment,
    plan,
    queue,
    schema,
    setting,
    status,
    test_data,
)
from reconciler.core.kinds.kind import Kind

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
            test_data.KIND,
        ),
        key=lambda kind: kind.order,
    )
)

BY_NAME = {kind.name: kind for kind in KINDS}
