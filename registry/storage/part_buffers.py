"""The memory of parts on their way to an object store, used again and again."""

from __future__ import annotations

import threading


class PartBuffers:
    """Buffers of one size. Any thread.

    Who may have a first buffer is decided before, by who admits uploads (``capabilities.part_bytes``). A second one, to
    fill while the first is sent, is there for a few uploads only: the others send first and fill then.
    """

    def __init__(self, size: int, spare: int) -> None:
        """``size`` of each in bytes; ``spare`` uploads may have a second one."""
        self.size = size
        self._spare = threading.BoundedSemaphore(spare) if spare else None
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

    def take_spare(self) -> bool:
        """The right to a second buffer, if one is left now."""
        return self._spare is not None and self._spare.acquire(blocking=False)

    def give_spare(self) -> None:
        """Give that right back."""
        if self._spare is not None:
            self._spare.release()
