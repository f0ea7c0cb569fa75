"""*Readers* of the tier: one that gives what is kept, and one that keeps what the store gives.

Tests: ``tests/storage/middleware/tiered/test_serving.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from registry.storage.driver import CHUNK_SIZE, FillingReader, ObjectReader
from registry.storage.errors import PathNotFound, StorageUnavailable
from registry.storage.middleware.tiered.cached_file import BLOCK, DamagedFile, Origin
from registry.storage.wrapped_reader import WrappedReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.storage.middleware.tiered.cached_file import CachedFile
    from registry.storage.middleware.tiered.directory import CacheDirectory
    from registry.storage.middleware.tiered.filling import Filling


class CachedReader:
    """See ObjectReader. A range of a cached file, each block of which is proven before a byte of it is given.

    Where a block is not right, or cannot be read, the file is removed, and the store gives the rest: the caller gets
    the bytes of the object either way.
    """

    def __init__(
        self,
        directory: CacheDirectory,
        cached: CachedFile,
        *,
        offset: int,
        length: int | None,
        open_inner: Callable[[int, int], ObjectReader],
    ) -> None:
        """``open_inner`` gives a reader of the store, from an offset on, of so many bytes."""
        self.stat = cached.origin.stat
        self._directory = directory
        self._cached = cached
        self._open_inner = open_inner
        self._inner: ObjectReader | None = None
        size = self.stat.size
        self._position = offset
        self._end = size if length is None else min(size, offset + length)
        self._rest = memoryview(b"")
        """Proven bytes at this position, of a block that was not wanted whole."""
        self._given = 0

    def read(self, size: int) -> bytes:
        """See ObjectReader."""
        buffer = bytearray(max(0, min(size, self._end - self._position, CHUNK_SIZE)))
        count = self.read_into(memoryview(buffer))
        return bytes(memoryview(buffer)[:count])

    def read_into(self, buffer: memoryview) -> int:
        """See FillingReader."""
        wanted = buffer[: max(0, self._end - self._position)]
        if not len(wanted):
            return 0
        inner = self._inner
        if inner is None:
            try:
                count = self._read_proven(wanted)
            except (OSError, DamagedFile) as error:
                self._directory.reject(self._cached.origin.digest, error)
                inner = self._turn_to_store()
            else:
                self._position += count
                self._given += count
                return count
        count = _fill(inner, wanted)
        self._position += count
        return count

    def fileno(self) -> int | None:
        """Return None, because what leaves by a descriptor is not proven."""
        return None

    def close(self) -> None:
        """See ObjectReader."""
        self._end = self._position
        self._rest = memoryview(b"")
        self._cached.close()
        if self._inner is not None:
            self._inner.close()
        given, self._given = self._given, 0
        self._directory.observer.gave(given)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ----

    def _read_proven(self, wanted: memoryview) -> int:
        if not self._rest:
            first, skipped = divmod(self._position, BLOCK)
            left = self.stat.size - first * BLOCK
            whole = len(wanted) if len(wanted) == left else len(wanted) // BLOCK * BLOCK
            if not skipped and whole:
                self._cached.read_blocks(first, wanted[:whole])
                return whole
            block = memoryview(bytearray(min(BLOCK, left)))
            self._cached.read_blocks(first, block)
            self._rest = block[skipped:]
        count = min(len(wanted), len(self._rest))
        wanted[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def _turn_to_store(self) -> ObjectReader:
        """Raises StorageError."""
        self._cached.close()
        self._rest = memoryview(b"")
        try:
            inner = self._open_inner(self._position, self._end - self._position)
        except PathNotFound as error:
            raise StorageUnavailable(error.key, "the kept file is damaged, and the object is gone") from error
        if inner.stat.size != self.stat.size:
            inner.close()
            raise StorageUnavailable(self._cached.origin.key, "the kept file is damaged, and the object another one")
        self._inner = inner
        return inner


class KeepingReader(WrappedReader):
    """A reader of a whole object whose bytes are kept once all of them were read."""

    def __init__(self, inner: ObjectReader, filling: Filling, origin: Origin) -> None:
        super().__init__(inner)
        self._filling = filling
        self._origin = origin

    def read(self, size: int) -> bytes:
        """See ObjectReader."""
        data = self._inner.read(size)
        self._take(data)
        return data

    def read_into(self, buffer: memoryview) -> int:
        """See FillingReader."""
        count = _fill(self._inner, buffer)
        self._take(buffer[:count])
        return count

    def close(self) -> None:
        """See ObjectReader. What was not read whole is not kept."""
        self._filling.drop()
        super().close()

    def _take(self, data: bytes | memoryview) -> None:
        if self._filling.is_over:
            return
        self._filling.write(data)
        if self._filling.position >= self.stat.size:
            self._filling.keep(self._origin)


def _fill(reader: ObjectReader, buffer: memoryview) -> int:
    """Put the next bytes of a reader into a buffer; how many."""
    if isinstance(reader, FillingReader):
        return reader.read_into(buffer)
    data = reader.read(len(buffer))
    buffer[: len(data)] = data
    return len(data)
