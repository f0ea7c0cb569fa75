"""The memory of parts on their way to an object store, used again and again."""

from __future__ import annotations

import ctypes
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from registry.waiting import waiting

if TYPE_CHECKING:
    from collections.abc import Generator

_M_MMAP_THRESHOLD = -3
"""Of glibc's mallopt."""
MAPPED_BYTES = 512 << 10
"""From here on memory is taken from the system and given back to it, one allocation at a time."""


class PartBuffers:
    """Buffers of one size. Any thread.

    Which uploads have a first buffer is decided before (``capabilities.part_bytes``, ``UploadWriter.held``). A second
    one, to fill while the first is sent, is there for a few uploads only: the others send first and fill then.
    """

    def __init__(self, size: int, spare: int) -> None:
        """``size`` of each in bytes; ``spare`` uploads may have a second one."""
        _map_large_allocations()
        self.size = size
        self._spare = threading.BoundedSemaphore(spare) if spare else None
        self._gathering = threading.BoundedSemaphore(max(1, spare))
        self._free: list[bytearray] = []
        self._kept = 2 * spare + 2

    def take(self) -> bytearray:
        """A buffer, with anything in it."""
        try:
            return self._free.pop()
        except IndexError:
            return bytearray(self.size)

    def give(self, buffer: bytearray) -> None:
        """Take one back."""
        if len(self._free) < self._kept:
            self._free.append(buffer)

    @contextmanager
    def gathering(self) -> Generator[None]:
        """The right to read a part back that was spilled, and to send it: there is no more memory for that at a time.

        Held over requests to the store alone.
        """
        with waiting:
            self._gathering.acquire()
        try:
            yield
        finally:
            self._gathering.release()

    def take_spare(self) -> bool:
        """The right to a second buffer, if one is left now."""
        return self._spare is not None and self._spare.acquire(blocking=False)

    def give_spare(self) -> None:
        """Give that right back."""
        if self._spare is not None:
            self._spare.release()


def _map_large_allocations() -> None:
    """Keep glibc from putting buffers among small things, as it does once it has seen a large one freed.

    There they leave holes that nothing of their size fits into: with eight uploads the process was twice as large.
    """
    with suppress(OSError, AttributeError):  # another library than glibc
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, MAPPED_BYTES)
