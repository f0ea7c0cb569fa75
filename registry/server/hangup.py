"""*Hangup*: SIGHUP, by which an operator has the rules loaded anew, as a call in the event loop of a process.

From the start of the process until its application listens the signal waits: none is lost, and none ends the process.

Tests: ``tests/server/test_reload.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING

import structlog

from registry.server.reload import NOT_LOADED

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from registry.server.reload import Rules

    Load = Callable[[], Rules | None]
    """Finds the rules that are to be in use from now on, None if these have not changed. It may block."""

log = structlog.get_logger(__name__)


def hold() -> None:
    """Have SIGHUP wait, in this process and in those that it forks, until ``listen``. For the main thread."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


def listen(load: Load, take: Callable[[Rules], object]) -> None:
    """With each SIGHUP ``load`` in a thread, and ``take`` what it found in this event loop, one after another."""
    loop, lock, loading = asyncio.get_running_loop(), asyncio.Lock(), set[asyncio.Task[None]]()

    async def reload() -> None:
        async with lock:
            try:
                rules = await asyncio.to_thread(load)
                if rules is not None:
                    take(rules)
            except Exception:
                log.exception(NOT_LOADED)

    def begin() -> None:
        task = loop.create_task(reload())
        loading.add(task)
        task.add_done_callback(loading.discard)

    def handle(_number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
            loop.call_soon_threadsafe(begin)

    signal.signal(signal.SIGHUP, handle)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
