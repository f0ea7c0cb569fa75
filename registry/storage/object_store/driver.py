"""*Bucket driver*: what drivers of object stores share: keys that are checked, and own keys that are hidden."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from registry.storage.driver import StorageDriver, UploadEntry, UploadState
from registry.storage.errors import PathNotFound, PreconditionFailed, UnsupportedOperation
from registry.storage.keys import check_key, check_prefix, check_upload_id, is_own
from registry.storage.object_store.objects import ABSENT
from registry.storage.object_store.reader import UploadReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from registry.storage.driver import Capabilities, Child, ObjectStat
    from registry.storage.object_store.objects import BucketObjects
    from registry.storage.object_store.reader import Flushed, ResumingReader

UPLOADS = ".uploads/"
"""What the keys begin with of what is gathered for uploads: then comes the upload id."""


class BucketDriver(StorageDriver):
    """Objects below a root of a bucket, shared by all replicas. Uploads are known by the sessions that have them.

    The driver of a store adds ``name``, ``open_upload`` and ``close``, and ``copy`` and ``presign`` where it has them.
    """

    def __init__(self, objects: BucketObjects, capabilities: Capabilities) -> None:
        self.capabilities = capabilities
        self._objects = objects

    # ---- objects

    def stat(self, key: str) -> ObjectStat:
        """See StorageDriver."""
        check_key(key)
        return self._objects.stat(key)

    def read(self, key: str, *, max_bytes: int) -> tuple[bytes, ObjectStat]:
        """See StorageDriver."""
        check_key(key)
        return self._objects.read(key, max_bytes=max_bytes)

    def open(self, key: str, *, offset: int = 0, length: int | None = None) -> ResumingReader:
        """See StorageDriver."""
        check_key(key)
        return self._objects.open(key, offset=offset, length=length)

    def write(self, key: str, data: bytes, *, if_etag: str | None = None, if_absent: bool = False) -> ObjectStat:
        """See StorageDriver."""
        check_key(key)
        if if_etag == ABSENT:  # no object has an empty version, and stores would take it for another condition
            raise PreconditionFailed(key)
        over = ABSENT if if_absent else if_etag
        return self._objects.put(key, data) if over is None else self._objects.put_if(key, data, over)

    def list(self, prefix: str, *, after: str = "") -> Iterator[tuple[str, ObjectStat]]:
        """See StorageDriver."""
        check_prefix(prefix)
        found = self._objects.keys(f"{prefix}/" if prefix else "", after)
        return ((key, stat) for key, stat in found if not is_own(key))

    def children(self, prefix: str) -> Iterator[Child]:
        """See StorageDriver."""
        check_prefix(prefix)
        below = f"{prefix}/" if prefix else ""
        return (child for child in self._objects.children(below) if not is_own(below + child.name))

    def delete(self, keys: Iterable[str]) -> None:
        """See StorageDriver. Nothing is deleted where one is no key."""
        checked = []
        for key in keys:
            check_key(key)
            checked.append(key)
        self._objects.delete(checked)

    def delete_once(self, key: str, *, etag: str, deadline: float) -> None:
        """See StorageDriver."""
        check_key(key)
        with suppress(PathNotFound):
            self._objects.delete_once(key, etag, deadline)

    # ---- uploads

    def start_upload(self, upload_id: str, *, readable: bool = False) -> UploadState:  # noqa: ARG002 - for a driver that needs to know
        """See StorageDriver. Nothing is written."""
        check_upload_id(upload_id)
        return UploadState()

    def read_upload(self, upload_id: str, state: UploadState, *, size: int, offset: int = 0) -> UploadReader:
        """See StorageDriver."""
        check_upload_id(upload_id)
        flushed = self._flushed(upload_id, state)
        return UploadReader(upload_id, self._open_part, flushed, size=size, offset=offset)

    def discard_upload(self, upload_id: str, state: UploadState | None = None) -> None:
        """See StorageDriver. A state without a note says that the store holds nothing."""
        check_upload_id(upload_id)
        if state is None or state.note:
            self._objects.delete([key for key, _ in self._objects.keys(f"{UPLOADS}{upload_id}/")])

    def uploads(self) -> Iterator[UploadEntry]:
        """See StorageDriver."""
        newest: dict[str, float] = {}
        for upload_id, modified in self._gathered():
            newest[upload_id] = max(newest.get(upload_id, 0.0), modified)
        return iter([UploadEntry(upload_id, modified) for upload_id, modified in newest.items()])

    def _flushed(self, upload_id: str, state: UploadState) -> Flushed:
        """Where the bytes of an upload with this state are. Raises UnsupportedOperation where they cannot be read."""
        raise UnsupportedOperation(
            upload_id, f"{self.name} gives no bytes of an upload with {len(state.tail)} in memory"
        )

    def _open_part(self, key: str, offset: int, length: int) -> ResumingReader:
        return self._objects.open(key, offset=offset, length=length)

    def _gathered(self) -> Iterator[tuple[str, float]]:
        """What the store holds for uploads: their ids, in any order and often, and when they were written to."""
        return ((key.split("/")[1], stat.modified) for key, stat in self._objects.keys(UPLOADS))

    # ---- the store

    def close(self) -> None:
        """See StorageDriver. Nothing is held unless the driver says so."""

    def check(self) -> None:
        """See StorageDriver."""
        next(self._objects.pages("", most=1), None)
