"""Read the body of an answer of Fi.V Connect, limited to more than any real one needs."""

from __future__ import annotations

import zlib

from reconciler.connect import errors as faults
from reconciler.connect.exchange import Response

MAX_BODY = 1024 * 1024


async def read_body(response: Response) -> bytes:
    """Returns the body. Unpacks no more than the limit allows: a small gzip may become large."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "", "gzip", "x-gzip"):
        raise faults.invalid_answer("it is compressed in a way that was not asked for")
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 16) if "gzip" in encoding else None
    body = bytearray()
    try:
        async for part in response.parts:
            room = MAX_BODY + 1 - len(body)
            body += part if unpack is None else unpack.decompress(part, room)
            if len(body) > MAX_BODY:
                raise faults.too_large(MAX_BODY)
    except zlib.error as error:
        raise faults.invalid_answer("its gzip is broken") from error
    if unpack is not None and not unpack.eof:
        raise faults.invalid_answer("its gzip ends too early")
    if unpack is not None and unpack.unused_data:
        raise faults.invalid_answer("something follows its gzip")
    return bytes(body)
