"""Direct upload: a thread receives a large body from the socket, if the server offers it; each byte is copied once.

Tests: ``tests/server/test_large_bodies.py``.
"""

from __future__ import annotations

from enum import Enum
from itertools import cycle
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from registry.api.context import ended
from registry.api.http.request_body import Interrupted
from registry.storage.driver import CHUNK_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor, Future

    from starlette.types import Scope

    from registry.api.context import ApiContext
    from registry.api.http.reception import Reception
    from registry.api.http.request_body import Body
    from registry.images.uploads.blob_writer import BlobWriter

SOCKET_BODY = "registry.socket_body"
"""The extension of a scope that makes what reads the rest of the body of a request."""
RECEIVED = "registry.received"
"""The key of a scope with the bytes that came that way, for metrics and the log."""
SLICE_SECONDS = 0.25
"""Seconds that an upload keeps its thread and its buffer while other uploads wait for one."""
ENOUGH = 128 << 10
"""Bytes of a slow client that are worth a turn of a thread; the last of a body are too."""
GATHER_SECONDS = 5.0
"""How long they are let come together, in the kernel, before fewer are worth one."""


class SocketBody(Protocol):
    """See ``registry.server.direct_io.socket_body``."""

    left: int
    """Bytes that are still to be read."""

    def begin(self) -> bytes | None:
        """Take the connection over. Returns the bytes that have arrived; None if it is not possible."""

    def read_into(self, buffer: memoryview) -> int:
        """Read what is there; 0: the client is gone. Raises BlockingIOError. In a thread."""

    async def readable(self, enough: int, seconds: float) -> bool:
        """Wait until there are ``enough`` bytes to read, or all that are left, or the client is gone.

        False if there was none of this for so long; fewer bytes may be there, as ``has_arrived`` says.
        """

    def has_arrived(self) -> bool:
        """Whether there is something to read."""

    def end(self) -> None:
        """Give the connection back."""


class _Pause(Enum):
    """Why a thread stopped receiving."""

    DONE = "the body has ended"
    SLICE = "others may have their turn"
    EMPTY = "nothing has arrived"
    GONE = "the client has"


async def receive_from_socket(
    context: ApiContext, scope: Scope, gathered: Body, reception: Reception, idle_timeout: float
) -> bool:
    """Write what was ``gathered`` and the rest of the body to an upload.

    False where the server does not offer it; nothing was done. Raises Interrupted when the body stops early; what came
    is kept.
    """
    offered: Callable[[], SocketBody] | None = scope.get("extensions", {}).get(SOCKET_BODY)
    if offered is None:
        return False
    body = offered()
    arrived = body.begin()
    if arrived is None:
        return False
    whole = body.left
    scope[RECEIVED] = len(arrived)
    try:
        reception.write(gathered.take() + arrived)
        del arrived  # not held while its client is waited for
        await reception.written()
        while body.left:
            left = body.left
            pause = await _take_turn(context, body, reception)
            reception.share.received(left - body.left)
            if pause is _Pause.GONE:
                raise Interrupted(timed_out=False)
            if pause is _Pause.EMPTY:
                await reception.share.wait(lambda: _wait(body, idle_timeout))
    finally:
        scope[RECEIVED] += whole - body.left
        body.end()
    return True


async def _take_turn(context: ApiContext, body: SocketBody, reception: Reception) -> _Pause:
    """Receive for a while. Alone on the machine an upload gets a second thread; else it would only be in the way."""
    async with reception.turn():
        context.receiving += 1
        try:
            hasher = context.hasher if context.receiving == 1 else None
            return await ended(context.transfer(_pump, body, reception.writer, hasher))
        finally:
            context.receiving -= 1


async def _wait(body: SocketBody, idle_timeout: float) -> None:
    """Wait for more. A slow client's bytes come together in the kernel: a turn costs as much for one as for many."""
    gathering = min(GATHER_SECONDS, idle_timeout)
    for enough, seconds in ((ENOUGH, gathering), (1, idle_timeout - gathering)):
        if await body.readable(enough, seconds) or body.has_arrived():
            return
    raise Interrupted(timed_out=True)


def _pump(body: SocketBody, writer: BlobWriter, hasher: Executor | None) -> _Pause:
    """Hash and store what comes, a chunk at a time. In a thread; with ``hasher`` the next chunk comes meanwhile."""
    buffers = cycle([memoryview(bytearray(CHUNK_SIZE)) for _ in range(2 if hasher else 1)])
    until = monotonic() + SLICE_SECONDS
    pause = _Pause.DONE
    hashing: Future[None] | None = None
    try:
        while body.left and pause is _Pause.DONE:
            buffer = next(buffers)
            filled, pause = _fill(body, buffer)
            chunk = buffer[:filled]
            if hashing is not None:
                hashing.result()
            if hasher is None:
                writer.update_hash(chunk)
            else:
                hashing = hasher.submit(writer.update_hash, chunk)
            writer.write_only(chunk)
            if pause is _Pause.DONE and monotonic() > until:
                pause = _Pause.SLICE
    finally:
        if hashing is not None:
            hashing.result()
    return pause


def _fill(body: SocketBody, buffer: memoryview) -> tuple[int, _Pause]:
    """Read until the buffer is full or nothing comes."""
    filled = 0
    while body.left and filled < len(buffer):
        try:
            count = body.read_into(buffer[filled:])
        except BlockingIOError:
            return filled, _Pause.EMPTY
        if not count:
            return filled, _Pause.GONE
        filled += count
    return filled, _Pause.DONE
