"""Files that grow by whole lines, written by many processes."""

from __future__ import annotations

import os
from os.path import dirname
from typing import TYPE_CHECKING

from registry.storage.local_link import write_all
from registry.storage.local_opening import open_unlinked

if TYPE_CHECKING:
    from registry.storage.local_files import LocalFiles

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class LocalJournals:
    """Appends to files below the root."""

    def __init__(self, files: LocalFiles) -> None:
        self._files = files

    def append(self, key: str, data: bytes) -> None:
        """Add whole lines, durably. Raises OSError; then the file is as before, or its last line is cut short."""
        path = self._files.root.locate(key)
        descriptor = self._files.locked(key, lambda: _add(path, data))
        try:
            # After the lock is given back: appends of others need not wait for this one's disk write.
            self._files.sync(descriptor)
            inode = os.fstat(descriptor).st_ino
        finally:
            os.close(descriptor)
        if not self._files.is_settled(path, inode):
            self._files.settle(dirname(path))
            self._files.note_settled(path, inode)


def _add(path: str, data: bytes) -> int:
    descriptor = open_unlinked(path, _FLAGS, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        # A writer that was killed may have left a line without its end; ours must not become a part of it.
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        try:
            write_all(descriptor, b"\n" + data if torn else data)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
