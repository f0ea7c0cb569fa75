"""Files that appear whole or not at all: temporary name, fsync, link or rename, fsync of the directory (I1).

Tests: ``tests/storage/local/test_root.py``.
"""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from registry.storage.keys import TEMPORARY_SEGMENT
from registry.storage.local.links import UNLINKABLE, LocalLinks, link_entry
from registry.storage.local.locks import KeyLocks
from registry.storage.local.opening import (
    DIRECTORY,
    SYNCED_DIRECTORY,
    DirectoryEntry,
    entry_at,
    open_unlinked,
    stat_unlinked,
)
from registry.storage.local.root import object_stat
from registry.waiting import waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.storage.driver import ObjectStat
    from registry.storage.local.root import LocalRoot

TEMPORARY_UPLOAD = "tmp-"
"""Begins the names in ``.uploads`` that are files on their way to a key, not uploads."""

_ATTEMPTS = 16
"""How often a directory may vanish between its creation and its first entry before that is an error."""

_SETTLED_NAMES = 65536
"""How many names are remembered as durable (some 200 bytes each) before all are forgotten."""

T = TypeVar("T")

Fill = Callable[[DirectoryEntry], None]
"""Makes the whole, durable file of a temporary name that does not exist yet. May be called a second time."""


class LocalFiles:
    """Publishes files below the root.

    Its methods raise OSError, StorageUnavailable (the root's disk is gone), and what callables given to them raise.

    Args:
        root: the root directory.
        fsync: whether anything is made durable; without it atomicity holds, durability does not.
    """

    def __init__(self, root: LocalRoot, *, fsync: bool) -> None:
        self.root = root
        self.locks = KeyLocks(root.locks)
        self.links = LocalLinks(fsync=fsync)
        self._fsync = fsync
        self._settled: dict[str, int] = {}
        self._foreign: set[str] = set()

    # ---- publishing

    def publish(self, key: str, fill: Fill, *, check: Callable[[DirectoryEntry], None] | None = None) -> ObjectStat:
        """Replace or create the file of ``key`` by what ``fill`` makes.

        ``check`` is called with its name while no other writer can change it, right before the replacement.
        """
        path = self.root.locate(key)
        if not self._is_foreign(dirname(path)):
            try:
                return self._replace(key, path, DirectoryEntry(self.temporary()), fill, check)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                # The device numbers are equal and yet a name cannot move there: a bind mount.
                self._foreign.add(dirname(path))
        self.make_directories(dirname(path))
        with self._beside(dirname(path)) as temporary:
            return self._replace(key, path, temporary, fill, check)

    def publish_link(self, key: str, source: DirectoryEntry, *, source_key: str, hard: bool = True) -> ObjectStat:
        """Replace or create the file of ``key`` by a further name of the durable file ``source``, or a copy of it.

        With ``hard`` by a hard link where that is possible. Raises PathNotFound(``source_key``) when that is gone.
        """
        try:
            linked = self._link_absent(key, source) if hard else None
            return linked or self.publish(key, lambda temporary: self.links.share(source, temporary, hard=hard))
        except FileNotFoundError as error:
            if source.exists():
                raise
            raise self.root.missing(source_key) from error

    def temporary(self) -> str:
        """A new path in ``.uploads`` that ``uploads()`` reports if it is left behind."""
        return f"{self.root.uploads}/{TEMPORARY_UPLOAD}{uuid.uuid4().hex}"

    def _link_absent(self, key: str, source: DirectoryEntry) -> ObjectStat | None:
        """Link straight to a name where nothing is; None where something is, or where linking is impossible."""
        path = self.root.locate(key)

        try:
            return self._change_name(key, path, lambda target: link_entry(source, target))
        except OSError as error:
            if error.errno == errno.EEXIST or error.errno in UNLINKABLE:
                return None
            raise

    def _change_name(self, key: str, path: str, change: Callable[[DirectoryEntry], None]) -> ObjectStat:
        """Do ``change`` of the name ``path`` under the lock of ``key``, durably. Returns what has the name then."""

        def act() -> tuple[int, ObjectStat]:
            above, _, name = path.rpartition("/")
            directory = open_unlinked(above, SYNCED_DIRECTORY if self._fsync else DIRECTORY)
            try:
                target = DirectoryEntry(name, directory)
                change(target)
                return directory, object_stat(target.stat())
            except BaseException:
                os.close(directory)
                raise

        directory, stat = self.locked(key, act)
        try:  # after the lock is given back: no other waits for this disk write
            self.settle(dirname(path), directory)
        finally:
            os.close(directory)
        return stat

    def _replace(
        self,
        key: str,
        path: str,
        temporary: DirectoryEntry,
        fill: Fill,
        check: Callable[[DirectoryEntry], None] | None,
    ) -> ObjectStat:
        def rename(target: DirectoryEntry) -> None:
            if check is not None:
                check(target)
            os.rename(temporary.name, target.name, src_dir_fd=temporary.directory, dst_dir_fd=target.directory)
            remove()  # a rename between two names of one inode does nothing and leaves both

        def remove() -> None:
            with suppress(FileNotFoundError):
                os.unlink(temporary.name, dir_fd=temporary.directory)

        try:
            fill(temporary)
            return self._change_name(key, path, rename)
        except BaseException:
            remove()
            raise

    def locked(self, key: str, action: Callable[[], T]) -> T:
        """The result of ``action``, done under the lock of ``key`` once its directory is there."""
        directory = dirname(self.root.locate(key))
        for _ in range(_ATTEMPTS):
            try:
                with self.locks.hold(key):
                    return action()
            except FileNotFoundError:
                # Usually the directory is missing, and another process may make or remove it now; else this repeats.
                self.make_directories(directory)
        with self.locks.hold(key):
            return action()

    @contextmanager
    def _beside(self, directory: str) -> Iterator[DirectoryEntry]:
        """A temporary name in a directory on another file system; a link in ``.uploads`` tells where it is."""
        marker = self.temporary()
        temporary = f"{directory}/{TEMPORARY_SEGMENT}{uuid.uuid4().hex}"
        os.symlink(temporary, marker)
        try:
            with entry_at(temporary) as entry:
                yield entry
        finally:
            self.remove_temporary(marker)

    def remove_temporary(self, path: str) -> None:
        """Remove a file of ``.uploads``, and the temporary file elsewhere that it tells of, where they are there."""
        place = os.path.normpath(os.readlink(path)) if os.path.islink(path) else ""
        if place.startswith(f"{self.root.path}/") and os.path.basename(place).startswith(TEMPORARY_SEGMENT):
            _unlink_if_there(place)
        with suppress(FileNotFoundError):
            os.unlink(path)

    def _is_foreign(self, directory: str) -> bool:
        """Whether files cannot move from ``.uploads`` into ``directory``, as far as is known."""
        if directory in self._foreign:
            return True
        try:
            return stat_unlinked(directory).st_dev != self.root.device
        except FileNotFoundError:
            return False

    # ---- directories

    def make_directories(self, directory: str) -> None:
        """Create what is missing between the root and ``directory``; nothing where the root's disk is unmounted."""
        self.root.check_present()
        self._make(directory)

    def _make(self, directory: str) -> None:
        if directory == self.root.path:
            return
        try:
            _make_directory(directory)
        except FileExistsError:
            return
        except FileNotFoundError:
            if dirname(directory) == self.root.path:
                raise
            self._make(dirname(directory))
            with suppress(FileExistsError, FileNotFoundError):  # another process was faster: the caller tries again
                _make_directory(directory)

    # ---- durability

    def sync(self, descriptor: int) -> None:
        """Put the bytes of a file on stable storage."""
        if self._fsync:
            with waiting:
                os.fsync(descriptor)

    def settle(self, directory: str, descriptor: int | None = None) -> None:
        """Put the names in ``directory`` on stable storage, and the names that lead from the root to it.

        ``descriptor`` is one of the directory that can be synced, if the caller has it open.
        The process that made a directory may have died before syncing it, so each process syncs each directory once.
        """
        if not self._fsync:
            return
        inode = _sync_directory(directory) if descriptor is None else _synced(descriptor)
        while directory != self.root.path and not self.is_settled(directory, inode):
            parent = dirname(directory)
            parent_inode = _sync_directory(parent)
            self.note_settled(directory, inode)
            directory, inode = parent, parent_inode

    def sync_names(self, directory: str) -> None:
        """Put removals of names from ``directory`` on stable storage; a missing directory has none."""
        if self._fsync:
            with suppress(FileNotFoundError, NotADirectoryError):
                _sync_directory(directory)

    def is_settled(self, path: str, inode: int) -> bool:
        """Whether this process has made the name ``path`` of ``inode`` durable before."""
        return self._settled.get(path) == inode

    def note_settled(self, path: str, inode: int) -> None:
        """Remember that the name ``path`` of ``inode`` is durable."""
        if len(self._settled) >= _SETTLED_NAMES:
            self._settled.clear()
        self._settled[path] = inode


def dirname(path: str) -> str:
    """The directory of an absolute path without a slash at its end: ``os.path`` would look for more than is there."""
    return path.rpartition("/")[0]


def _unlink_if_there(path: str) -> None:
    """Remove a name; nothing where its directory has gone, or became a link."""
    try:
        with entry_at(path) as entry:
            os.unlink(entry.name, dir_fd=entry.directory)
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
            raise


def _make_directory(directory: str) -> None:
    with entry_at(directory) as entry:
        os.mkdir(entry.name, dir_fd=entry.directory)


def _sync_directory(directory: str) -> int:
    """Put the names in a directory on stable storage; returns its inode."""
    descriptor = open_unlinked(directory, SYNCED_DIRECTORY)
    try:
        return _synced(descriptor)
    finally:
        os.close(descriptor)


def _synced(directory: int) -> int:
    with waiting:
        os.fsync(directory)
    return os.fstat(directory).st_ino
