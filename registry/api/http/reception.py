"""Reception: what one long body is written to, chunk by chunk, with memory that is lent to its upload.

Tests: ``tests/server/test_bodies.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import TYPE_CHECKING

from registry.api.context import ended
from registry.api.http.request_body import PATIENCE, Interrupted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from registry.api.context import ApiContext
    from registry.api.http.request_body import Body
    from registry.api.http.upload_memory import Share
    from registry.images.uploads.blob_writer import BlobWriter


class Reception:
    """One request's right to add to an upload. For the event loop's thread."""

    def __init__(self, context: ApiContext, writer: BlobWriter) -> None:
        """Use ``open``."""
        self._context = context
        self.writer = writer
        self.share: Share
        """The memory that its store needs for it."""
        self._writing: asyncio.Future[None] | None = None
        self._using = asyncio.Lock()
        """For the writer, which is for one thread at a time."""

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, context: ApiContext, opening: asyncio.Future[BlobWriter]) -> AsyncIterator[Reception]:
        """For a block that receives into what is being opened, and closes it."""
        reception = cls(context, await ended(opening))
        try:
            with context.upload_memory.share(reception._spill) as reception.share:
                yield reception
        finally:
            await ended(context.end(reception.writer.close))

    def write(self, data: bytes) -> None:
        """Begin to hash and store a chunk; the one before is written. See ``written``."""
        self._writing = asyncio.ensure_future(self._write(data))

    async def written(self) -> None:
        """Wait until the last chunk is. Raises StorageError, RegistryError where it cannot be; once."""
        writing, self._writing = self._writing, None
        if writing is not None:
            await ended(writing)

    async def _write(self, data: bytes) -> None:
        """Hash and store side by side: neither waits for the other within a chunk."""
        context, writer = self._context, self.writer
        async with self.turn():
            both = context.transfer(writer.update_hash, data), context.transfer(writer.write_only, data)
            await asyncio.wait(both)
            for one in both:
                one.result()
        self.share.received(len(data))

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """For a block that adds to the upload, with the memory that it needs for that."""
        async with self.share.part(lambda: self.writer.held), self._using:
            yield

    async def _spill(self) -> int:
        """Bring what is in memory to the store. Returns the bytes that still are."""
        async with self._using:
            await ended(self._context.transfer(self.writer.spill))
        return self.writer.held


async def receive_into(context: ApiContext, body: Body, reception: Reception, most: float = math.inf) -> None:
    """Write what was gathered, and the rest of the body, to an upload: one chunk is stored while the next arrives.

    Holds at most two chunks, and none while a slow client is waited for. Stops behind ``most`` bytes. Raises
    Interrupted when the body stops early; what came is kept.
    """
    received = body.gathered
    reception.write(body.take())
    try:
        while not body.ended and received <= most:
            await reception.share.wait(lambda: body.gather(context.receivers.chunk_size(), PATIENCE))
            received += body.gathered
            await reception.written()
            reception.write(body.take())
    except (Interrupted, asyncio.CancelledError):  # the latter at the end of a drain
        await reception.written()
        reception.write(body.take())
        raise
    finally:
        await reception.written()
