"""*Places*: the bytes that blobs take on storage, and those that go with the names that a repository has of them.

Where each repository has its own blobs, files that share an inode are counted once, and an inode goes with its last
name, also with one that this registry does not know, such as a backup has made.

Tests: ``tests/maintenance/usage/test_repository_usage.py``.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from registry.oci.digest import Digest
from registry.storage.errors import PathNotFound, PathRefused

if TYPE_CHECKING:
    from registry.database.usage.blobs import BlobUse
    from registry.images.backends import Backends


class Taken(NamedTuple):
    """What a blob takes."""

    bytes: int
    freed: int
    """The part that would go."""


class Inodes:
    """The inodes of one blob, each with the names of it that would go."""

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}
        self._names: dict[str, int] = {}
        self._keys: dict[str, str] = {}

    def add(self, key: str, size: int, etag: str) -> None:
        """Count a name."""
        self._sizes[etag] = size
        self._names[etag] = self._names.get(etag, 0) + 1
        self._keys[etag] = key

    def taken(self, backends: Backends, *, counts_freed: bool = True) -> Taken:
        """The sum; without ``counts_freed`` storage is not asked for names. Raises StorageError."""
        freed = 0
        for etag, key in self._keys.items() if counts_freed else ():
            with contextlib.suppress(PathNotFound, PathRefused):
                if backends.driver.stat_links(key).links <= self._names[etag]:
                    freed += self._sizes[etag]
        return Taken(sum(self._sizes.values()), freed)


class Places:
    """Any thread."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends

    def taken(self, repository: str, use: BlobUse) -> Taken:
        """What a blob takes on account of a repository, and what would go with all that this has of it.

        Raises StorageError.
        """
        layout, digest = self._backends.layout, Digest(use.digest)
        if not layout.per_repository:
            return Taken(use.bytes, 0 if use.elsewhere or use.in_trash_elsewhere else use.removable)
        inodes = Inodes()
        for key in (layout.blob(repository, digest), *([layout.trash(repository, digest)] if use.in_trash else ())):
            with contextlib.suppress(PathNotFound, PathRefused):
                stat = self._backends.driver.stat(key)
                inodes.add(key, stat.size, stat.etag)
        return inodes.taken(self._backends)
