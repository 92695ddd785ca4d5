"""What an instance's database holds, in a form that can be compared between databases: no ids, times or ciphertexts."""

from __future__ import annotations

from typing import Any

import psycopg

from reconciler.database import store
from reconciler.database.connection import connect
from reconciler.database.pipeline import Limits
from reconciler.database.status_queries import read_chain
from reconciler.database.store import Scope
from reconciler.model.secret import Secret
from reconciler.planning.audit import AuditEntry
from tests.support.audit_chain import verify

ROWS = {
    "users": "name, email, role, environment",
    "queues": "name, description, is_active, environment",
    "plans": "id, name, price, is_active",
    "settings": "key, value::text",
    "instance_config": "instance_id, connect_api_url, status, billing_status, check_interval_minutes, is_locked",
    "fivrec.migrations": "version, checksum",
    "fivrec.applied": "environment, kind, name",
}
SCOPE = Scope("client-abc-123", "production")


async def state_of(url: Secret) -> dict[str, list[tuple[Any, ...]]]:
    async with await psycopg.AsyncConnection.connect(url.reveal(), autocommit=True) as conn:
        return {
            table: await (await conn.execute(f"SELECT {columns} FROM {table} ORDER BY 1, 2, 3")).fetchall()
            if columns.count(",") > 1
            else await (await conn.execute(f"SELECT {columns} FROM {table} ORDER BY 1, 2")).fetchall()
            for table, columns in ROWS.items()
        }


async def chain_of(url: Secret) -> list[AuditEntry]:
    """Returns the audit log after verifying its chain."""
    conn = await connect(url, application_name="fivrec test")
    try:
        entries = [entry async for entry in read_chain(conn, SCOPE)]
    finally:
        await conn.close()
    assert verify(entries) is None
    return entries


async def is_free(url: Secret) -> bool:
    """Returns True if nobody holds the instance's lock; otherwise raises."""
    conn = await connect(url, limits=Limits(lock_wait_s=0), application_name="fivrec test")
    try:
        await store.begin_recording(conn, SCOPE)
    finally:
        await conn.close()
    return True


async def rows(url: Secret, query: str) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(url.reveal(), autocommit=True) as conn:
        return await (await conn.execute(query)).fetchall()
