"""HTTP/1.1 as a proxy sees it: the head of a message, kept byte for byte, and where its body ends (RFC 9112)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

CHUNK = 1 << 18
"""Bytes that are passed on at once."""
UNTIL_CLOSE = -1
CHUNKED = -2
_END = b"\r\n\r\n"


class BrokenMessage(ConnectionError):
    """The other side closed the connection in the middle of a message, or sent what is no HTTP."""


@dataclass(frozen=True)
class Head:
    """The first line and the fields of a message, in the order and the spelling they came in."""

    first: bytes
    fields: Sequence[tuple[bytes, bytes]]

    def __bytes__(self) -> bytes:
        """The head as it goes over the wire."""
        return b"\r\n".join([self.first, *(name + b": " + value for name, value in self.fields)]) + _END

    def get(self, name: str) -> str | None:
        """Return the value of the first field of that name, in whatever case it was sent."""
        return self.headers().get(name.lower())

    def headers(self) -> dict[str, str]:
        """Return all fields, names in lower case; of several with one name the first."""
        found: dict[str, str] = {}
        for name, value in self.fields:
            found.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
        return found

    def having(self, name: bytes, value: bytes) -> Head:
        """The same head with one field in the place of all of that name."""
        kept = [field for field in self.fields if field[0].lower() != name.lower()]
        return Head(self.first, [*kept, (name, value)])

    @property
    def method(self) -> str:
        """The method of a request."""
        return self.first.split(b" ")[0].decode("latin-1")

    @property
    def target(self) -> str:
        """The target of a request: path and query as they were sent."""
        return self.first.split(b" ")[1].decode("latin-1")

    @property
    def status(self) -> int:
        """The status of a response."""
        return int(self.first.split(b" ")[1])

    @property
    def length(self) -> int:
        """The length of a request's body; ``CHUNKED`` if only its own framing tells."""
        if "chunked" in (self.get("transfer-encoding") or "").lower():
            return CHUNKED
        return int(self.get("content-length") or 0)

    def response_length(self, method: str) -> int:
        """The length of the body of a response to ``method``; ``CHUNKED`` or ``UNTIL_CLOSE`` if it is unknown."""
        if method == "HEAD" or self.status in {204, 304} or self.status < 200:
            return 0
        if "chunked" in (self.get("transfer-encoding") or "").lower():
            return CHUNKED
        given = self.get("content-length")
        return UNTIL_CLOSE if given is None else int(given)

    @property
    def keeps(self) -> bool:
        """Whether the connection stays open after this message."""
        said = (self.get("connection") or "").lower()
        return "close" not in said and (b"HTTP/1.1" in self.first or "keep-alive" in said)


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """Return the next head, or None where the connection ended between messages."""
    try:
        block = await reader.readuntil(_END)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise BrokenMessage("the connection ended within a head") from None
        return None
    except asyncio.LimitOverrunError as error:
        raise BrokenMessage(str(error)) from None
    first, *lines = block[: -len(_END)].split(b"\r\n")
    fields = []
    for line in lines:
        name, _, value = line.partition(b":")
        fields.append((name, value.strip()))
    return Head(first, fields)


async def pieces(reader: asyncio.StreamReader, length: int) -> AsyncIterator[bytes]:
    """Yield a body as it goes over the wire, the framing of chunks included."""
    if length == CHUNKED:
        while True:
            line = await _line(reader)
            yield line
            size = int(line.split(b";")[0], 16)
            if size == 0:
                break
            async for piece in _exactly(reader, size + 2):
                yield piece
        while True:  # trailers, and the empty line after them
            line = await _line(reader)
            yield line
            if line == b"\r\n":
                return
    elif length == UNTIL_CLOSE:
        while piece := await reader.read(CHUNK):
            yield piece
    else:
        async for piece in _exactly(reader, length):
            yield piece


async def _line(reader: asyncio.StreamReader) -> bytes:
    line = await reader.readline()
    if not line.endswith(b"\r\n"):
        raise BrokenMessage("the connection ended within a chunked body")
    return line


async def _exactly(reader: asyncio.StreamReader, length: int) -> AsyncIterator[bytes]:
    left = length
    while left:
        piece = await reader.read(min(left, CHUNK))
        if not piece:
            raise BrokenMessage(f"the connection ended {left} bytes before the end of a body")
        left -= len(piece)
        yield piece
