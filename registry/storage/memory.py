"""Memory: a driver that keeps everything in this process, with the capabilities of an object store.

Tests: ``tests/storage/test_driver_contract.py``.
"""

from __future__ import annotations

import itertools
import threading
import time
from bisect import bisect_left
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

from registry.storage.deadlines import require_time
from registry.storage.driver import (
    OBJECT_STORE,
    Child,
    ObjectReader,
    ObjectStat,
    StorageDriver,
    UploadEntry,
    UploadState,
    UploadWriter,
)
from registry.storage.errors import (
    AlreadyExists,
    ObjectTooLarge,
    PathNotFound,
    PreconditionFailed,
    UploadBusy,
    UploadOffsetMismatch,
)
from registry.storage.keys import check_key, check_prefix, check_upload_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(slots=True)
class _Upload:
    data: bytearray = field(default_factory=bytearray)
    modified: float = field(default_factory=time.time)
    busy: bool = False
    discarded: bool = False


class MemoryDriver(StorageDriver):
    """Objects and uploads in memory: for tests, and as the model of an object store. Gone when the process ends."""

    name = "memory"
    capabilities = replace(OBJECT_STORE, copies=True, exclusive_uploads=True, readable_uploads=True)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._objects: dict[str, tuple[bytes, ObjectStat]] = {}
        self._uploads: dict[str, _Upload] = {}
        self._generations = itertools.count(1)

    # ---- objects

    def stat(self, key: str) -> ObjectStat:
        """See StorageDriver."""
        return self._get(key)[1]

    def read(self, key: str, *, max_bytes: int) -> tuple[bytes, ObjectStat]:
        """See StorageDriver."""
        data, stat = self._get(key)
        if stat.size > max_bytes:
            raise ObjectTooLarge(key, f"{stat.size} bytes, more than {max_bytes}")
        return data, stat

    def open(self, key: str, *, offset: int = 0, length: int | None = None) -> ObjectReader:
        """See StorageDriver."""
        data, stat = self._get(key)
        end = stat.size if length is None else min(stat.size, offset + length)
        return _MemoryReader(data, stat, offset, end)

    def write(self, key: str, data: bytes, *, if_etag: str | None = None, if_absent: bool = False) -> ObjectStat:
        """See StorageDriver."""
        check_key(key)
        with self._lock:
            present = self._objects.get(key)
            if if_absent and present is not None:
                raise AlreadyExists(key)
            if if_etag is not None and (present is None or present[1].etag != if_etag):
                raise PreconditionFailed(key)
            return self._put(key, bytes(data))

    def list(self, prefix: str, *, after: str = "") -> Iterator[tuple[str, ObjectStat]]:
        """See StorageDriver."""
        check_prefix(prefix)
        return ((key, stat) for key, stat in self._walk(f"{prefix}/" if prefix else "") if key > after)

    def children(self, prefix: str) -> Iterator[Child]:
        """See StorageDriver."""
        check_prefix(prefix)
        start = len(prefix) + 1 if prefix else 0
        names: dict[str, bool] = {}
        for key in self._keys(key_prefix=f"{prefix}/" if prefix else ""):
            name, slash, _ = key[start:].partition("/")
            names[name] = names.get(name, False) or bool(slash)
        return iter([Child(name, names[name]) for name in sorted(names)])

    def copy(self, source: str, target: str, *, size: int, if_etag: str) -> ObjectStat:  # noqa: ARG002 - the version says it
        """See StorageDriver."""
        check_key(source)
        check_key(target)
        with self._lock:
            present = self._objects.get(source)
            if present is None:
                raise PathNotFound(source)
            if present[1].etag != if_etag:
                raise PreconditionFailed(source)
            return self._put(target, present[0])

    def delete(self, keys: Iterable[str]) -> None:
        """See StorageDriver."""
        for key in keys:
            check_key(key)
            with self._lock:
                self._objects.pop(key, None)

    def delete_once(self, key: str, *, etag: str, deadline: float) -> None:  # noqa: ARG002 - as a directory does
        """See StorageDriver."""
        check_key(key)
        require_time(key, deadline)
        self.delete([key])

    # ---- uploads

    def start_upload(self, upload_id: str, *, readable: bool = False) -> UploadState:  # noqa: ARG002 - each one is
        """See StorageDriver."""
        check_upload_id(upload_id)
        with self._lock:
            self._discard(upload_id)
            self._uploads[upload_id] = _Upload()
        return UploadState()

    def open_upload(self, upload_id: str) -> UploadWriter:
        """See StorageDriver."""
        with self._lock:
            upload = self._upload(upload_id)
            if upload.busy:
                raise UploadBusy(upload_id)
            upload.busy = True
        return _MemoryWriter(self, upload_id, upload)

    def has_upload(self, upload_id: str) -> bool:
        """See StorageDriver."""
        return upload_id in self._uploads

    def read_upload(self, upload_id: str, state: UploadState, *, size: int, offset: int = 0) -> ObjectReader:  # noqa: ARG002 - no state needed
        """See StorageDriver."""
        with self._lock:
            upload = self._upload(upload_id)
            data, modified = bytes(upload.data[:size]), upload.modified
        if len(data) < size:
            raise UploadOffsetMismatch(upload_id, f"{len(data)} bytes are there, {size} expected")
        return _MemoryReader(data, ObjectStat(size, f"upload-{size}", modified), offset, size)

    def discard_upload(self, upload_id: str, state: UploadState | None = None) -> None:  # noqa: ARG002 - no state needed
        """See StorageDriver."""
        check_upload_id(upload_id)
        with self._lock:
            self._discard(upload_id)

    def uploads(self) -> Iterator[UploadEntry]:
        """See StorageDriver."""
        with self._lock:
            return iter([UploadEntry(upload_id, upload.modified) for upload_id, upload in self._uploads.items()])

    # ---- the store

    def check(self) -> None:
        """See StorageDriver."""

    def close(self) -> None:
        """See StorageDriver. The objects stay while the driver is referenced."""

    def _get(self, key: str) -> tuple[bytes, ObjectStat]:
        check_key(key)
        try:
            return self._objects[key]
        except KeyError:
            raise PathNotFound(key) from None

    def publish(self, key: str, data: bytes) -> ObjectStat:
        """Put what a writer has."""
        check_key(key)
        with self._lock:
            return self._put(key, data)

    def _put(self, key: str, data: bytes) -> ObjectStat:
        stat = ObjectStat(len(data), str(next(self._generations)), time.time())
        self._objects[key] = (data, stat)
        return stat

    def _upload(self, upload_id: str) -> _Upload:
        check_upload_id(upload_id)
        try:
            return self._uploads[upload_id]
        except KeyError:
            raise PathNotFound(upload_id, "no such upload") from None

    def _discard(self, upload_id: str) -> None:
        """Forget an upload; a writer that has it open is told so."""
        upload = self._uploads.pop(upload_id, None)
        if upload is not None:
            upload.discarded = True

    def _keys(self, key_prefix: str) -> Iterator[str]:
        with self._lock:
            keys = sorted(self._objects)
        begin = bisect_left(keys, key_prefix)
        return itertools.takewhile(lambda key: key.startswith(key_prefix), itertools.islice(keys, begin, None))

    def _walk(self, key_prefix: str) -> Iterator[tuple[str, ObjectStat]]:
        for key in self._keys(key_prefix):
            present = self._objects.get(key)
            if present is not None:
                yield key, present[1]


class _MemoryReader:
    """One version of an object; the bytes are immutable, so nothing can change under it."""

    def __init__(self, data: bytes, stat: ObjectStat, position: int, end: int) -> None:
        self.stat = stat
        self._data = data
        self._position = position
        self._end = end

    def read(self, size: int) -> bytes:
        chunk = self._data[self._position : max(self._position, min(self._end, self._position + size))]
        self._position += len(chunk)
        return chunk

    def fileno(self) -> int | None:
        return None

    def close(self) -> None:
        self._data, self._end = b"", 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _MemoryWriter:
    """Marks its upload busy until it is closed."""

    def __init__(self, driver: MemoryDriver, upload_id: str, upload: _Upload) -> None:
        self._driver = driver
        self._upload_id = upload_id
        self._upload = upload
        self.is_new = not upload.data
        self._resumed = False
        self._closed = False

    def resume(self, state: UploadState, *, offset: int, key: str | None = None) -> None:  # noqa: ARG002 - not needed
        self._check_open()
        size = len(self._upload.data)
        if size < offset:
            raise UploadOffsetMismatch(self._upload_id, f"{size} bytes are there, {offset} expected")
        del self._upload.data[offset:]
        self._resumed = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._check_open()
        if not self._resumed:
            raise ValueError("an upload is resumed before it is written to")
        self._upload.data += data
        self._upload.modified = time.time()

    @property
    def held(self) -> int:
        return 0  # where its bytes are is the store itself

    def spill(self) -> None:
        self._check_open()

    def flush(self) -> UploadState:
        self._check_open()
        return UploadState()

    def read(self) -> ObjectReader:
        self._check_open()
        data = bytes(self._upload.data)
        return _MemoryReader(data, ObjectStat(len(data), f"upload-{len(data)}", self._upload.modified), 0, len(data))

    def publish(self, key: str, *, replace: bool = False) -> ObjectStat:  # noqa: ARG002 - it always does
        self._check_open()
        return self._driver.publish(key, bytes(self._upload.data))

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._upload.busy = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("the upload writer is closed")
        if self._upload.discarded:
            raise PathNotFound(self._upload_id, "the upload was discarded")
