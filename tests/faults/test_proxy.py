"""The fault proxy does what it promises, since other tests rely on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.fault_proxy import FaultProxy, running_proxy


@asynccontextmanager
async def echo_server() -> AsyncIterator[int]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.read(1000):
            writer.write(line)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def talk(port: int, *words: bytes) -> list[bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    heard = []
    try:
        for word in words:
            writer.write(word)
            answer = await reader.read(1000)
            if not answer:
                raise ConnectionResetError
            heard.append(answer)
    finally:
        writer.transport.abort()
    return heard


async def test_each_wait_for_an_answer_counts_as_a_round_trip() -> None:
    async with echo_server() as port, FaultProxy("127.0.0.1", port) as proxy:
        assert await talk(proxy.port, b"one", b"two", b"three") == [b"one", b"two", b"three"]
        assert (proxy.traffic.turns, proxy.traffic.connections) == (3, 1)
        assert (proxy.traffic.to_server, proxy.traffic.to_client) == (11, 11)


async def test_a_cut_comes_after_the_very_byte() -> None:
    async with echo_server() as port, FaultProxy("127.0.0.1", port) as proxy:
        proxy.arm(4, "to_server")
        with pytest.raises(ConnectionError):
            await talk(proxy.port, b"one", b"two", b"three")
        assert (proxy.traffic.to_server, proxy.traffic.cuts) == (4, 1)
        assert await talk(proxy.port, b"again") == [b"again"]


async def test_a_frozen_link_says_nothing_until_it_thaws() -> None:
    async with echo_server() as port, FaultProxy("127.0.0.1", port) as proxy:
        proxy.freeze()
        asked = asyncio.create_task(talk(proxy.port, b"word"))
        done, _ = await asyncio.wait([asked], timeout=0.1)
        assert done == set()
        proxy.thaw()
        assert await asked == [b"word"]


async def test_the_same_seed_drops_the_same_connections() -> None:
    async def outcome(seed: int) -> list[bool]:
        async with echo_server() as port, FaultProxy("127.0.0.1", port, seed=seed) as proxy:
            proxy.faults.drop_rate = 0.5
            found = []
            for _ in range(12):
                try:
                    found.append(await talk(proxy.port, b"x") == [b"x"])
                except ConnectionError:
                    found.append(False)
            return found

    first = await outcome(7)
    assert first == await outcome(7)
    assert {True, False} == set(first)


async def test_a_proxy_in_a_thread_serves_and_drops() -> None:
    async with echo_server() as port:
        with running_proxy("127.0.0.1", port) as proxy:
            assert await talk(proxy.port, b"word") == [b"word"]
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(b"x")
            assert await reader.read(10) == b"x"
            proxy.drop_all()
            with pytest.raises(ConnectionError):
                assert await reader.read(10) == b"never"
            writer.transport.abort()
