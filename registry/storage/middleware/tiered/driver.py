"""*Tiered driver*: a store with directories of this machine that keep what is pushed and forget what is deleted.

What it reads is the store's: a collection, a scrub and a rebuild prove something of the store, and no copy may answer
for it. Clients are served from ``serving``, which may answer from a directory.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, TypeVar

from registry.storage.driver import BlobLayout
from registry.storage.errors import UnsupportedOperation
from registry.storage.keys import sha256_of
from registry.storage.middleware.base import DriverDecorator
from registry.storage.middleware.tiered.serving import ServingDriver
from registry.storage.middleware.tiered.writer import KeepingWriter, WaitingFillings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from registry.storage.driver import ObjectReader, ObjectStat, StorageDriver, UploadState, UploadWriter
    from registry.storage.errors import StorageError
    from registry.storage.middleware.tiered.directory import CacheDirectory

T = TypeVar("T")


class TieredDriver(DriverDecorator):
    """Over any driver whose blobs are shared by all repositories."""

    def __init__(
        self, inner: StorageDriver, *, blobs: CacheDirectory | None = None, metadata: CacheDirectory | None = None
    ) -> None:
        """None where a directory is not wanted. Raises UnsupportedOperation."""
        super().__init__(inner)
        if self.capabilities.blob_layout is not BlobLayout.SHARED:
            raise UnsupportedOperation("", f"{self.name} has its blobs in repositories, on a disk: nothing is cached")
        self._metadata = metadata
        self._directories = [each for each in (blobs, metadata) if each is not None]
        self._waiting = WaitingFillings(blobs) if blobs is not None else None
        self._serving = ServingDriver(self, blobs, metadata)

    @property
    def serving(self) -> StorageDriver:
        """See StorageDriver."""
        return self._serving

    def around(self, operation: str, key: str, call: Callable[[], T]) -> T:  # noqa: ARG002 - all are alike
        """See DriverDecorator."""
        return call()

    def open(self, key: str, *, offset: int = 0, length: int | None = None) -> ObjectReader:
        """See StorageDriver."""
        return self.inner.open(key, offset=offset, length=length)

    def read_upload(self, upload_id: str, state: UploadState, *, size: int, offset: int = 0) -> ObjectReader:
        """See StorageDriver."""
        return self.inner.read_upload(upload_id, state, size=size, offset=offset)

    def write(self, key: str, data: bytes, *, if_etag: str | None = None, if_absent: bool = False) -> ObjectStat:
        """See StorageDriver. A manifest is kept."""
        digest = sha256_of(key)
        if digest is None:
            return self.inner.write(key, data, if_etag=if_etag, if_absent=if_absent)
        self._forget(digest)
        stat = self.inner.write(key, data, if_etag=if_etag, if_absent=if_absent)
        if self._metadata is not None and sha256(data).hexdigest() == digest:
            self._metadata.keep(digest, key, stat, data)
        return stat

    def delete(self, keys: Iterable[str]) -> None:
        """See StorageDriver."""
        known = list(keys)
        with _Forgetting(self, known):
            self.inner.delete(known)

    def delete_once(self, key: str, *, etag: str, deadline: float) -> None:
        """See StorageDriver."""
        with _Forgetting(self, [key]):
            self.inner.delete_once(key, etag=etag, deadline=deadline)

    def delete_several(self, objects: Sequence[tuple[str, str]], *, deadline: float) -> Sequence[StorageError | None]:
        """See StorageDriver."""
        with _Forgetting(self, [key for key, _ in objects]):
            return self.inner.delete_several(objects, deadline=deadline)

    def copy(self, source: str, target: str, *, size: int, if_etag: str) -> ObjectStat:
        """See StorageDriver."""
        with _Forgetting(self, [target]):
            return self.inner.copy(source, target, size=size, if_etag=if_etag)

    def open_upload(self, upload_id: str) -> UploadWriter:
        """See StorageDriver."""
        writer = self.inner.open_upload(upload_id)
        return writer if self._waiting is None else KeepingWriter(writer, upload_id, self._waiting)

    def discard_upload(self, upload_id: str, state: UploadState | None = None) -> None:
        """See StorageDriver."""
        if self._waiting is not None:
            self._waiting.drop(upload_id)
        self.inner.discard_upload(upload_id, state)

    def close(self) -> None:
        """See StorageDriver."""
        if self._waiting is not None:
            self._waiting.close()
        for directory in self._directories:
            directory.close()
        self.inner.close()

    def _forget(self, digest: str) -> None:
        for directory in self._directories:
            directory.forget(digest)


class _Forgetting:
    """Forgets what is kept of keys, whether or not the store did with them what it was told."""

    def __init__(self, driver: TieredDriver, keys: Iterable[str]) -> None:
        self._driver = driver
        self._digests = [digest for digest in map(sha256_of, keys) if digest is not None]

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        for digest in self._digests:
            self._driver._forget(digest)  # noqa: SLF001 - a part of it
