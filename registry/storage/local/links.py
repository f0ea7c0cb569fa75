"""One file under a second name: a hard link, else a clone of its extents, else a copy."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from typing import TYPE_CHECKING

from registry.storage.driver import CHUNK_SIZE

if TYPE_CHECKING:
    from registry.storage.local.opening import DirectoryEntry

_log = logging.getLogger(__name__)

_FICLONE = 0x40049409
"""ioctl of linux/fs.h that shares the extents of another file of the same file system (btrfs, xfs, bcachefs)."""

UNLINKABLE = frozenset({errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS})
"""Why a hard link may be impossible although both names are good: another file system, too many, or no support."""


class LocalLinks:
    """Shares bytes between names.

    Args:
        fsync: whether copies are made durable.
    """

    def __init__(self, *, fsync: bool) -> None:
        self._fsync = fsync
        self._told: set[int] = set()

    def share(self, source: DirectoryEntry, target: DirectoryEntry, *, hard: bool = True) -> None:
        """Make the new name ``target`` a file with the bytes of ``source``; durable, if the bytes of ``source`` are.

        With ``hard`` by a hard link where that is possible. Raises OSError; then ``target`` may hold a part.
        """
        if hard:
            try:
                link_entry(source, target)
            except OSError as error:
                if error.errno not in UNLINKABLE:
                    raise
                self._tell(error, target)
            else:
                return
        origin = os.open(source.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source.directory)
        try:
            os.close(self.copy(origin, target, length=os.fstat(origin).st_size))
        finally:
            os.close(origin)

    def copy(self, origin: int, target: DirectoryEntry, *, length: int) -> int:
        """Make the new file ``target`` of the first ``length`` bytes of the descriptor ``origin``, durably.

        Returns a descriptor of it to read and write, which the caller closes. Raises OSError.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        copy = os.open(target.name, flags, 0o666, dir_fd=target.directory)
        try:
            if _clone(origin, copy):
                os.ftruncate(copy, length)
            else:
                _copy_bytes(origin, copy, length)
            if self._fsync:
                os.fsync(copy)
        except BaseException:
            os.close(copy)
            raise
        return copy

    def _tell(self, error: OSError, target: DirectoryEntry) -> None:
        """Say once for each reason that bytes are stored twice."""
        if error.errno in self._told:
            return
        self._told.add(error.errno or 0)
        reason = os.strerror(error.errno or 0)
        _log.warning("cannot hard-link %s (%s): such blobs are cloned or copied, said once", target.name, reason)


def link_entry(source: DirectoryEntry, target: DirectoryEntry) -> None:
    """Make ``target``, which does not exist, a further name of the file ``source``. Raises OSError."""
    os.link(source.name, target.name, src_dir_fd=source.directory, dst_dir_fd=target.directory, follow_symlinks=False)


def _clone(origin: int, copy: int) -> bool:
    try:
        fcntl.ioctl(copy, _FICLONE, origin)
    except OSError:  # every reason has the same answer: the bytes are copied, and what is really wrong shows there
        return False
    return True


def _copy_bytes(origin: int, copy: int, length: int) -> None:
    position = 0
    while position < length:
        chunk = os.pread(origin, min(CHUNK_SIZE, length - position), position)
        if not chunk:
            raise OSError(errno.EIO, "the file became shorter while it was copied")
        write_all(copy, chunk)
        position += len(chunk)


def write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of ``data``: the system may take less at a time. Raises OSError."""
    written = os.write(descriptor, data)
    if written == len(data):
        return
    view = memoryview(data).cast("B")
    while written < len(view):
        written += os.write(descriptor, view[written:])
