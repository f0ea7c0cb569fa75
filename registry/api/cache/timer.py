"""Timer: one that is set far more often than it rings."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class RestartableTimer:
    """Calls ``ring`` so many seconds after it was last set, unless it was stopped. For the event loop's thread alone.

    Setting and stopping it is noting a time: the loop's own timer, which costs more than all the rest of an answer from
    memory, is left as it is, and looks when it rings whether that is the time.
    """

    __slots__ = ("_handle", "_ring", "_seconds", "_since")

    def __init__(self, seconds: float, ring: Callable[[], object]) -> None:
        self._seconds = seconds
        self._ring = ring
        self._since: float | None = None
        """The time when it was set; None if it is stopped."""
        self._handle: asyncio.TimerHandle | None = None

    def set(self) -> None:
        """Ring in so many seconds from now, and not before."""
        self._since = monotonic()
        if self._handle is None:
            self._handle = asyncio.get_running_loop().call_later(self._seconds, self._look)

    def stop(self) -> None:
        """Do not ring before it is set again."""
        self._since = None

    def close(self) -> None:
        """As ``stop``, and leave nothing with the loop."""
        self._since = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _look(self) -> None:
        self._handle = None
        if self._since is None:
            return
        left = self._since + self._seconds - monotonic()
        if left > 0:
            self._handle = asyncio.get_running_loop().call_later(left, self._look)
        else:
            self._since = None
            self._ring()
