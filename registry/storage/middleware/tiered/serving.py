"""*Serving driver*: what clients read, from a directory of this machine if that has it, else from the store, and kept.

It is only asked for what rows say is there, and a file is believed for the bytes of its digest alone.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from registry.storage.errors import ObjectTooLarge, PathNotFound, StorageError
from registry.storage.keys import check_key, sha256_of
from registry.storage.middleware.base import DriverDecorator
from registry.storage.middleware.tiered.cached_file import DamagedFile, Origin
from registry.storage.middleware.tiered.readers import CachedReader, KeepingReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.storage.driver import ObjectReader, ObjectStat, StorageDriver, UploadState, UploadWriter
    from registry.storage.middleware.tiered.directory import CacheDirectory

T = TypeVar("T")


class ServingDriver(DriverDecorator):
    """Objects whose keys end in ``sha256/`` and a digest may come from a directory; all else is the inner driver's.

    Such an object is found there also while the store does not answer, or has lost it: a scrub finds that.
    """

    def __init__(self, inner: StorageDriver, blobs: CacheDirectory | None, metadata: CacheDirectory | None) -> None:
        super().__init__(inner)
        self._blobs = blobs
        self._metadata = metadata

    def around(self, operation: str, key: str, call: Callable[[], T]) -> T:  # noqa: ARG002 - all are alike
        """See DriverDecorator."""
        return call()

    def open(self, key: str, *, offset: int = 0, length: int | None = None) -> ObjectReader:
        """See StorageDriver. An object that is read whole, from the store, is kept."""
        digest = sha256_of(key)
        if digest is None or self._blobs is None:
            return self.inner.open(key, offset=offset, length=length)
        check_key(key)
        begin = time.perf_counter()
        observer = self._blobs.observer
        observer.begin(key, digest)
        cached = self._blobs.open(digest, key)
        if cached is not None:
            observer.got(key, "hit", time.perf_counter() - begin)
            return CachedReader(
                self._blobs,
                cached,
                offset=offset,
                length=length,
                open_inner=lambda start, count: self.inner.open(key, offset=start, length=count),
            )
        reader = self._ask(self._blobs, key, begin, lambda: self.inner.open(key, offset=offset, length=length))
        size = reader.stat.size
        is_whole = size and not offset and (length is None or length >= size)
        filling = self._blobs.begin(digest, size) if is_whole else None
        return reader if filling is None else KeepingReader(reader, filling, Origin(digest, key, reader.stat))

    def read(self, key: str, *, max_bytes: int) -> tuple[bytes, ObjectStat]:
        """See StorageDriver. What the store gives is kept."""
        digest = sha256_of(key)
        if digest is None or self._metadata is None:
            return self.inner.read(key, max_bytes=max_bytes)
        check_key(key)
        begin = time.perf_counter()
        self._metadata.observer.begin(key, digest)
        found = self._read_cached(self._metadata, digest, key, max_bytes)
        if found is not None:
            self._metadata.observer.got(key, "hit", time.perf_counter() - begin)
            return found
        data, stat = self._ask(self._metadata, key, begin, lambda: self.inner.read(key, max_bytes=max_bytes))
        self._metadata.keep(digest, key, stat, data)
        return data, stat

    def open_upload(self, upload_id: str) -> UploadWriter:
        """See StorageDriver."""
        return self.inner.open_upload(upload_id)

    def read_upload(self, upload_id: str, state: UploadState, *, size: int, offset: int = 0) -> ObjectReader:
        """See StorageDriver."""
        return self.inner.read_upload(upload_id, state, size=size, offset=offset)

    @staticmethod
    def _ask(directory: CacheDirectory, key: str, begin: float, call: Callable[[], T]) -> T:
        """Ask the store, and note what came of it."""
        observer = directory.observer
        try:
            found = call()
        except PathNotFound:
            observer.got(key, "fault_miss", time.perf_counter() - begin)
            raise
        except ObjectTooLarge:
            raise
        except StorageError as error:
            observer.lost(key, error, time.perf_counter() - begin)
            raise
        observer.got(key, "fault_hit", time.perf_counter() - begin)
        return found

    @staticmethod
    def _read_cached(
        directory: CacheDirectory, digest: str, key: str, max_bytes: int
    ) -> tuple[bytes, ObjectStat] | None:
        cached = directory.open(digest, key)
        if cached is None:
            return None
        stat = cached.origin.stat
        try:
            if stat.size > max_bytes:
                raise ObjectTooLarge(key, f"{stat.size} bytes, more than {max_bytes}")
            buffer = memoryview(bytearray(stat.size))
            cached.read_blocks(0, buffer)
        except (OSError, DamagedFile) as error:
            directory.reject(digest, error)
            return None
        finally:
            cached.close()
        directory.observer.gave(stat.size)
        return bytes(buffer), stat
