"""File sender: part of a response's body from a file or a reader, by a thread that writes to the socket itself.

``sendfile`` was measured too: it passes on 64 KiB at a time, each of which wakes the client, and is slower for it.

Tests: ``tests/server/test_downloads.py``, ``tests/server/test_slow_downloads.py``.
"""

from __future__ import annotations

import asyncio
import os
import select
from time import monotonic
from typing import TYPE_CHECKING

from registry.server.direct_io.readiness import writable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

STEP = 1 << 20
"""Bytes that are read and written at once."""
LEAST = 64 << 10
"""The same for a client that has just begun to read, or reads slowly, where what it does not take is held."""
LINGER_MS = 2
"""How long a thread waits for room before it gives up its place: a fast client is about to make some."""
SLICE_SECONDS = 0.25
"""Seconds that a response keeps its thread while other responses wait for one."""


class FileSender:
    """Sends part of the body of one response, once. Make it before the response is started, and use it after.

    Raises OSError when it is made where the process is out of descriptors.
    """

    def __init__(self, transport: asyncio.Transport, cycle: RequestResponseCycle) -> None:
        self._transport = transport
        self._cycle = cycle
        self._socket: int | None = None
        if not transport.is_closing():
            # The loop watches its own for the transport.
            self._socket = os.dup(transport.get_extra_info("socket").fileno())

    def close(self) -> None:
        """Free what it holds, used or not."""
        if self._socket is not None:
            os.close(self._socket)
            self._socket = None

    async def send(self, run: Callable[..., Awaitable[_Step]], descriptor: int, offset: int, length: int) -> int:
        """Send ``length`` bytes from ``offset``. Returns how many went: fewer when the client is gone or the file ends.

        ``run`` calls a function in a thread, since a file that is not in memory takes time.
        """
        return await self._send(
            run, lambda socket, sent: _send_for_a_while(socket, descriptor, offset + sent, length - sent), length
        )

    async def pass_on(
        self, run: Callable[..., Awaitable[_Step]], read: Callable[[memoryview], int], length: int
    ) -> int:
        """As ``send``, of bytes that ``read`` puts into a buffer in their order; what it raises ends it."""
        stream = _Stream(read, length)
        return await self._send(run, lambda socket, _: _pass_on_for_a_while(socket, stream), length)

    async def _send(self, run: Callable[..., Awaitable[_Step]], turn: Callable[[int, int], _Step], length: int) -> int:
        """``turn`` sends for a while, in a thread, given the socket and how many bytes have gone."""
        socket, self._socket = self._socket, None
        if socket is None or self._transport.is_closing():
            self._cycle.disconnected = True
            if socket is not None:
                os.close(socket)
            return 0
        sent = 0
        try:
            await self._flush(socket)
            while sent < length and not self._transport.is_closing():
                step = await run(turn, socket, sent)
                sent += step.sent
                if step.is_gone:  # the loop would find out a moment later, and call it our fault until then
                    self._cycle.disconnected = True
                    self._transport.abort()
                elif step.is_end:
                    break
                elif step.is_full:
                    await writable(socket)
        finally:
            os.close(socket)
        self._cycle.expected_content_length -= sent
        return sent

    async def _flush(self, socket: int) -> None:
        """Let the head of the response leave first."""
        await asyncio.sleep(0)
        while self._transport.get_write_buffer_size() and not self._transport.is_closing():
            await writable(socket)
            await asyncio.sleep(0)


class _Step:
    """What one turn in a thread did."""

    sent = 0
    is_full = False
    """The client has no room now."""
    is_end = False
    """The file has ended."""
    is_gone = False
    """The client has."""


class _Stream:
    """What is still to be passed on."""

    def __init__(self, read: Callable[[memoryview], int], length: int) -> None:
        self._read = read
        self._left = length
        self._step = LEAST
        self.rest = memoryview(b"")
        """Read, and not taken by the client yet: little, where it was slow before."""

    def fill(self, buffer: memoryview) -> bool:
        """Have a rest, in the buffer unless there is one. False if there is no more."""
        if not self.rest:
            count = self._read(buffer[: self._left]) if self._left else 0
            self.rest = buffer[:count]
            self._left -= count
        return bool(self.rest)

    def buffer(self) -> memoryview:
        """One for the next bytes. None is held while nothing is on its way."""
        return memoryview(bytearray(min(self._step, self._left)))

    def note(self, *, is_full: bool) -> None:
        """Whether the client had no room for all of a turn: then the next ones read little, else twice as much."""
        self._step = LEAST if is_full else min(2 * self._step, STEP)
        if is_full:
            self.rest = memoryview(bytes(self.rest))  # not the whole buffer


def _pass_on_for_a_while(socket: int, stream: _Stream) -> _Step:
    step = _Step()
    until = monotonic() + SLICE_SECONDS
    room = select.poll()
    room.register(socket, select.POLLOUT)
    buffer = stream.buffer()
    while monotonic() < until:
        if not stream.fill(buffer):
            step.is_end = True
            break
        written = _write(socket, stream.rest, room, step)
        step.sent += written
        stream.rest = stream.rest[written:]
        stream.note(is_full=step.is_full)
        if stream.rest:
            break
        if len(buffer) < STEP:
            buffer = stream.buffer()
    return step


def _send_for_a_while(socket: int, descriptor: int, offset: int, length: int) -> _Step:
    step = _Step()
    until = monotonic() + SLICE_SECONDS
    room = select.poll()
    room.register(socket, select.POLLOUT)
    buffer = memoryview(bytearray(min(STEP, length)))
    while step.sent < length and monotonic() < until:
        count = os.preadv(descriptor, [buffer[: length - step.sent]], offset + step.sent)
        step.is_end = not count
        written = _write(socket, buffer[:count], room, step)
        step.sent += written
        if written < len(buffer):
            break
    return step


def _write(socket: int, data: memoryview, room: select.poll, step: _Step) -> int:
    """Write what the client takes; ``step`` is told why that is not all."""
    written = 0
    while written < len(data):
        try:
            written += os.write(socket, data[written:])
        except BlockingIOError:
            if not room.poll(LINGER_MS):
                step.is_full = True
                break
        except OSError:
            step.is_gone = True
            break
    return written
