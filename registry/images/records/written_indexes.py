"""Written indexes: those that this process folded last, so that the next fold need not read and parse them again."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from cachetools import LRUCache

from registry.oci.index import Index

if TYPE_CHECKING:
    from registry.database.repositories import RepositoryRow
    from registry.images.backends import Backends

READ_BYTES = 16 << 20
"""Bytes of indexes that are kept as they were written, where reading is a request."""
PARSED_BYTES = 512 << 10
"""Bytes of indexes that are kept as objects, which take eight times as much memory, where reading is cheap."""


class WrittenIndexes:
    """Any thread. An index that is taken is kept no more until it is written again."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._is_local = backends.driver.capabilities.stat_is_local
        self._lock = threading.Lock()
        self._read: LRUCache[str, tuple[bytes, str]] = LRUCache(READ_BYTES, getsizeof=lambda kept: len(kept[0]))
        self._parsed: LRUCache[str, tuple[Index, str, int]] = LRUCache(PARSED_BYTES, getsizeof=lambda kept: kept[2])

    def take(self, row: RepositoryRow) -> Index | None:
        """The index that ``row`` has the etag of; None if it is not kept, or not what storage has.

        Raises StorageError.
        """
        with self._lock:
            parsed, read = self._parsed.pop(row.name, None), self._read.pop(row.name, None)
        if parsed is not None and parsed[1] == row.etag == self._backends.index_file.etag(row.name):
            return parsed[0]
        return Index.parse(read[0]) if read is not None and read[1] == row.etag else None

    def keep(self, repository: str, index: Index, data: bytes, etag: str) -> None:
        """``index`` was written as ``data``. The caller does not change it any more."""
        with self._lock, contextlib.suppress(ValueError):  # larger than all that may be kept
            if self._is_local:
                self._parsed[repository] = index, etag, len(data)
            else:
                self._read[repository] = data, etag
