"""The part of an upload that is being filled: little memory for few bytes, a whole buffer for more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.storage.driver import CHUNK_SIZE

if TYPE_CHECKING:
    from registry.storage.part_buffers import PartBuffers


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
