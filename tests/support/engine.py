"""The engine without the command line: manifests as documents, Connect as a local server or none at all."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reconciler.engine.run import Run
from reconciler.model.kinds import KINDS
from reconciler.model.secret import Secret
from reconciler.model.types import ConnectTarget, DatabaseSpec, Desired, EnvironmentSpec, Origin
from reconciler.planning.audit import Actor
from reconciler.support.crypto.keyring import KeyRing
from reconciler.support.log import EventLog

INSTANCE = "client-abc-123"


def document(**sections: Any) -> dict[str, Any]:
    """Returns a normalised manifest as the loader would; a section that is None is left out."""
    whole: dict[str, Any] = {
        "instance": INSTANCE,
        "environment": {"name": "production", "isolation": "constraints", "purge_development_data": False},
        "config": {
            "connect_api_url": "embedded:",
            "instance_key": Secret("key-of-the-test"),
            "check_interval_minutes": 60,
            "company_name": "Nome da Empresa",
            "settings": {"locale": "pt-BR"},
        },
        "admin": {
            "name": "Administrador",
            "email": "admin@empresa.com",
            "password": Secret("senha-123"),
            "update_password": "on_create",
        },
        "queues": {"items": [{"name": "Sales"}, {"name": "Technical Support"}], "unmanaged": "keep"},
        "plans": {"source": "connect", "unmanaged": "deactivate"},
    }
    whole |= sections
    return {name: section for name, section in whole.items() if section is not None}


def desired_of(whole: dict[str, Any], url: Secret, *, connect: str | None = "embedded:", **more: Any) -> Desired:
    config = whole.get("config") or {}
    target = ConnectTarget(connect, config.get("instance_key")) if connect and config else None
    managed = {kind.name: declared for kind in KINDS if (declared := kind.from_manifest(whole)) is not None}
    plans = whole.get("plans") or {}
    return Desired(
        instance=whole["instance"],
        environment=EnvironmentSpec(
            whole["environment"]["name"],
            purge_development_data=whole["environment"].get("purge_development_data", False),
        ),
        database=DatabaseSpec(url),
        connect=target,
        managed=managed,
        plans_from_connect=plans.get("source") == "connect" and target is not None,
        plans_unmanaged=plans.get("unmanaged", "deactivate"),
        bcrypt_cost=4,
        origin=Origin("test.yaml", 1, digest="0" * 64),
        **{"whole": True, **more},
    )


def run_of(keys: KeyRing, work_dir: Path, number: int = 1, **more: Any) -> Run:
    return Run(
        id=f"00000000-0000-4000-8000-{number:012d}",
        command="apply",
        actor=Actor("test", None),
        keys=keys,
        log=EventLog(io.StringIO()),
        now=lambda: datetime.now(UTC),
        work_dir=work_dir,
        **more,
    )
