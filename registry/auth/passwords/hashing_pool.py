"""*Hashing pool*: threads that verify passwords and do nothing else, so that a flood of logins slows only logins."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

from registry.oci.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

THREADS: Final = 2
WAITING: Final = 64
"""Verifications that wait for a thread; beyond, a login is answered 503 at once."""
NICENESS: Final = 10
"""What the threads yield to the event loop, which answers requests that need no hash."""


class HashingPool:
    """For one event loop."""

    def __init__(self, threads: int = THREADS, waiting: int = WAITING) -> None:
        self._room = threading.BoundedSemaphore(threads + waiting)
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="password", initializer=_yield_to_the_rest)

    async def run(self, work: Callable[[], T]) -> T:
        """What ``work`` returns or raises, from a thread. Raises Unavailable if too many wait."""
        if not self._room.acquire(blocking=False):
            raise Unavailable("too many passwords wait to be checked; try again", headers={"Retry-After": "1"})
        try:
            future = self._executor.submit(work)
        except BaseException:  # it is closed
            self._room.release()
            raise
        future.add_done_callback(lambda _: self._room.release())
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Give up what waits; what has begun ends by itself."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def _yield_to_the_rest() -> None:
    if sys.platform == "linux":  # where each thread has a niceness of its own
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
