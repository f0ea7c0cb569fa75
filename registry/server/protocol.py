"""uvicorn's HTTP protocol, and a way for a file to leave by ``sendfile``: from the page cache to the socket."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from registry.api.sending import SENDFILE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

ROOM = 512 << 10
"""Bytes of a request body that wait for the application before the connection is no longer read."""
STEP = 8 << 20
"""Bytes asked of one ``sendfile``; the kernel takes what the socket's buffer has room for."""


class SendfileProtocol(HttpToolsProtocol):
    """Offers ``FileSender`` to the application of each request on a connection without TLS."""

    def on_headers_complete(self) -> None:
        """See uvicorn: the request's task is made here, and begins to run later."""
        scope = self.scope
        super().on_headers_complete()
        if self.cycle.scope is scope and scope["scheme"] == "http":
            extensions: dict[str, object] = {SENDFILE: FileSender(self.transport, self.cycle)}
            cast("dict[str, object]", scope)["extensions"] = extensions

    def on_body(self, body: bytes) -> None:
        """As uvicorn's, with room for what arrives while a chunk is written: fewer stops of the connection."""
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > ROOM:
            self.flow.pause_reading()
        cycle.message_event.set()

    def eof_received(self) -> bool | None:  # type: ignore[override]  # the interface of asyncio says so
        """A client that has sent a whole request and closed its side still waits for the answer."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.more_body or cycle.response_complete:
            return None
        cycle.keep_alive = False
        return True


class FileSender:
    """Sends part of the body of one response out of a file. Use it after the response was started."""

    def __init__(self, transport: asyncio.Transport, cycle: RequestResponseCycle) -> None:
        self._transport = transport
        self._cycle = cycle

    async def send(self, run: Callable[..., Awaitable[int]], descriptor: int, offset: int, length: int) -> int:
        """Send ``length`` bytes from ``offset``. Returns how many went: fewer when the client is gone or the file ends.

        ``run`` calls a function in a thread, since a file that is not in memory takes time.
        """
        socket = os.dup(self._transport.get_extra_info("socket").fileno())  # the loop watches its own for the transport
        sent = 0
        try:
            await self._flush(socket)
            while sent < length and not self._transport.is_closing():
                try:
                    step = await run(os.sendfile, socket, descriptor, offset + sent, min(STEP, length - sent))
                except BlockingIOError:
                    await _writable(socket)
                    continue
                except ConnectionError:  # the loop would find out a moment later, and call it our fault until then
                    self._cycle.disconnected = True
                    self._transport.abort()
                    break
                if step == 0:
                    break
                sent += step
        finally:
            os.close(socket)
        self._cycle.expected_content_length -= sent
        return sent

    async def _flush(self, socket: int) -> None:
        """Let the head of the response leave first."""
        await asyncio.sleep(0)
        while self._transport.get_write_buffer_size() and not self._transport.is_closing():
            await _writable(socket)
            await asyncio.sleep(0)


async def _writable(socket: int) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(socket, _set, ready)
    try:
        await ready
    finally:
        loop.remove_writer(socket)


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
