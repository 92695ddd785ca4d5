"""The limit for a loop: connections kept between rounds; beyond a bound, the least recently used is closed."""

import argparse
import asyncio
import json
import signal
import time
from collections import OrderedDict
from pathlib import Path

import httpx
import psycopg
from fleet import write
from work import CATALOGUE, STATUS, headers


class Kept:
    """Open connections by URL, at most `bound` of them."""

    def __init__(self, bound):
        self.bound = bound
        self.open = OrderedDict()

    async def take(self, url):
        conn = self.open.pop(url, None)
        return conn or await psycopg.AsyncConnection.connect(url)

    async def give(self, url, conn):
        self.open[url] = conn
        if len(self.open) > self.bound:
            _, oldest = self.open.popitem(last=False)
            await oldest.close()

    async def close(self):
        for conn in self.open.values():
            await conn.close()


async def check(client, kept, one):
    begun = time.monotonic()
    asked = headers(one["key"])
    status, plans = await asyncio.gather(client.get(STATUS, headers=asked), client.get(CATALOGUE, headers=asked))
    took = int((time.monotonic() - begun) * 1000)
    conn = await kept.take(one["url"])
    await write(conn, one, status.raise_for_status().json(), plans.raise_for_status().json(), took)
    await kept.give(one["url"], conn)


async def main(given):
    fleet = json.loads(Path(given.list).read_text())
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    kept, cycles = Kept(given.keep), 0

    def due():
        while not ended.is_set():
            yield from fleet

    waiting = due()

    async def work(client):
        nonlocal cycles
        for one in waiting:
            await check(client, kept, one)
            cycles += 1
            if ended.is_set():
                return

    limits = httpx.Limits(max_connections=given.at_once * 2, max_keepalive_connections=given.at_once * 2)
    async with httpx.AsyncClient(base_url=given.connect_url, timeout=30, limits=limits) as client:
        await asyncio.gather(*(work(client) for _ in range(given.at_once)))
    await kept.close()
    print(json.dumps({"cycles": cycles}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("list")
    parser.add_argument("--connect-url", required=True)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--keep", type=int, default=200)
    asyncio.run(main(parser.parse_args()))
