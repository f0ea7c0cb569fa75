"""*Waiting for a fetch*: a coroutine waits for bytes that are on their way, and holds no thread."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.images.fetching.reader import FetchReader
    from registry.images.fetching.watch import Watch


async def until_head(reader: FetchReader, seconds: float | None = None) -> None:
    """Return when the reader's ``head`` gives an answer or an error. Raises TimeoutError after so many seconds."""
    await _until(reader.watch_head, seconds)


async def until_bytes(reader: FetchReader, seconds: float | None = None) -> None:
    """Return when the reader may have bytes, the end or an error. Raises TimeoutError after so many seconds."""
    await _until(reader.watch, seconds)


async def _until(watch: Callable[[Callable[[], object]], Watch | None], seconds: float | None) -> None:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(_resolve, future)

    waiting = watch(wake)
    if waiting is None:
        return
    try:
        await asyncio.wait_for(future, seconds)
    finally:
        waiting.cancel()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
