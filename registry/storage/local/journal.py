"""Journal: files that grow by whole lines, written by many processes.

Tests: ``tests/storage/local/test_root.py``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from registry.storage.local.files import dirname
from registry.storage.local.links import write_all
from registry.storage.local.opening import open_unlinked

if TYPE_CHECKING:
    from registry.storage.local.files import LocalFiles
    from registry.storage.local.opening import DirectoryEntry

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class _Linked(Exception):
    """The file has further names: what is appended to it would appear there too."""


class LocalJournals:
    """Appends to files below the root."""

    def __init__(self, files: LocalFiles) -> None:
        self._files = files

    def append(self, key: str, data: bytes) -> None:
        """Add whole lines, durably. Raises OSError; then the file is as before, or its last line is cut short."""
        path = self._files.root.locate(key)
        try:
            descriptor, inode = self._files.locked(key, lambda: _add(path, data))
        except _Linked:
            self._separate(key)
            descriptor, inode = self._files.locked(key, lambda: _add(path, data, even_linked=True))
        try:
            # After the lock is given back: other appends need not wait for this one's disk write.
            self._files.sync(descriptor)
        finally:
            os.close(descriptor)
        if not self._files.is_settled(path, inode):
            self._files.settle(dirname(path))
            self._files.note_settled(path, inode)

    def _separate(self, key: str) -> None:
        """Put a copy in the place of a file that a tool has linked elsewhere: a snapshot, or another repository.

        While it is made no other writer can append to this name.
        """
        temporaries: list[DirectoryEntry] = []

        def copy(linked: DirectoryEntry) -> None:
            self._files.links.share(linked, temporaries[-1], hard=False)

        self._files.publish(key, temporaries.append, check=copy)


def _add(path: str, data: bytes, *, even_linked: bool = False) -> tuple[int, int]:
    """A descriptor of the file, which the caller closes, and its inode.

    Raises _Linked with nothing done, unless ``even_linked``.
    """
    descriptor = open_unlinked(path, _FLAGS, 0o666)
    try:
        found = os.fstat(descriptor)
        if not even_linked:
            _check_own(found)
        size = found.st_size
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
    return descriptor, found.st_ino


def _check_own(found: os.stat_result) -> None:
    """Raises _Linked."""
    if found.st_nlink > 1:
        raise _Linked
