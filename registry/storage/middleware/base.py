"""What all decorators of a driver share: each operation, also of readers and writers, goes through one method.

Tests: ``tests/storage/test_driver_contract.py``.
"""

from __future__ import annotations

from abc import abstractmethod
from itertools import islice
from typing import TYPE_CHECKING, Self, TypeVar

from registry.storage.driver import StorageDriver
from registry.storage.wrapped_reader import WrappedReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from registry.storage.driver import (
        Child,
        LinkedStat,
        ObjectReader,
        ObjectStat,
        UploadEntry,
        UploadState,
        UploadWriter,
    )
    from registry.storage.errors import StorageError

T = TypeVar("T")


class DriverDecorator(StorageDriver):
    """A driver around another one, with its name and capabilities."""

    page = 256
    """Entries of a listing that are fetched at a time; each page is an operation, as it is a request to a store."""

    def __init__(self, inner: StorageDriver) -> None:
        self.inner = inner
        self.name = inner.name
        self.capabilities = inner.capabilities

    @abstractmethod
    def around(self, operation: str, key: str, call: Callable[[], T]) -> T:
        """Do ``call``, which is ``operation`` on ``key`` (or on an upload id, or on a prefix), and return its result.

        Operations are the methods of StorageDriver, and ``reader.read``, ``writer.resume``, ``writer.write``,
        ``writer.spill``, ``writer.flush``, ``writer.read``, ``writer.publish``.
        Listings (``list``, ``children``, ``uploads``) come once for each page.
        """

    def stat(self, key: str) -> ObjectStat:
        """See StorageDriver."""
        return self.around("stat", key, lambda: self.inner.stat(key))

    def stat_links(self, key: str) -> LinkedStat:
        """See StorageDriver."""
        return self.around("stat_links", key, lambda: self.inner.stat_links(key))

    def read(self, key: str, *, max_bytes: int) -> tuple[bytes, ObjectStat]:
        """See StorageDriver."""
        return self.around("read", key, lambda: self.inner.read(key, max_bytes=max_bytes))

    def open(self, key: str, *, offset: int = 0, length: int | None = None) -> ObjectReader:
        """See StorageDriver."""
        reader = self.around("open", key, lambda: self.inner.open(key, offset=offset, length=length))
        return _Reader(self, key, reader)

    def write(self, key: str, data: bytes, *, if_etag: str | None = None, if_absent: bool = False) -> ObjectStat:
        """See StorageDriver."""
        return self.around("write", key, lambda: self.inner.write(key, data, if_etag=if_etag, if_absent=if_absent))

    def append(self, key: str, data: bytes) -> None:
        """See StorageDriver."""
        self.around("append", key, lambda: self.inner.append(key, data))

    def list(self, prefix: str, *, after: str = "") -> Iterator[tuple[str, ObjectStat]]:
        """See StorageDriver."""
        return self._pages("list", prefix, self.inner.list(prefix, after=after))

    def children(self, prefix: str) -> Iterator[Child]:
        """See StorageDriver."""
        return self._pages("children", prefix, self.inner.children(prefix))

    def delete(self, keys: Iterable[str]) -> None:
        """See StorageDriver. One operation, whose key is empty, for all ``keys``."""
        self.around("delete", "", lambda: self.inner.delete(keys))

    def delete_once(self, key: str, *, etag: str, deadline: float) -> None:
        """See StorageDriver."""
        self.around("delete_once", key, lambda: self.inner.delete_once(key, etag=etag, deadline=deadline))

    def delete_several(self, objects: Sequence[tuple[str, str]], *, deadline: float) -> Sequence[StorageError | None]:
        """See StorageDriver. One operation, whose key is empty, for all of them."""
        return self.around("delete_several", "", lambda: self.inner.delete_several(objects, deadline=deadline))

    def link(self, source: str, target: str) -> ObjectStat:
        """See StorageDriver."""
        return self.around("link", target, lambda: self.inner.link(source, target))

    def copy(self, source: str, target: str, *, size: int, if_etag: str) -> ObjectStat:
        """See StorageDriver. One operation on the target."""
        return self.around("copy", target, lambda: self.inner.copy(source, target, size=size, if_etag=if_etag))

    def presign(self, key: str, *, seconds: int) -> str:
        """See StorageDriver. No operation: the store is not asked."""
        return self.inner.presign(key, seconds=seconds)

    def start_upload(self, upload_id: str, *, readable: bool = False) -> UploadState:
        """See StorageDriver."""
        return self.around("start_upload", upload_id, lambda: self.inner.start_upload(upload_id, readable=readable))

    def open_upload(self, upload_id: str) -> UploadWriter:
        """See StorageDriver."""
        return _Writer(
            self, upload_id, self.around("open_upload", upload_id, lambda: self.inner.open_upload(upload_id))
        )

    def has_upload(self, upload_id: str) -> bool:
        """See StorageDriver."""
        return self.around("has_upload", upload_id, lambda: self.inner.has_upload(upload_id))

    def read_upload(self, upload_id: str, state: UploadState, *, size: int, offset: int = 0) -> ObjectReader:
        """See StorageDriver."""
        reader = self.around(
            "read_upload", upload_id, lambda: self.inner.read_upload(upload_id, state, size=size, offset=offset)
        )
        return _Reader(self, upload_id, reader)

    def discard_upload(self, upload_id: str, state: UploadState | None = None) -> None:
        """See StorageDriver."""
        self.around("discard_upload", upload_id, lambda: self.inner.discard_upload(upload_id, state))

    def uploads(self) -> Iterator[UploadEntry]:
        """See StorageDriver."""
        return self._pages("uploads", "", self.inner.uploads())

    def check(self) -> None:
        """See StorageDriver."""
        self.around("check", "", self.inner.check)

    def close(self) -> None:
        """See StorageDriver."""
        self.inner.close()

    def _pages(self, operation: str, prefix: str, entries: Iterator[T]) -> Iterator[T]:
        while page := self.around(operation, prefix, lambda: tuple(islice(entries, self.page))):
            yield from page


class _Reader(WrappedReader):
    """A reader whose reads go through its decorator; bytes that leave by ``fileno`` do not."""

    def __init__(self, driver: DriverDecorator, key: str, inner: ObjectReader) -> None:
        super().__init__(inner)
        self._driver = driver
        self._key = key

    def read(self, size: int) -> bytes:
        return self._driver.around("reader.read", self._key, lambda: self._inner.read(size))

    def fileno(self) -> int | None:
        return self._inner.fileno()


class _Writer:
    """A writer whose operations go through its decorator; giving the right back does not, because it must happen."""

    def __init__(self, driver: DriverDecorator, upload_id: str, inner: UploadWriter) -> None:
        self._driver = driver
        self._upload_id = upload_id
        self._inner = inner

    @property
    def is_new(self) -> bool:
        return self._inner.is_new

    def resume(self, state: UploadState, *, offset: int, key: str | None = None) -> None:
        self._driver.around("writer.resume", self._upload_id, lambda: self._inner.resume(state, offset=offset, key=key))

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._driver.around("writer.write", self._upload_id, lambda: self._inner.write(data))

    @property
    def held(self) -> int:
        return self._inner.held

    def spill(self) -> None:
        self._driver.around("writer.spill", self._upload_id, self._inner.spill)

    def flush(self) -> UploadState:
        return self._driver.around("writer.flush", self._upload_id, self._inner.flush)

    def read(self) -> ObjectReader:
        return _Reader(
            self._driver, self._upload_id, self._driver.around("writer.read", self._upload_id, self._inner.read)
        )

    def publish(self, key: str, *, replace: bool = False) -> ObjectStat:
        return self._driver.around("writer.publish", key, lambda: self._inner.publish(key, replace=replace))

    def close(self) -> None:
        self._inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
