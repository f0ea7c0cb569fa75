"""*Keeping writer*: an upload whose bytes are kept when it is published, if they all passed through this process.

Tests: ``tests/storage/middleware/tiered/test_driver.py``.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Self

from registry.storage.keys import sha256_of
from registry.storage.middleware.tiered.cached_file import Origin

if TYPE_CHECKING:
    from registry.storage.driver import ObjectReader, ObjectStat, UploadState, UploadWriter
    from registry.storage.middleware.tiered.directory import CacheDirectory
    from registry.storage.middleware.tiered.filling import Filling

MOST_WAITING: Final = 32
"""Uploads between two of their requests whose bytes are kept; the one that waits for longest loses them."""


class WaitingFillings:
    """What was written of uploads that no writer has now, in this process. Any thread."""

    def __init__(self, directory: CacheDirectory) -> None:
        self.directory = directory
        self._lock = threading.Lock()
        self._waiting: dict[str, Filling] = {}

    def take(self, upload_id: str, offset: int) -> Filling | None:
        """The bytes of an upload up to this offset, to go on with; new ones at 0; None if there are none."""
        with self._lock:
            filling = self._waiting.pop(upload_id, None)
        if filling is not None and filling.position != offset:
            filling.drop()
            filling = None
        if filling is None and not offset:
            filling = self.directory.begin_unnamed()
        return filling

    def put(self, upload_id: str, filling: Filling) -> None:
        """Keep bytes for the next writer."""
        with self._lock:
            replaced = [self._waiting.pop(upload_id, None)]
            self._waiting[upload_id] = filling
            if len(self._waiting) > MOST_WAITING:
                replaced.append(self._waiting.pop(next(iter(self._waiting))))
        for each in replaced:
            if each is not None:
                each.drop()

    def drop(self, upload_id: str) -> None:
        """Have nothing of an upload."""
        with self._lock:
            filling = self._waiting.pop(upload_id, None)
        if filling is not None:
            filling.drop()

    def close(self) -> None:
        """Have nothing at all."""
        with self._lock:
            fillings = list(self._waiting.values())
            self._waiting.clear()
        for filling in fillings:
            filling.drop()


class KeepingWriter:
    """See UploadWriter."""

    def __init__(self, inner: UploadWriter, upload_id: str, waiting: WaitingFillings) -> None:
        self._inner = inner
        self._upload_id = upload_id
        self._waiting = waiting
        self._filling: Filling | None = None
        self._flushed = -1
        """How many bytes the session may have after the last flush."""

    @property
    def is_new(self) -> bool:
        """See UploadWriter."""
        return self._inner.is_new

    def resume(self, state: UploadState, *, offset: int, key: str | None = None) -> None:
        """See UploadWriter."""
        self._inner.resume(state, offset=offset, key=key)
        if self._filling is not None:
            self._filling.drop()
        self._filling = self._waiting.take(self._upload_id, offset)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See UploadWriter."""
        self._inner.write(data)
        if self._filling is not None:
            self._filling.write(data)

    @property
    def held(self) -> int:
        """See UploadWriter."""
        return self._inner.held

    def spill(self) -> None:
        """See UploadWriter."""
        self._inner.spill()

    def flush(self) -> UploadState:
        """See UploadWriter."""
        state = self._inner.flush()
        if self._filling is not None:
            self._flushed = self._filling.position
        return state

    def read(self) -> ObjectReader:
        """See UploadWriter."""
        return self._inner.read()

    def publish(self, key: str, *, replace: bool = False) -> ObjectStat:
        """See UploadWriter. That the bytes cannot be kept is no failure."""
        stat = self._inner.publish(key, replace=replace)
        digest = sha256_of(key)
        filling, self._filling = self._filling, None
        if digest is not None and (filling is None or not filling.keep(Origin(digest, key, stat))):
            self._waiting.directory.forget_other(digest, stat)
        if filling is not None:
            filling.drop()
        return stat

    def close(self) -> None:
        """See UploadWriter."""
        filling, self._filling = self._filling, None
        if filling is not None:
            if not filling.is_over and filling.position == self._flushed:
                self._waiting.put(self._upload_id, filling)
            else:
                filling.drop()
        self._inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
