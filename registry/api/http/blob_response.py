"""Sending blobs: chunk by chunk, the next one being read while the last one leaves (I9)."""

from __future__ import annotations

import secrets
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from starlette.responses import Response

from registry.oci.ranges import ByteRange
from registry.storage.driver import CHUNK_SIZE, FillingReader
from registry.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.types import Receive, Scope, Send

    from registry.api.context import ApiContext
    from registry.images.blobs import HeldBlob
    from registry.storage.driver import ObjectReader

FILE_SENDER = "registry.file_sender"
"""The extension of a scope that makes a sender of parts of a file (``registry.server.direct_io.file_sender``)."""
LEAST = 64 << 10
"""Bytes of a chunk for a client that has just begun to read, or reads slowly."""
SLOW_SECONDS = 0.1
"""How long a client that keeps up takes for a chunk at most."""
SENT = "registry.sent"
"""The key of a scope with the bytes that left that way, for metrics and the log."""


class FileSender(Protocol):
    """See ``registry.server.direct_io.file_sender``."""

    async def send(self, run: Callable[..., Awaitable[Any]], descriptor: int, offset: int, length: int) -> int:
        """Send bytes of a file. Returns how many went."""

    async def pass_on(self, run: Callable[..., Awaitable[Any]], read: Callable[[memoryview], int], length: int) -> int:
        """Send bytes that ``read`` gives. Returns how many went."""

    def close(self) -> None:
        """Free what it holds."""


class BlobResponse(Response):
    """A blob, or one range of it.

    The object is open before the status is sent: what is gone is a 404, never a cut body.
    """

    def __init__(
        self, context: ApiContext, reader: ObjectReader, part: ByteRange, status: int, headers: dict[str, str]
    ) -> None:
        super().__init__(status_code=status, headers=headers)
        self._context = context
        self._reader = reader
        self._part = part

    @classmethod
    async def open(
        cls, context: ApiContext, blob: HeldBlob, headers: dict[str, str], part: ByteRange | None = None
    ) -> BlobResponse:
        """Raises BlobUnknown."""
        if part is None:
            reader = await context.run(context.registry.blobs.read, blob)
            return cls(context, reader, ByteRange(0, blob.size - 1), 200, headers)
        reader = await context.run(context.registry.blobs.read, blob, offset=part.start, length=part.length)
        ranged = {"Content-Length": str(part.length), "Content-Range": part.content_range(blob.size)}
        return cls(context, reader, part, 206, {**headers, **ranged})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        """Send it: by the server where it offers that and the bytes are in a file, else chunk by chunk."""
        descriptor = self._reader.fileno()
        sender = _sender(scope) if self._part.length else None
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if sender is None:
                await send_object(self._context, self._reader, self._part.length, send, more=False)
                return
            length = self._part.length
            if descriptor is None:
                sent = await sender.pass_on(self._context.transfer, _filling(self._reader), length)
            else:
                sent = await sender.send(self._context.transfer, descriptor, self._part.start, length)
            scope[SENT] = sent
            if sent == length:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            if sender is not None:
                sender.close()
            await self._context.end(self._reader.close)


class MultipartResponse(Response):
    """Several ranges of a blob as multipart/byteranges (RFC 9110, section 14.6)."""

    def __init__(
        self, context: ApiContext, blob: HeldBlob, parts: Sequence[ByteRange], headers: dict[str, str]
    ) -> None:
        boundary = secrets.token_hex(16)
        self._context = context
        self._blob = blob
        self._parts = [(part, self._head(boundary, part)) for part in parts]
        self._end = f"\r\n--{boundary}--\r\n".encode()
        length = sum(len(head) + part.length for part, head in self._parts) + len(self._end)
        multipart = {
            "Content-Type": f"multipart/byteranges; boundary={boundary}",
            "Content-Length": str(length),
        }
        super().__init__(status_code=206, headers={**headers, **multipart})

    @classmethod
    async def open(
        cls, context: ApiContext, blob: HeldBlob, headers: dict[str, str], parts: Sequence[ByteRange]
    ) -> MultipartResponse:
        """Raises BlobUnknown."""
        reader = await context.run(context.registry.blobs.read, blob, length=0)
        reader.close()
        return cls(context, blob, parts, headers)

    def _head(self, boundary: str, part: ByteRange) -> bytes:
        content_range = part.content_range(self._blob.size)
        return (
            f"\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: {content_range}\r\n\r\n"
        ).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        """Send the parts, each with its own head."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for part, head in self._parts:
            await send({"type": "http.response.body", "body": head, "more_body": True})
            reader = await self._context.run(
                self._context.registry.blobs.read, self._blob, offset=part.start, length=part.length
            )
            try:
                await send_object(self._context, reader, part.length, send, more=True)
            finally:
                await self._context.end(reader.close)
        await send({"type": "http.response.body", "body": self._end, "more_body": False})


def _sender(scope: Scope) -> FileSender | None:
    """What sends a part of the body, if the server offers it and has a descriptor for it."""
    offered: Callable[[], FileSender] | None = scope.get("extensions", {}).get(FILE_SENDER)
    try:
        return None if offered is None else offered()
    except OSError:
        return None


def _filling(reader: ObjectReader) -> Callable[[memoryview], int]:
    """What puts the next bytes of a reader into a buffer."""
    if isinstance(reader, FillingReader):
        return reader.read_into

    def fill(buffer: memoryview) -> int:
        data = reader.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    return fill


class _Pace:
    """How much of an object is in memory for one client: the more, the longer it keeps up."""

    def __init__(self) -> None:
        self.size = LEAST
        """Bytes that are read at once."""

    @property
    def is_full(self) -> bool:
        """Whether the next chunk is read while one is sent."""
        return self.size == CHUNK_SIZE

    def note(self, seconds: float) -> None:
        """So long the client took for a chunk."""
        self.size = LEAST if seconds > SLOW_SECONDS else min(2 * self.size, CHUNK_SIZE)


async def send_object(context: ApiContext, reader: ObjectReader, length: int, send: Send, *, more: bool) -> None:
    """Send exactly ``length`` bytes.

    Raises StorageError in mid-body when there are fewer: the server then cuts the connection.
    """
    pace = _Pace()
    following: Awaitable[bytes] | None = None
    while length:
        chunk = await (following or context.transfer(reader.read, min(pace.size, length)))
        if not chunk:
            raise StorageError(reason="the object ended early")
        length -= len(chunk)
        ahead = length > 0 and pace.is_full
        following = context.transfer(reader.read, min(pace.size, length)) if ahead else None
        began = monotonic()
        await send({"type": "http.response.body", "body": chunk, "more_body": more or length > 0})
        pace.note(monotonic() - began)
    if not more and not reader.stat.size:
        await send({"type": "http.response.body", "body": b"", "more_body": False})
