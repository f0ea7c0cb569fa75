"""The directory that holds a local store: where keys lie in it, and what its operating system errors mean."""

from __future__ import annotations

import errno
import os
import stat as modes
from contextlib import contextmanager
from typing import TYPE_CHECKING

from registry.storage.driver import ObjectStat
from registry.storage.errors import PathNotFound, StorageError, StorageFull, StorageUnavailable
from registry.storage.keys import check_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR})
"""What a look at a key may meet where there is no object. ELOOP is the answer of O_NOFOLLOW to a symbolic link."""


class LocalRoot:
    """The root directory; it is created, durably, when this is constructed. Raises StorageError where that fails."""

    def __init__(self, root: Path) -> None:
        self.path = os.path.abspath(root)
        self.uploads = f"{self.path}/.uploads"
        self.locks = f"{self.path}/.locks"
        with self.writing(""):
            for directory in (self.path, self.uploads, self.locks):
                _create(directory)
            self.device = os.stat(self.path).st_dev

    def locate(self, key: str) -> str:
        """The absolute path of ``key``. Raises ValueError."""
        check_key(key)
        return f"{self.path}/{key}"

    def check_present(self) -> None:
        """Raises StorageUnavailable unless the root is there and still on the file system where it was found.

        A disk that is not mounted leaves an empty directory behind, where everything would seem to be deleted.
        """
        with self.writing(""):
            if os.stat(self.path).st_dev != self.device:
                raise StorageUnavailable("", f"{self.path} is no longer on the file system that it was on")

    def read_error(self, key: str, error: OSError) -> StorageError:
        """What ``error`` says of a look at ``key``: PathNotFound only where that is proven."""
        if error.errno in _MISSING:
            return self.missing(key)
        return self.write_error(key, error)

    def missing(self, key: str) -> StorageError:
        """PathNotFound, or StorageUnavailable where the whole store is missing."""
        try:
            self.check_present()
        except StorageUnavailable as error:
            return StorageUnavailable(key, error.reason)
        return PathNotFound(key)

    def write_error(self, key: str, error: OSError) -> StorageError:
        """What ``error`` says of a change of ``key``."""
        reason = error.strerror or str(error)
        return StorageFull(key, reason) if error.errno in _FULL else StorageUnavailable(key, reason)

    @contextmanager
    def reading(self, key: str) -> Iterator[None]:
        """Raises what an OSError means to who looks at ``key``."""
        try:
            yield
        except OSError as error:
            raise self.read_error(key, error) from error

    @contextmanager
    def writing(self, key: str) -> Iterator[None]:
        """Raises what an OSError means to who changes ``key``."""
        try:
            yield
        except OSError as error:
            raise self.write_error(key, error) from error


def object_stat(found: os.stat_result) -> ObjectStat:
    """What the contract tells of a file: its signature is of inode, mtime (nanoseconds) and size."""
    return ObjectStat(found.st_size, f"{found.st_ino}-{found.st_mtime_ns}-{found.st_size}", found.st_mtime)


def is_object(found: os.stat_result) -> bool:
    """Whether this is a regular file; a directory, a symbolic link or a pipe is no object."""
    return modes.S_ISREG(found.st_mode)


def _create(directory: str) -> None:
    """Create a directory and its parents, each durable in its parent."""
    if os.path.isdir(directory):
        return
    parent = os.path.dirname(directory)
    _create(parent)
    try:
        os.mkdir(directory)
    except FileExistsError:
        return
    descriptor = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
