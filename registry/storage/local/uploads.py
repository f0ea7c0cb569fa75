"""Uploads on local disk: one file each, and ``flock`` on it as the right to write.

Tests: ``tests/storage/test_driver_contract_uploads.py``.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from registry.storage.driver import UploadEntry, UploadState
from registry.storage.errors import PathNotFound, StorageUnavailable, UploadBusy, UploadOffsetMismatch
from registry.storage.keys import check_upload_id
from registry.storage.local.files import TEMPORARY_UPLOAD
from registry.storage.local.links import write_all
from registry.storage.local.opening import DirectoryEntry
from registry.storage.local.reader import LocalReader
from registry.storage.local.root import is_object
from registry.storage.local.writeback import WriteBack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.storage.driver import ObjectStat
    from registry.storage.local.files import LocalFiles


class LocalUploads:
    """The files below ``.uploads``."""

    def __init__(self, files: LocalFiles, *, write_back: bool) -> None:
        self._files = files
        self._root = files.root
        self._write_back = write_back

    def start(self, upload_id: str) -> None:
        """An empty file. An older upload of this name is left to the writer that still has it open."""
        if upload_id.startswith(TEMPORARY_UPLOAD):
            raise ValueError(f"not an upload id: {upload_id!r}")
        path = self._locate(upload_id)
        with self._root.writing(upload_id):
            try:
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
            except FileExistsError:
                # Never truncated: its bytes may have been published.
                os.unlink(path)
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))

    def open(self, upload_id: str) -> LocalUploadWriter:
        """See StorageDriver.open_upload."""
        path = self._locate(upload_id)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise self._root.read_error(upload_id, error) from error
        try:
            _lock(descriptor, upload_id)
            found = self._named(descriptor, upload_id, path)
        except BaseException:
            os.close(descriptor)
            raise
        write_back = WriteBack(enabled=self._write_back)
        return LocalUploadWriter(self._files, upload_id, path, descriptor, write_back, found)

    def read(self, upload_id: str, size: int, offset: int) -> LocalReader:
        """See StorageDriver.read_upload."""
        path = self._locate(upload_id)
        reader = LocalReader(self._root, upload_id, path, offset=offset, length=max(size - offset, 0))
        if reader.stat.size < size:
            there = reader.stat.size
            reader.close()
            raise UploadOffsetMismatch(upload_id, f"{there} bytes are there, {size} expected")
        return reader

    def has(self, upload_id: str) -> bool:
        """See StorageDriver.has_upload."""
        path = self._locate(upload_id)
        try:
            with self._root.reading(upload_id):
                return is_object(os.lstat(path))
        except PathNotFound:
            return False

    def discard(self, upload_id: str) -> None:
        """See StorageDriver.discard_upload. Only its name goes: an open writer writes on, without a name."""
        path = self._locate(upload_id)
        with self._root.writing(upload_id):
            if upload_id.startswith(TEMPORARY_UPLOAD):
                self._files.remove_temporary(path)
            else:
                with suppress(FileNotFoundError):
                    os.unlink(path)

    def entries(self) -> Iterator[UploadEntry]:
        """See StorageDriver.uploads."""
        with self._root.writing(""), os.scandir(self._root.uploads) as entries:
            names = [entry.name for entry in entries]
        for name in names:
            try:
                check_upload_id(name)
                yield UploadEntry(name, self._modified(name))
            except (FileNotFoundError, ValueError):  # gone meanwhile, or not ours
                continue
            except OSError as error:
                raise self._root.write_error(name, error) from error

    def _modified(self, name: str) -> float:
        path = f"{self._root.uploads}/{name}"
        modified = os.lstat(path).st_mtime
        try:
            # A link tells of a temporary file elsewhere that may still be written to.
            return max(modified, os.stat(path).st_mtime)
        except OSError:  # it has gone, or its directory is closed to us: no other upload waits for it
            return modified

    def _named(self, descriptor: int, upload_id: str, path: str) -> os.stat_result:
        """The stat of the file that was opened. Raises UploadBusy if its former writer has discarded or replaced it."""
        try:
            current = os.lstat(path)
            opened = os.fstat(descriptor)
        except OSError as error:
            raise self._root.read_error(upload_id, error) from error
        if (current.st_ino, current.st_dev) != (opened.st_ino, opened.st_dev):
            raise UploadBusy(upload_id, "it was replaced in this instant")
        return current

    def _locate(self, upload_id: str) -> str:
        check_upload_id(upload_id)
        return f"{self._root.uploads}/{upload_id}"


class LocalUploadWriter:
    """Appends to an upload's file while holding its lock."""

    def __init__(
        self,
        files: LocalFiles,
        upload_id: str,
        path: str,
        descriptor: int,
        write_back: WriteBack,
        found: os.stat_result,
    ) -> None:
        """``found`` is the stat of the file, of which no other writes since."""
        self._files = files
        self._upload_id = upload_id
        self._path = path
        self._descriptor = descriptor
        self._write_back = write_back
        self._shared = found.st_nlink > 1
        """The file has further names, those of what was published."""
        self.is_new = not found.st_size
        """See UploadWriter."""
        self._opened_size: int | None = found.st_size
        """None once it was resumed."""
        self._position: int | None = None

    def resume(self, state: UploadState, *, offset: int, key: str | None = None) -> None:  # noqa: ARG002 - not needed
        """See UploadWriter."""
        self._check_open()
        opened, self._opened_size = self._opened_size, None
        try:
            size = os.fstat(self._descriptor).st_size if opened is None else opened
            if size < offset:
                raise UploadOffsetMismatch(self._upload_id, f"{size} bytes are there, {offset} expected")
            if opened is None or self._shared:
                self._leave_published(offset)
            if size > offset:
                os.ftruncate(self._descriptor, offset)
            if opened is None or offset:
                os.lseek(self._descriptor, offset, os.SEEK_SET)
        except OSError as error:
            raise self._files.root.write_error(self._upload_id, error) from error
        self._write_back.restart(offset)
        self._position = offset

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See UploadWriter."""
        self._check_open()
        if self._position is None:
            raise ValueError("an upload is resumed before it is written to")
        try:
            self._leave_published(self._position)
            write_all(self._descriptor, data)
        except OSError as error:
            raise self._files.root.write_error(self._upload_id, error) from error
        self._position += memoryview(data).nbytes
        self._write_back.advance(self._descriptor, self._position)

    @property
    def held(self) -> int:
        """See UploadWriter."""
        return 0

    def spill(self) -> None:
        """See UploadWriter. Nothing is held back."""
        self._check_open()

    def flush(self) -> UploadState:
        """Nothing is held back: what was written is in the page cache, for every process."""
        self._check_open()
        return UploadState()

    def read(self) -> LocalReader:
        """See UploadWriter."""
        self._check_open()
        return LocalReader(self._files.root, self._upload_id, self._path)

    def publish(self, key: str, *, replace: bool = False) -> ObjectStat:  # noqa: ARG002 - it always does
        """See UploadWriter. What is written next goes to a file of its own."""
        self._check_open()
        self._files.root.locate(key)
        self._shared = True
        with self._files.root.writing(key):
            self._sync()
            return self._files.publish_link(key, DirectoryEntry(self._path), source_key=self._upload_id)

    def close(self) -> None:
        """See UploadWriter."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._descriptor < 0:
            raise ValueError("the upload writer is closed")

    def _sync(self) -> None:
        """Make the bytes durable, or free the upload.

        After a failed fsync the kernel may drop the pages and let the next one succeed: repeating would publish a hole.
        """
        try:
            self._files.sync(self._descriptor)
        except OSError:
            self._files.remove_temporary(self._path)
            raise

    def _leave_published(self, length: int) -> None:
        """Go on in a file of our own, with the first ``length`` bytes, where the file was published: it is shared now.

        Raises PathNotFound when the upload was discarded: the name that is left may be that of a published object.
        """
        if not self._shared and os.fstat(self._descriptor).st_nlink == 1:
            return
        with self._files.root.reading(self._upload_id):
            current = os.lstat(self._path)
        if not os.path.samestat(current, os.fstat(self._descriptor)):
            raise self._files.root.missing(self._upload_id)
        self._shared = False
        if current.st_nlink == 1:
            return
        temporary = self._files.temporary()
        try:
            copy = self._files.links.copy(self._descriptor, DirectoryEntry(temporary), length=length)
            try:
                fcntl.flock(copy, fcntl.LOCK_EX)
                os.lseek(copy, length, os.SEEK_SET)
                os.rename(temporary, self._path)
            except BaseException:
                os.close(copy)
                raise
        except BaseException:
            self._files.remove_temporary(temporary)
            raise
        os.close(self._descriptor)
        self._descriptor = copy


def _lock(descriptor: int, upload_id: str) -> None:
    """Take the right without waiting. Raises UploadBusy."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UploadBusy(upload_id) from None
    except OSError as error:
        raise StorageUnavailable(upload_id, error.strerror or "") from error
