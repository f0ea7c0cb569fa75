"""*Growing response*: a blob that is on its way from an upstream, sent as it comes.

The head tells the size; the last byte leaves when the digest was right: a reader gives it no earlier.
Where the fetch fails the connection is cut, so that no client takes what it has for the whole.

Tests: ``tests/api/mirroring/test_mirror_edge.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import structlog
from starlette.responses import Response

from registry.api.http.exchange import RESET, AnswerCut
from registry.api.mirroring.waiting import until_bytes
from registry.images.fetching.content import FetchFailed
from registry.oci.errors import RegistryError
from registry.storage.driver import CHUNK_SIZE
from registry.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Receive, Scope, Send

    from registry.api.context import ApiContext
    from registry.images.fetching.reader import FetchReader
    from registry.oci.ranges import ByteRange

LEAST: Final = 64 << 10
"""Bytes that are read at once for a client before it has taken any; doubled with each chunk, up to CHUNK_SIZE."""
LOOK: Final = 1.0
"""Seconds between two looks whether a client is there that has nothing to read."""

log = structlog.get_logger(__name__)


class GrowingResponse(Response):
    """A blob, or one range of it. It owns the reader."""

    def __init__(
        self, context: ApiContext, reader: FetchReader, part: ByteRange, status: int, headers: dict[str, str]
    ) -> None:
        """``reader`` gives the bytes of ``part``, of which it was told."""
        super().__init__(status_code=status, headers=headers)
        self._context = context
        self._reader = reader
        self._part = part
        self._is_reset: Callable[[], bool] = lambda: False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, while the client is there."""
        gone = asyncio.ensure_future(_until_gone(receive))
        self._is_reset = scope.get("extensions", {}).get(RESET, self._is_reset)
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await self._send(send, gone)
        except (FetchFailed, StorageError, RegistryError) as error:
            fetch = self._reader.fetch
            log.warning(
                "a client of a fetch was cut",
                mirror=fetch.mirror,
                digest=str(fetch.digest),
                path=scope["path"],
                reason=str(error),
            )
            raise AnswerCut from error
        finally:
            gone.cancel()
            await self._context.end(self._reader.close)

    async def _send(self, send: Send, gone: asyncio.Future[None]) -> None:
        left, size = self._part.length, LEAST
        if not left:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        while left and not gone.done():
            chunk = await self._context.transfer(self._reader.read, min(size, left))
            if chunk:
                left -= len(chunk)
                size = min(2 * size, CHUNK_SIZE)
                await send({"type": "http.response.body", "body": chunk, "more_body": left > 0})
            elif not await self._has_bytes(gone):
                raise AnswerCut

    async def _has_bytes(self, gone: asyncio.Future[None]) -> bool:
        """True when there is something to read or the server has seen the client leave; False if it has left unseen."""
        coming = asyncio.ensure_future(until_bytes(self._reader))
        try:
            while not self._is_reset():
                if (await asyncio.wait((coming, gone), timeout=LOOK, return_when=asyncio.FIRST_COMPLETED))[0]:
                    return True
            return False
        finally:
            coming.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await coming


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
