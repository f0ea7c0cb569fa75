"""Receiving request bodies: manifests up to a bound, blobs chunk by chunk (I9)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect

from registry.oci.errors import BlobUploadInvalid, ManifestTooLarge, SizeInvalid

if TYPE_CHECKING:
    from starlette.datastructures import Headers
    from starlette.requests import Request

    from registry.api.edge import Edge
    from registry.images.addition import Addition
STRAY = 64 << 10
"""Bytes of a body that nobody asked for, which are read and dropped."""


class Body:
    """The body of one request, read in order. Raises Interrupted when it stops before its end."""

    def __init__(self, request: Request, idle_timeout: float) -> None:
        self._receive = request.receive
        self._idle_timeout = idle_timeout
        self.ended = _is_empty(request.headers)
        """Everything was read."""

    async def chunk(self, size: int) -> bytes:
        """The next bytes: at least ``size`` (and a little more: what came together), or all to the end."""
        parts: list[bytes] = []
        received = 0
        while received < size and not self.ended:
            try:
                async with asyncio.timeout(self._idle_timeout):
                    message = await self._receive()
            except TimeoutError as error:
                raise Interrupted(b"".join(parts), timed_out=True) from error
            if message["type"] == "http.disconnect":
                raise Interrupted(b"".join(parts), timed_out=False)
            part = message.get("body", b"")
            self.ended = not message.get("more_body", False)
            parts.append(part)
            received += len(part)
        return b"".join(parts)

    async def small(self, limit: int) -> bytes:
        """The whole body of a manifest. Raises ManifestTooLarge beyond ``limit`` bytes, holding no more than that.

        As much again is read and dropped, so that a client that only reads when it has sent everything sees the
        answer; then the connection is closed.
        """
        data = await self.chunk(limit + 1)
        if len(data) <= limit:
            return data
        dropped = 0
        while dropped < limit and not self.ended:
            dropped += len(await self.chunk(1))
        closing = {} if self.ended else {"Connection": "close"}
        raise ManifestTooLarge(f"the manifest is larger than {limit} bytes", headers=closing)

    async def expect_none(self) -> None:
        """Wait for the end of a request that needs no body, so that nothing is begun for a client that is gone.

        Raises SizeInvalid when there is a body after all, of more than STRAY bytes.
        """
        if len(await self.chunk(STRAY)) >= STRAY and not self.ended:
            raise SizeInvalid("this request takes no body; send the bytes to the Location of its answer")


class Interrupted(ClientDisconnect):
    """The body stopped in the middle; ``rest`` is what had come since the last whole chunk."""

    def __init__(self, rest: bytes, *, timed_out: bool) -> None:
        super().__init__()
        self.rest = rest
        self.timed_out = timed_out
        """The client may still be there, but sends nothing."""


async def receive_into(edge: Edge, body: Body, first: bytes, addition: Addition, size: int) -> None:
    """Write ``first`` and the rest of the body to an upload: one chunk is hashed and stored while the next arrives.

    Holds at most two chunks of ``size`` bytes. Raises Interrupted when the body stops early; what came is kept.
    """
    writing = _add(edge, addition, first)
    try:
        while not body.ended:
            async with edge.buffers:
                data = await body.chunk(size)
                await writing
                writing = _add(edge, addition, data)
    except Interrupted as interrupted:
        await writing
        writing = _add(edge, addition, interrupted.rest)
        raise
    finally:
        await writing


def _add(edge: Edge, addition: Addition, data: bytes) -> asyncio.Future[tuple[None, None]]:
    """Hash and store side by side: neither waits for the other within a chunk."""
    return asyncio.gather(edge.transfer(addition.hash, data), edge.transfer(addition.store, data))


def _is_empty(headers: Headers) -> bool:
    """Whether a request has no body, as its head says."""
    return headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers


def declared_length(request: Request) -> int | None:
    """The Content-Length, or None for a chunked body. Raises BlobUploadInvalid when it is no number."""
    value = request.headers.get("content-length")
    if value is None:
        return None
    if not value.isdecimal():
        raise BlobUploadInvalid("Content-Length is not a number")
    return int(value)
