"""*Line writer*: whole lines to a file descriptor that other processes may write to as well."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from functools import partial
from io import FileIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PIPE_ATOMIC = 4096
"""Bytes that one write to a pipe moves without those of another process in between (PIPE_BUF of Linux)."""


class LineWriter:
    """Writes whole lines without raising: a log that cannot be written must not stop the registry.

    To a pipe or a terminal, which several workers may share, lines go in pieces that the kernel does not interleave.
    Safe for threads: between calls it keeps only whether a full disk has cut a line, which ends before the next one.
    """

    __slots__ = ("_is_cut", "_own", "_piecewise", "_write")

    def __init__(self, descriptor: int) -> None:
        self._piecewise = not stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._is_cut = False
        self._own: socket.socket | FileIO | None = None
        self._write: Callable[[memoryview], int] = partial(os.write, descriptor)

    @classmethod
    def without_waiting(cls, descriptor: int) -> LineWriter | None:
        """A writer of what is taken at once; None if ``descriptor`` cannot be written that way.

        It uses a description of its own, until ``close``: the one of ``descriptor`` is shared with other processes, for
        which a write has to wait. A regular file takes everything.
        """
        writer = cls(descriptor)
        mode = os.fstat(descriptor).st_mode
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(mode):
                writer._own = connection = socket.socket(fileno=os.dup(descriptor))
                writer._write = lambda data: connection.send(data, socket.MSG_DONTWAIT)
            elif not stat.S_ISREG(mode):
                flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
                writer._own = FileIO(os.open(f"/proc/self/fd/{descriptor}", flags), "wb")
                writer._write = partial(os.write, writer._own.fileno())
            return writer
        return None

    def close(self) -> None:
        """Free what ``without_waiting`` has opened."""
        if self._own is not None:
            self._own.close()

    def __call__(self, data: bytes) -> tuple[bytes, int]:
        """Write ``data``, which ends with a newline.

        Returns what is left to be written by a writer that waits, and how many lines could not be written, and are
        dropped.
        """
        is_cut, written = self._is_cut, 0
        lines = b"\n" + data if is_cut else data
        try:
            for piece in _pieces(lines) if self._piecewise else (lines,):
                rest = memoryview(piece)
                while rest:
                    count = self._write(rest)
                    rest, written = rest[count:], written + count
        except BlockingIOError:
            self._is_cut = False
            return lines[written:], 0
        except OSError:
            self._is_cut = not lines.endswith(b"\n", 0, written) if written else is_cut
            return b"", lines.count(b"\n", max(written, is_cut))
        self._is_cut = False
        return b"", 0


def _pieces(data: bytes) -> Iterator[bytes]:
    """Whole lines, as many at once as fit into an atomic write; a longer line alone."""
    start = 0
    while start < len(data):
        end = data.rfind(b"\n", start, start + _PIPE_ATOMIC) + 1 or data.find(b"\n", start) + 1 or len(data)
        yield data[start:end]
        start = end
