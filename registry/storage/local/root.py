"""The directory that holds a local store: where keys lie in it, and what its operating system errors mean."""

from __future__ import annotations

import errno
import os
import stat as modes
from typing import TYPE_CHECKING

from registry.storage.driver import ObjectStat
from registry.storage.errors import PathNotFound, PathRefused, StorageError, StorageFull, StorageUnavailable
from registry.storage.keys import check_key
from registry.storage.local.opening import first_link, stat_unlinked

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EISDIR, errno.EIO, errno.EUCLEAN, errno.EBADMSG})
"""What concerns one path: its rights, a directory in its place, or the sectors that hold it."""

_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR})
"""What a look at a key may meet where there is no object. ELOOP is the answer of O_NOFOLLOW to a symbolic link."""


class LocalRoot:
    """The root directory; it is created, durably, when this is constructed. Raises StorageError where that fails.

    It may be reached through symbolic links, which are followed once; none is followed below it.
    """

    def __init__(self, root: Path) -> None:
        with self.writing(""):
            self.path, self.uploads, self.locks = map(_made, (f"{root}", f"{root}/.uploads", f"{root}/.locks"))
            self.device = os.stat(self.path).st_dev

    def locate(self, key: str) -> str:
        """The absolute path of ``key``. Raises ValueError."""
        check_key(key)
        return f"{self.path}/{key}"

    def check_present(self) -> None:
        """Raises StorageUnavailable unless the root is there and still on the file system where it was found.

        A disk that is not mounted leaves an empty directory behind, where everything would seem to be deleted; and
        nothing can be reached any more once a link took the place of a directory on the way to the root.
        """
        with self.writing(""):
            if stat_unlinked(self.path).st_dev != self.device:
                raise StorageUnavailable("", f"{self.path} is no longer on the file system that it was on")

    def read_error(self, key: str, error: OSError) -> StorageError:
        """What ``error`` says of a look at ``key``: PathNotFound only where that is proven."""
        if error.errno in _MISSING:
            return self._link_error(key, os.path.dirname(key), error) or self.missing(key)
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
        if error.errno in _FULL:
            return StorageFull(key, reason)
        if key and error.errno in _REFUSED:
            return PathRefused(key, reason)
        return self._link_error(key, os.path.dirname(key), error) or StorageUnavailable(key, reason)

    def _link_error(self, key: str, directory: str, error: OSError) -> StorageError | None:
        """None unless it was a symbolic link on the way to ``directory`` that was not followed."""
        if error.errno != errno.ELOOP:
            return None
        link = first_link(self.path, directory)
        if link is None:
            return None
        return PathRefused(key, f"{link} is a symbolic link, which is not followed; mount the directory there instead")

    def reading(self, key: str) -> AbstractContextManager[None]:
        """Raise the meaning of an OSError for a look at ``key``."""
        return _Meaning(self.read_error, key)

    def listing(self, prefix: str) -> AbstractContextManager[None]:
        """Raise the meaning of an OSError for opening the directory ``prefix``, which may be a link itself."""
        return _Meaning(self._list_error, prefix)

    def writing(self, key: str) -> AbstractContextManager[None]:
        """Raise the meaning of an OSError for a change of ``key``."""
        return _Meaning(self.write_error, key)

    def _list_error(self, prefix: str, error: OSError) -> StorageError:
        return self._link_error(prefix, prefix, error) or self.read_error(prefix, error)


class _Meaning:
    """Raises a StorageError in place of an OSError; no generator, since each push enters two dozen of them."""

    __slots__ = ("_key", "_of")

    def __init__(self, of: Callable[[str, OSError], StorageError], key: str) -> None:
        self._of = of
        self._key = key

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError):
            raise self._of(self._key, error) from error


def object_stat(found: os.stat_result) -> ObjectStat:
    """What the contract tells of a file: its etag is of inode, mtime (nanoseconds) and size."""
    return ObjectStat(found.st_size, f"{found.st_ino}-{found.st_mtime_ns}-{found.st_size}", found.st_mtime)


def is_object(found: os.stat_result) -> bool:
    """Whether this is a regular file; a directory, a symbolic link or a pipe is no object."""
    return modes.S_ISREG(found.st_mode)


def _made(directory: str) -> str:
    """The path, without symbolic links, of a directory that is created where it is missing. Raises OSError."""
    _create(os.path.abspath(directory))
    return os.path.realpath(directory)


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
