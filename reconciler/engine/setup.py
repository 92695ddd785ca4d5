"""The one-shot provisioning of the seed's setup-new-instance.js, as a manifest made of four values. Same engine."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from reconciler.database import accounts
from reconciler.engine.observe import build_scope, database, read_snapshot
from reconciler.engine.run import Run
from reconciler.manifest.from_setup import DEFAULT_QUEUES
from reconciler.model.changes import Create
from reconciler.model.kinds import KINDS
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret
from reconciler.model.types import DatabaseSpec, Desired, EnvironmentName, EnvironmentSpec, Key, Managed, Origin
from reconciler.planning.diff import sorted_resources
from reconciler.planning.report import InstanceReport


@dataclass(frozen=True, slots=True)
class Setup:
    """The arguments of the seed's script."""

    instance: str
    url: Secret
    environment: EnvironmentName
    admin_email: str
    admin_name: str
    admin_password: Secret
    company_name: str
    schema: str = "public"


def build_desired(setup: Setup) -> Desired:
    """The manifest that these values stand for. It names no Connect, which comes with `apply`."""
    document = {
        "instance": setup.instance,
        "environment": {"name": setup.environment, "isolation": "constraints", "purge_development_data": False},
        "config": {"company_name": setup.company_name},
        "admin": {
            "name": setup.admin_name,
            "email": setup.admin_email,
            "password": setup.admin_password,
            "update_password": "on_create",
        },
        "queues": {"items": [{"name": name} for name in DEFAULT_QUEUES], "unmanaged": "keep"},
    }
    managed = {kind.name: declared for kind in KINDS if (declared := kind.from_manifest(document)) is not None}
    managed["queue"] = _at_creation(managed["queue"], "description", "is_active")
    managed["admin"] = _at_creation(managed["admin"], "name")
    return Desired(
        instance=setup.instance,
        environment=EnvironmentSpec(setup.environment),
        database=DatabaseSpec(setup.url, schema=setup.schema),
        connect=None,
        managed=managed,
        origin=Origin("fivrec setup", 0, digest=""),
    )


def _at_creation(managed: Managed, *fields: str) -> Managed:
    """The same manifest, with fields that apply to new rows only: setup must not change existing rows."""
    rows = tuple(replace(row, on_create=row.on_create | {*fields}) for row in managed.resources)
    return replace(managed, resources=rows)


def made_admin(report: InstanceReport) -> bool:
    """Whether this run created the administrator, and so set the password; an existing one keeps both."""
    return any(change.key.kind == "admin" and isinstance(change, Create) for change in report.changes)


def set_password(report: InstanceReport) -> bool:
    return any(
        change.key.kind == "admin" and any(field.field == "password" for field in change.fields)
        for change in report.changes
    )


async def holds_password(desired: Desired, run: Run, setup: Setup) -> bool:
    from reconciler.support.crypto.passwords import verify

    async with database(desired, run) as conn:
        account = await accounts.read_declared_account(conn, build_scope(desired), setup.admin_email)
    return account is not None and await asyncio.to_thread(verify, setup.admin_password, account.password.reveal())


async def read_made(desired: Desired, run: Run) -> tuple[str | None, tuple[str, ...]]:
    """The company's name and the active queues that exist, the default ones first, in the seed's order."""
    scope = replace(build_scope(desired), references=False, admin_email=None)  # whose email that is doesn't matter here
    async with database(desired, run) as conn:
        snapshot = await read_snapshot(conn, scope)
    company = snapshot.state.get(Key("setting", "company_name"))
    queues = [row.key.name for row in sorted_resources(snapshot.state, "queue") if row.fields["is_active"]]
    return company.fields["value"] if company else None, (
        *(name for name in DEFAULT_QUEUES if name in queues),
        *(name for name in queues if name not in DEFAULT_QUEUES),
    )


def kept_line(setup: Setup) -> str:
    return (
        f"⚠️ The admin user {setup.admin_email} exists with another password, which was kept: to change it, "
        "apply a manifest with update_password: always"
    )


def opening_lines(setup: Setup, node_env: str) -> tuple[str, ...]:
    """The first lines of the seed's log (Exemplos de Logs)."""
    return (
        f"🌍 Database Environment: {setup.environment} (NODE_ENV: {node_env})",
        "🚀 Starting Fi.V App database setup...",
        f"📧 Admin Email: {setup.admin_email}",
        f"🏢 Company Name: {setup.company_name}",
    )


def closing_lines(report: InstanceReport) -> tuple[str, ...]:
    """The rest of the log; rows that already existed are reported as in place."""
    changed = {change.key.kind for change in report.changes}
    lines = (
        ("schema", "✅ Database tables created successfully", "✅ Database tables are in place"),
        ("admin", "👤 Default admin user created", "👤 Default admin user is in place"),
        ("queue", "📋 Default queues created", "📋 Default queues are in place"),
        ("setting", "⚙️ Default settings configured", "⚙️ Default settings are in place"),
    )
    said = tuple(made if kind in changed else kept for kind, made, kept in lines)
    return (*said, "🎉 Fi.V App database setup completed successfully!")
