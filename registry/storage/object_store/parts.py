"""Parts: the memory, slices and checksums of what is on its way to an object store.

Tests: ``tests/storage/object_store/test_upload.py``.
"""

from __future__ import annotations

import base64
import ctypes
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import google_crc32c

from registry.storage.driver import CHUNK_SIZE
from registry.waiting import waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

_M_MMAP_THRESHOLD = -3
"""A parameter of glibc's mallopt."""
MAPPED_BYTES = 512 << 10
"""From here on memory is taken from the system and given back to it, one allocation at a time."""


class PartBuffers:
    """Buffers of one size. Any thread.

    Which uploads have a first buffer is decided before (``capabilities.part_bytes``, ``UploadWriter.held``). A second
    one, to fill while the first is sent, is there for a few uploads only: all other uploads send first and fill then.
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


class PartFiller:
    """For one thread at a time."""

    def __init__(self, buffers: PartBuffers) -> None:
        self._buffers = buffers
        self._data = bytearray()
        self._pooled = False
        self.size = 0
        """Bytes that are in it."""

    @property
    def memory(self) -> int:
        """Bytes of memory that it holds, filled or not."""
        return len(self._data)

    def add(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes, for which there is room in a buffer."""
        end = self.size + len(data)
        if not self._pooled and end <= CHUNK_SIZE:
            self._data += data
        else:
            if not self._pooled:
                self._take()
            self._data[self.size : end] = data
        self.size = end

    def put_before(self, size: int) -> memoryview:
        """Room for ``size`` bytes in front of what is in it, for the caller to fill; a buffer has room for all."""
        end = size + self.size
        if not self._pooled and end <= CHUNK_SIZE:
            self._data[:0] = bytes(size)
        else:
            if not self._pooled:
                self._take()
            view = memoryview(self._data)
            view[size:end] = view[: self.size]
        self.size = end
        return memoryview(self._data)[:size]

    def drop_before(self, size: int) -> None:
        """Drop the first ``size`` bytes."""
        with memoryview(self._data) as view:
            view[: self.size - size] = view[size : self.size]
        self.cut(self.size - size)

    def cut(self, size: int) -> None:
        """Drop what lies beyond ``size`` bytes."""
        self.size = size
        if not self._pooled:
            del self._data[size:]

    def view(self) -> memoryview:
        """The bytes, until the next change."""
        return memoryview(self._data)[: self.size]

    def whole(self) -> bytearray:
        """The bytes, until the next change, as a buffer with nothing else in it."""
        self._pooled = False
        del self._data[self.size :]
        return self._data

    def detach(self) -> bytearray:
        """The bytes as a buffer that is the caller's from now on, to give back to the pool or to drop."""
        data, size = self._data, self.size
        self._data, self._pooled, self.size = bytearray(), False, 0
        if size < len(data):
            del data[size:]
        return data

    def clear(self) -> None:
        """Forget the bytes and give the buffer back."""
        if self._pooled:
            self._buffers.give(self._data)
        self._data, self._pooled, self.size = bytearray(), False, 0

    def _take(self) -> None:
        few, self._data = self._data, self._buffers.take()
        self._data[: len(few)] = few
        self._pooled = True


SLICE = 256 << 10
"""Bytes that are handed to a connection at once, within the timeout of a connection."""


def slices(
    pieces: Sequence[bytes | bytearray | memoryview], on_sent: Callable[[], object]
) -> Generator[bytes | memoryview]:
    """What is handed to the connection at once; ``on_sent`` is called behind each slice.

    Closed, it keeps no hold of the pieces, whatever has a slice still.
    """
    if sum(map(len, pieces)) <= SLICE:
        yield b"".join(pieces)
        return
    for piece in pieces:
        for begin in range(0, len(piece), SLICE):
            with memoryview(piece) as view, view[begin : begin + SLICE] as part:
                yield part
                on_sent()


_PIECE = 64 << 10
"""Bytes given to the library at once: copied within the caches of a processor, and no memory is mapped anew."""
IS_FAST = google_crc32c.implementation == "c"
"""Where its library has no compiled code for the machine, a MiB takes a second."""


def crc32c_of(data: bytes | bytearray) -> str:
    """As stores write it: base64 of four bytes. The library takes bytes only: a part is given to it piece by piece."""
    if isinstance(data, bytes):
        value = google_crc32c.value(data)
    else:
        value, view = 0, memoryview(data)
        for begin in range(0, len(view), _PIECE):
            value = google_crc32c.extend(value, bytes(view[begin : begin + _PIECE]))
    return base64.b64encode(value.to_bytes(4, "big")).decode()
