"""A host's addresses, resolved and checked. The caller connects to these and resolves nothing again."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address

from reconciler.adapters.addresses import Endpoint, address_problem, is_loopback
from reconciler.adapters.connect_faults import refused_address, unreachable


async def checked_addresses(endpoint: Endpoint) -> tuple[IPv4Address | IPv6Address, ...]:
    """The addresses of a host. One bad address refuses the host: a mixed answer is what an attack looks like."""
    addresses = await _resolve(endpoint.host, endpoint.port)
    for address in addresses:
        if reason := address_problem(address):
            raise refused_address(endpoint.host, reason)
        if endpoint.scheme == "http" and not is_loopback(address):
            raise refused_address(endpoint.host, "another machine over http://")
    return addresses


async def _resolve(host: str, port: int) -> tuple[IPv4Address | IPv6Address, ...]:
    """A thread of our own, not the loop's: at exit the loop would wait for a name server that hangs."""
    try:
        return (ip_address(host),)
    except ValueError:
        pass
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def settle(found: list[str] | OSError) -> None:
        if answer.done():
            return
        if isinstance(found, OSError):
            answer.set_exception(found)
        else:
            answer.set_result(found)

    def ask() -> None:
        found: list[str] | OSError
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found = [str(info[4][0]) for info in infos]
        except OSError as error:
            found = error
        except UnicodeError:
            found = socket.gaierror(socket.EAI_NONAME, "the name is not one that DNS can hold")
        with suppress(RuntimeError):  # the loop has ended: nobody waits any more
            loop.call_soon_threadsafe(settle, found)

    threading.Thread(target=ask, daemon=True, name="fivrec-resolve").start()
    try:
        return tuple(ip_address(text) for text in dict.fromkeys(await answer))
    except OSError as error:
        raise unreachable(f"the name {host} can't be resolved") from error
