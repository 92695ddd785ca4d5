"""Look up the addresses of a host name."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress


async def resolve_host(host: str, port: int | None = None) -> tuple[str, ...]:
    """Returns each address once, in the resolver's order. Raises OSError if the name has none.

    Uses its own thread, not the loop's: at exit the loop would wait for a name server that hangs.
    """
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
        with suppress(RuntimeError):  # the loop has ended: nobody is waiting any more
            loop.call_soon_threadsafe(settle, found)

    threading.Thread(target=ask, daemon=True, name="fivrec-resolve").start()
    return tuple(dict.fromkeys(await answer))
