"""*Ring*: the last bytes that have come of a fetch, in memory, for clients that keep up.

Tests: ``tests/images/fetching/test_fetch.py``.
"""

from __future__ import annotations

from collections import deque


class Ring:
    """Bytes from ``begin`` to ``end``, at most so many. Not for two threads at once."""

    def __init__(self, begin: int, most: int) -> None:
        self._pieces: deque[bytes] = deque()
        self._most = most
        self.begin = begin
        """The first byte that is here."""
        self.end = begin
        """Behind the last one."""

    def append(self, data: bytes) -> None:
        """Add bytes at the end; the oldest pieces go where there are too many."""
        self._pieces.append(data)
        self.end += len(data)
        self.shrink(self._most)

    def shrink(self, most: int) -> None:
        """Have at most so many bytes from now on, or the last piece."""
        self._most = most
        while self.end - self.begin > most and len(self._pieces) > 1:
            self.begin += len(self._pieces.popleft())

    def has(self, position: int) -> bool:
        """Whether the byte at ``position`` is here."""
        return self.begin <= position < self.end

    def read(self, position: int, size: int) -> bytes:
        """Bytes from ``position`` on, which is here: at most ``size``, and perhaps fewer than there are."""
        begin = self.begin
        for piece in self._pieces:
            if position < begin + len(piece):
                offset = position - begin
                return piece if not offset and len(piece) <= size else piece[offset : offset + size]
            begin += len(piece)
        raise IndexError(position)
