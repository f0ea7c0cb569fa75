"""Request body: received chunk by chunk (I9); bytes of a slow client are written, and not held.

Tests: ``tests/server/test_bodies.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from time import monotonic
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect

from registry.api.http.exchange import EXCHANGE
from registry.api.http.fields import first_lines
from registry.oci.errors import BlobUploadInvalid, SizeInvalid
from registry.storage.driver import CHUNK_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from starlette.requests import Request

    from registry.api.http.exchange import Exchange

STRAY = 64 << 10
"""Bytes of an unexpected body that are read and dropped."""

LEAST = 64 << 10
"""Bytes of a chunk where many bodies are received at the same time."""
PATIENCE = 0.5
"""How long a chunk may take, in seconds, before what came of it is written."""


class Receivers:
    """How many bodies are received at this moment: the more, the less of each is in memory."""

    def __init__(self, total: int) -> None:
        """``total`` bytes of all bodies, unless there are so many that each has LEAST."""
        self._total = total
        self._count = 0

    @contextlib.contextmanager
    def one_more(self) -> Iterator[None]:
        """A body is received during the block."""
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1

    def chunk_size(self) -> int:
        """Bytes that are received before they are written, while as much again is being written."""
        return max(LEAST, min(CHUNK_SIZE, self._total // (2 * max(1, self._count))))


class Body:
    """The body of one request, read in order. Raises Interrupted when it stops before its end."""

    def __init__(self, request: Request, idle_timeout: float) -> None:
        self._receive = request.receive
        self._idle_timeout = idle_timeout
        self._began = 0.0
        self._parts: list[bytes] = []
        self.gathered = 0
        """Bytes that have come and were not taken."""
        self.ended = _is_empty(first_lines(request.scope))
        """Everything was read."""
        if not self.ended and (arrived := _arrived(request)) is not None:
            self._parts, self.gathered, self.ended = [arrived], len(arrived), True

    async def gather(self, size: int, patience: float = math.inf) -> None:
        """Wait for the next bytes: at least ``size`` (and a little more: what came together), or all to the end.

        Fewer where these have not come within ``patience`` seconds after the first of them. See ``take``.
        """
        while self.gathered < size and not self.ended:
            seconds = self._idle_timeout
            if self._parts:
                seconds = min(seconds, self._began + patience - monotonic())
            try:
                async with asyncio.timeout(max(0.0, seconds)):
                    message = await self._receive()
            except TimeoutError as error:
                if seconds < self._idle_timeout:
                    return
                raise Interrupted(timed_out=True) from error
            if message["type"] == "http.disconnect":
                raise Interrupted(timed_out=False)
            self.ended = not message.get("more_body", False)
            if not self._parts:
                self._began = monotonic()
            self._parts.append(message.get("body", b""))
            self.gathered += len(self._parts[-1])

    def take(self) -> bytes:
        """What has come and was not taken yet; nothing holds it any more when its receiver lets go."""
        taken = b"".join(self._parts)
        self._parts, self.gathered = [], 0
        return taken

    async def drop(self, most: int) -> None:
        """Read at most so many bytes that are not wanted, so that a client that sends first sees the answer."""
        dropped = len(self.take())
        while dropped < most and not self.ended:
            await self.gather(1)
            dropped += len(self.take())

    async def expect_none(self) -> None:
        """Wait for the end of a request that needs no body, so that nothing is begun for a client that is gone.

        Raises SizeInvalid when there is a body after all, of more than STRAY bytes.
        """
        await self.gather(STRAY)
        if self.gathered >= STRAY and not self.ended:
            raise SizeInvalid("this request takes no body; send the bytes to the Location of its answer")


class Interrupted(ClientDisconnect):
    """The body stopped in the middle; what had come can still be taken."""

    def __init__(self, *, timed_out: bool) -> None:
        super().__init__()
        self.timed_out = timed_out
        """The client may still be there, but sends nothing."""


def _is_empty(lines: Mapping[bytes, bytes]) -> bool:
    """Whether a request has no body, as its head says."""
    return lines.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in lines


def _arrived(request: Request) -> bytes | None:
    """The body, if all of it is here already."""
    exchange: Exchange | None = request.scope.get(EXCHANGE)
    return None if exchange is None else exchange.take_arrived()


def declared_length(request: Request) -> int | None:
    """The Content-Length, or None for a chunked body. Raises BlobUploadInvalid when it is no number."""
    value = first_lines(request.scope).get(b"content-length")
    if value is None:
        return None
    if not value.isdigit():
        raise BlobUploadInvalid("Content-Length is not a number")
    return int(value)
