"""Socket body: the rest of a request's body, read from the socket past the loop, the parser and their copies.

Tests: ``tests/server/test_large_bodies.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket as sockets
from typing import TYPE_CHECKING, Protocol

from registry.server.direct_io import readiness

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from registry.server.pipeline_flow import PipelineFlow

LINGER_MS = 2
"""How long a thread waits for more before it gives up its place: on a fast network the next bytes are about to come."""


class Connection(Protocol):
    """What the protocol of a connection has to do with it."""

    transport: asyncio.Transport
    flow: PipelineFlow
    cycle: RequestResponseCycle
    """The cycle of the request that was parsed last."""
    parsed: int
    """Bytes of the body of that request that the parser has seen."""

    def skip_body(self, left: int) -> None:
        """Read on behind a body of which ``left`` bytes were not read, and are dropped."""


class SocketBody:
    """Takes over the reading of one connection from ``begin`` to ``end``, for a body of known length.

    ``begin``, ``readable`` and ``end`` are for the loop's thread, ``read_into`` for any one thread at a time.
    """

    def __init__(self, connection: Connection, cycle: RequestResponseCycle) -> None:
        self._connection = connection
        self._cycle = cycle
        self._socket: sockets.socket | None = None
        self._is_gone = False
        self._least = 1
        self.left = 0
        """Bytes of the body that are still to be read."""

    def begin(self) -> bytes | None:
        """The bytes that have arrived, also from a client that is gone. None if nothing was taken over, nor can be.

        The body's length is not known, or the parser has seen the end of the body, and perhaps the beginning of the
        next request, or not all that has been read, or the process is out of descriptors.
        """
        connection, cycle, length = self._connection, self._cycle, _length(self._cycle)
        is_gone = cycle.disconnected or connection.transport.is_closing()
        is_ended = not cycle.more_body or connection.cycle is not cycle
        if is_ended or length is None or length <= connection.parsed or connection.flow.held:
            return None
        if not is_gone:
            try:
                descriptor = os.dup(connection.transport.get_extra_info("socket").fileno())
            except OSError:
                return None
        arrived = bytes(cycle.body)
        cycle.body = bytearray()
        self.left = length - connection.parsed
        if is_gone:
            return arrived
        connection.flow.pause_reading()
        self._socket = sockets.socket(fileno=descriptor)
        self._socket.settimeout(0)
        return arrived

    def read_into(self, buffer: memoryview) -> int:
        """Read what is there, at most the length of the buffer; 0: the client is gone.

        Raises BlockingIOError when there is nothing, also after LINGER_MS.
        """
        if self._socket is None:
            return 0
        wanted = buffer[: self.left]
        try:
            try:
                count = self._socket.recv_into(wanted)
            except BlockingIOError:
                poll = select.poll()
                poll.register(self._socket, select.POLLIN)
                poll.poll(LINGER_MS)
                count = self._socket.recv_into(wanted)
        except BlockingIOError:
            raise
        except OSError:
            count = 0
        self._is_gone = not count
        self.left -= count
        return count

    async def readable(self, enough: int, seconds: float) -> bool:
        """Wait until there are ``enough`` bytes to read, or all that are left, or the client is gone.

        False if there was none of this for so long. Elsewhere than on Linux fewer bytes may end the wait, too.
        """
        assert self._socket is not None  # noqa: S101 - between begin and end
        self._set_least(min(enough, self.left))
        try:
            async with asyncio.timeout(seconds):
                await readiness.readable(self._socket.fileno())
        except TimeoutError:
            return False
        return True

    def has_arrived(self) -> bool:
        """Whether there is something to read, or the client is gone."""
        assert self._socket is not None  # noqa: S101 - between begin and end
        self._set_least(1)
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))

    def end(self) -> None:
        """Give the connection back, or cut it where the client is gone. What is left of the body is dropped."""
        if self._socket is None:
            return
        self._set_least(1)
        self._socket.close()
        self._socket = None
        self._cycle.more_body = False
        if self._is_gone:
            self._cycle.disconnected = True
            self._connection.transport.abort()
        else:
            self._connection.skip_body(self.left)

    def _set_least(self, count: int) -> None:
        """Let the socket be readable with so many bytes. An option of the connection, not of our descriptor."""
        if self._socket is None or count == self._least:
            return
        with contextlib.suppress(OSError):  # then it is readable with one byte, as ever
            self._socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVLOWAT, count)
        self._least = count


def _length(cycle: RequestResponseCycle) -> int | None:
    """The Content-Length, where that is what ends the body."""
    headers = dict(cycle.scope["headers"])
    if b"transfer-encoding" in headers:
        return None
    value: bytes | None = headers.get(b"content-length")
    return int(value) if value is not None and value.isdigit() else None
