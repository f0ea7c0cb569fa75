"""Reader: a file as one version of an object.

Tests: ``tests/storage/local/test_root.py``.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Self

from registry.storage.errors import ObjectTooLarge, StorageUnavailable
from registry.storage.local.opening import open_unlinked
from registry.storage.local.root import is_object, object_stat

if TYPE_CHECKING:
    from registry.storage.driver import ObjectStat
    from registry.storage.local.root import LocalRoot

# A pipe that someone placed must not block the open.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class LocalReader:
    """A range of a file; the descriptor keeps the version that was opened, whatever happens to its name."""

    def __init__(self, root: LocalRoot, key: str, path: str, *, offset: int = 0, length: int | None = None) -> None:
        self._root = root
        self._key = key
        self._descriptor, self.stat = _open(root, key, path)
        self._position = offset
        self._end = self.stat.size if length is None else min(self.stat.size, offset + length)

    def read(self, size: int) -> bytes:
        """See ObjectReader."""
        wanted = min(size, self._end - self._position)
        if wanted <= 0:
            return b""
        try:
            chunk = os.pread(self._descriptor, wanted, self._position)
        except OSError as error:
            raise self._root.write_error(self._key, error) from error
        if not chunk:
            raise StorageUnavailable(self._key, f"ends at {self._position} of {self.stat.size} bytes")
        self._position += len(chunk)
        return chunk

    def fileno(self) -> int:
        """See ObjectReader."""
        return self._descriptor

    def close(self) -> None:
        """See ObjectReader."""
        descriptor, self._descriptor, self._end = self._descriptor, -1, 0
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def read_whole(root: LocalRoot, key: str, path: str, *, max_bytes: int) -> tuple[bytes, ObjectStat]:
    """All bytes of a small file. Raises PathNotFound, ObjectTooLarge, StorageUnavailable."""
    with LocalReader(root, key, path) as reader:
        stat = reader.stat
        if stat.size > max_bytes:
            raise ObjectTooLarge(key, f"{stat.size} bytes, more than {max_bytes}")
        data = reader.read(stat.size)
        while len(data) < stat.size:
            data += reader.read(stat.size - len(data))
        return data, stat


def _open(root: LocalRoot, key: str, path: str) -> tuple[int, ObjectStat]:
    with root.reading(key):
        descriptor = open_unlinked(path, _FLAGS)
        found = os.fstat(descriptor)
        if not is_object(found):
            os.close(descriptor)
            raise OSError(errno.EISDIR, "not a regular file")
        return descriptor, object_stat(found)
