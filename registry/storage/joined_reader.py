"""Several readers, and bytes after them, read as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from registry.storage.driver import ObjectStat

if TYPE_CHECKING:
    from registry.storage.driver import ObjectReader


class JoinedReader:
    """See ObjectReader. Closes what it reads."""

    def __init__(self, readers: list[ObjectReader], rest: bytes) -> None:
        self.stat = ObjectStat(sum(reader.stat.size for reader in readers) + len(rest), "", 0.0)
        self._readers = readers
        self._rest = rest

    def read(self, size: int) -> bytes:
        """See ObjectReader."""
        while self._readers:
            data = self._readers[0].read(size)
            if data:
                return data
            self._readers.pop(0).close()
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def fileno(self) -> int | None:
        """See ObjectReader."""
        return None

    def close(self) -> None:
        """See ObjectReader."""
        while self._readers:
            self._readers.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
