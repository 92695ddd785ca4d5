"""The limit for many instances: asyncio, psycopg and httpx, a new connection for each, K at once, no-op."""

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path

import httpx
import psycopg
from work import CATALOGUE, CONFIG, LOCK, LOG, READS, SEEN, STATUS, differences, headers


async def apply(client, one):
    """Apply one instance: two concurrent GETs, the reads, the log row, commit."""
    begun = time.monotonic()
    asked = headers(one["key"])
    status, plans = await asyncio.gather(client.get(STATUS, headers=asked), client.get(CATALOGUE, headers=asked))
    took = int((time.monotonic() - begun) * 1000)
    status, plans = status.raise_for_status().json(), plans.raise_for_status().json()
    conn = await psycopg.AsyncConnection.connect(one["url"])
    async with conn:
        return await write(conn, one, status, plans, took)


async def write(conn, one, status, plans, took):
    """Do the database's part. Returns how many rows were not as declared."""
    async with conn.pipeline():
        lock = await conn.execute(LOCK)
        cursors = [await conn.execute(read) for read in READS]
        rows = [await cursor.fetchall() for cursor in cursors]
        (locked,) = await lock.fetchone()
    if not locked:
        raise SystemExit(f"{one['instance']} is held by another run")
    changed = differences(rows, status, plans, one["instance"])
    config = rows[CONFIG][0][0]
    async with conn.pipeline():
        await conn.execute(LOG, (config, status["status"], took))
        await conn.execute(SEEN, (config,))
        await conn.commit()
    return changed


async def main(given):
    fleet = json.loads(Path(given.list).read_text())
    waiting = iter(fleet)
    limits = httpx.Limits(max_connections=given.at_once * 2, max_keepalive_connections=given.at_once * 2)
    changed = 0

    async def work(client):
        nonlocal changed
        for one in waiting:
            changed += await apply(client, one)

    async with httpx.AsyncClient(base_url=given.connect_url, timeout=30, limits=limits) as client:
        await asyncio.gather(*(work(client) for _ in range(given.at_once)))
    print(json.dumps({"instances": len(fleet), "changed": changed}))
    return 1 if changed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("list")
    parser.add_argument("--connect-url", required=True)
    parser.add_argument("--at-once", type=int, default=16)
    sys.exit(asyncio.run(main(parser.parse_args())))
