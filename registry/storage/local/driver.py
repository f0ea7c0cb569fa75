"""The driver of a local directory: each repository an OCI image layout, one inode for each blob.

Tests: ``tests/storage/test_driver_contract.py``.
"""

from __future__ import annotations

import math
import os
import time
from typing import TYPE_CHECKING

from registry.storage.deadlines import require_time
from registry.storage.driver import FILE_SYSTEM, LinkedStat, StorageDriver, UploadState
from registry.storage.errors import AlreadyExists, PathNotFound, PreconditionFailed, StorageError
from registry.storage.keys import check_key, check_prefix
from registry.storage.local.files import LocalFiles
from registry.storage.local.journal import LocalJournals
from registry.storage.local.links import write_all
from registry.storage.local.opening import DirectoryEntry, DirectoryLooks, entry_at
from registry.storage.local.reader import LocalReader, read_whole
from registry.storage.local.root import LocalRoot, is_object, object_stat
from registry.storage.local.uploads import LocalUploads
from registry.storage.local.walk import children, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from registry.storage.driver import Child, ObjectReader, ObjectStat, UploadEntry, UploadWriter

_DELETES_PER_SYNC = 1024
"""Deletions after which the directories touched so far are synced, so that their set stays small."""


class LocalDriver(StorageDriver):
    """Files below a root directory, shared by all processes of the machine.

    Bytes are durable when a call returns, unless ``fsync`` is off: then everything stays atomic, and a power cut (not a
    crash of a process) may lose what was acknowledged. With ``dedupe`` off ``link`` clones or copies, so that each
    repository has bytes of its own. Tools that replace files without this driver's locks are noticed by etag; a
    conditional write does not exclude them in the microsecond between its comparison and its rename.
    """

    name = "local"
    capabilities = FILE_SYSTEM

    def __init__(self, root: Path, *, fsync: bool = True, dedupe: bool = True) -> None:
        self._root = LocalRoot(root)
        self._files = LocalFiles(self._root, fsync=fsync)
        self._journals = LocalJournals(self._files)
        self._uploads = LocalUploads(self._files, write_back=fsync)
        self._hard_links = dedupe
        self._below = f"{self._root.path}/"
        self._looks = DirectoryLooks()

    # ---- objects

    def stat(self, key: str) -> ObjectStat:
        """See StorageDriver. One system call: every HEAD of a blob comes through here."""
        check_key(key)
        try:
            found = self._looks.stat(self._below + key)
        except OSError as error:
            raise self._root.read_error(key, error) from error
        if not is_object(found):
            raise PathNotFound(key)
        return object_stat(found)

    def stat_links(self, key: str) -> LinkedStat:
        """See StorageDriver."""
        check_key(key)
        with self._root.reading(key):
            found = self._looks.stat(self._below + key)
        if not is_object(found):
            raise PathNotFound(key)
        return LinkedStat(object_stat(found), found.st_nlink)

    def read(self, key: str, *, max_bytes: int) -> tuple[bytes, ObjectStat]:
        """See StorageDriver."""
        return read_whole(self._root, key, self._root.locate(key), max_bytes=max_bytes)

    def open(self, key: str, *, offset: int = 0, length: int | None = None) -> ObjectReader:
        """See StorageDriver."""
        return LocalReader(self._root, key, self._root.locate(key), offset=offset, length=length)

    def write(self, key: str, data: bytes, *, if_etag: str | None = None, if_absent: bool = False) -> ObjectStat:
        """See StorageDriver."""
        check_key(key)

        def fill(temporary: DirectoryEntry) -> None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            descriptor = os.open(temporary.name, flags, 0o666, dir_fd=temporary.directory)
            try:
                write_all(descriptor, data)
                # The kernel's clock ticks in milliseconds and inodes are used again: without this, two of three
                # versions written within a tick could have one etag.
                now = time.time_ns()
                os.utime(descriptor, ns=(now, now))
                self._files.sync(descriptor)
            finally:
                os.close(descriptor)

        check = None if if_etag is None and not if_absent else _condition(key, if_etag, if_absent=if_absent)
        with self._root.writing(key):
            return self._files.publish(key, fill, check=check)

    def append(self, key: str, data: bytes) -> None:
        """See StorageDriver."""
        with self._root.writing(key):
            self._journals.append(key, data)

    def list(self, prefix: str, *, after: str = "") -> Iterator[tuple[str, ObjectStat]]:
        """See StorageDriver. Holds the names of one directory of each level."""
        check_prefix(prefix)
        return ((key, stat) for key, stat in walk(self._root, prefix) if key > after)

    def children(self, prefix: str) -> Iterator[Child]:
        """See StorageDriver."""
        check_prefix(prefix)
        return iter(children(self._root, prefix))

    def delete(self, keys: Iterable[str]) -> None:
        """See StorageDriver."""
        directories: set[str] = set()
        for key in keys:
            directories.add(self._unlink(key))
            if len(directories) >= _DELETES_PER_SYNC:
                self._sync_names(directories)
        self._sync_names(directories)

    def delete_once(self, key: str, *, etag: str, deadline: float) -> None:  # noqa: ARG002 - it may be a tool's by now
        """See StorageDriver. The deadline is compared under the lock of the key."""
        self._sync_names({self._unlink(key, deadline)})

    def delete_several(self, objects: Sequence[tuple[str, str]], *, deadline: float) -> Sequence[StorageError | None]:
        """See StorageDriver. Each directory is synced once."""
        directories: set[str] = set()
        errors: dict[str, StorageError] = {}
        for key, _ in objects:
            try:
                directories.add(self._unlink(key, deadline))
            except StorageError as error:
                errors[key] = error
        try:
            self._sync_names(directories)
        except StorageError as error:
            errors = dict.fromkeys((key for key, _ in objects), error) | errors
        return [errors.get(key) for key, _ in objects]

    def link(self, source: str, target: str) -> ObjectStat:
        """See StorageDriver."""
        path = self._root.locate(source)
        check_key(target)
        # Opened first: what is linked has to be a regular file, and durable, also where another tool wrote it.
        with LocalReader(self._root, source, path) as reader, self._root.writing(target):
            self._files.sync(reader.fileno())
            with entry_at(path) as entry:
                return self._files.publish_link(target, entry, source_key=source, hard=self._hard_links)

    # ---- uploads

    def start_upload(self, upload_id: str, *, readable: bool = False) -> UploadState:  # noqa: ARG002 - each one is
        """See StorageDriver. An upload that has received nothing need not survive a power cut: nothing is synced."""
        self._uploads.start(upload_id)
        return UploadState()

    def open_upload(self, upload_id: str) -> UploadWriter:
        """See StorageDriver."""
        return self._uploads.open(upload_id)

    def has_upload(self, upload_id: str) -> bool:
        """See StorageDriver."""
        return self._uploads.has(upload_id)

    def read_upload(self, upload_id: str, state: UploadState, *, size: int, offset: int = 0) -> ObjectReader:  # noqa: ARG002 - the file is all
        """See StorageDriver."""
        return self._uploads.read(upload_id, size, offset)

    def discard_upload(self, upload_id: str, state: UploadState | None = None) -> None:  # noqa: ARG002 - the file is all
        """See StorageDriver."""
        self._uploads.discard(upload_id)

    def uploads(self) -> Iterator[UploadEntry]:
        """See StorageDriver."""
        return self._uploads.entries()

    # ---- the store

    def check(self) -> None:
        """See StorageDriver. Writes and removes one byte; nothing is synced."""
        self._root.check_present()
        temporary = self._files.temporary()
        with self._root.writing(""):
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            try:
                write_all(descriptor, b"\n")
            finally:
                os.close(descriptor)
                os.unlink(temporary)
            with self._files.locks.hold(""):
                os.listdir(self._root.locks)

    def close(self) -> None:
        """See StorageDriver. Only lock files are held open between calls."""
        self._files.locks.close()

    def _unlink(self, key: str, deadline: float = math.inf) -> str:
        """Remove one name if it is there; returns its directory, to be synced also where an earlier call removed it.

        Raises NotSent after ``deadline``.
        """
        path = self._root.locate(key)
        try:
            with self._files.locks.hold(key), entry_at(path) as entry:
                require_time(key, deadline)
                os.unlink(entry.name, dir_fd=entry.directory)
        except OSError as error:
            meaning = self._root.read_error(key, error)
            if not isinstance(meaning, PathNotFound):
                raise meaning from error
        return os.path.dirname(path)

    def _sync_names(self, directories: set[str]) -> None:
        for directory in directories:
            with self._root.writing(""):
                self._files.sync_names(directory)
        directories.clear()


def _condition(key: str, if_etag: str | None, *, if_absent: bool) -> Callable[[DirectoryEntry], None]:
    """What a conditional write looks at while it holds the lock of its key."""

    def check(entry: DirectoryEntry) -> None:
        try:
            present = object_stat(entry.stat()).etag
        except FileNotFoundError:
            present = None
        if if_absent and present is not None:
            raise AlreadyExists(key)
        if if_etag is not None and present != if_etag:
            raise PreconditionFailed(key)

    return check
