"""*Ring*: the last bytes that have come of a fetch, in memory, for clients that keep up.

Tests: ``tests/images/fetching/test_fetch.py``.
"""

from __future__ import annotations

from collections import deque

PIECE = 64 << 10
"""Bytes that pieces are put together to, at most: each byte that an upstream sends alone would take up forty."""


class Ring:
    """Bytes from ``begin`` to ``end``, at most so many. Not for two threads at once."""

    def __init__(self, begin: int, most: int) -> None:
        self._pieces: deque[bytes | bytearray] = deque()
        self._most = most
        self._piece = min(PIECE, most // 8)
        self.begin = begin
        """The first byte that is here."""
        self.end = begin
        """Behind the last one."""

    def append(self, data: bytes) -> None:
        """Add bytes at the end; the oldest pieces go where there are too many."""
        last = self._pieces[-1] if self._pieces else b""
        if len(data) >= self._piece:
            self._pieces.append(data)
        elif isinstance(last, bytearray) and len(last) + len(data) <= self._piece:
            last += data
        else:
            self._pieces.append(bytearray(data))
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
                if isinstance(piece, bytes) and not offset and len(piece) <= size:
                    return piece
                return bytes(memoryview(piece)[offset : offset + size])
            begin += len(piece)
        raise IndexError(position)
