"""Turns for work whose memory grows with its input: as many at a time as there is room for, in their order.

Tests: ``tests/server/test_slow_uploads.py``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class ByteTurns:
    """For the event loop's thread alone. A turn is held while the core works, never while a client is waited for."""

    def __init__(self, total: int) -> None:
        """``total`` bytes of input at a time, or one input that is larger."""
        self._total = total
        self._taken = 0
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def of(self, size: int) -> AsyncIterator[None]:
        """For a block that works on ``size`` bytes."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((size, turn))
        self._give()
        try:
            await turn
            yield
        finally:
            if turn.done() and not turn.cancelled():
                self._taken -= size
            self._give()

    def _give(self) -> None:
        while self._queue:
            size, turn = self._queue[0]
            if not turn.cancelled():
                if self._taken and self._taken + size > self._total:
                    return
                self._taken += size
                turn.set_result(None)
            self._queue.popleft()
