"""The driver of a Google Cloud Storage bucket: each blob once, index updates by generations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.storage.driver import BlobLayout, Capabilities, Child, ObjectStat, StorageDriver, UploadEntry, UploadState
from registry.storage.errors import UnsupportedOperation
from registry.storage.gcs.batch_delete import MOST_DELETED
from registry.storage.gcs.client import GcsBucket
from registry.storage.gcs.objects import GcsObjects
from registry.storage.gcs.upload import GcsUploadWriter
from registry.storage.keys import check_key, check_prefix, check_upload_id, is_own
from registry.storage.object_store.parts import PartBuffers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from registry.config import GcsSettings
    from registry.storage.driver import ObjectReader
    from registry.storage.middleware.metrics import Observe


class GcsDriver(StorageDriver):
    """Objects below a root of a bucket, shared by all replicas. Uploads are known by the sessions that have them."""

    name = "gcs"

    def __init__(
        self, settings: GcsSettings, root: str, *, spare_parts: int = 4, observe: Observe | None = None
    ) -> None:
        """``spare_parts``: how many uploads may send one part while another fills. ``observe`` hears of each request.

        Raises StoreRefused when there are no credentials.
        """
        self._bucket = GcsBucket(settings, root, observe)
        self._objects = GcsObjects(self._bucket)
        self._buffers = PartBuffers(settings.part_size, spare_parts)
        self.capabilities = Capabilities(
            blob_layout=BlobLayout.SHARED,
            stat_is_local=False,
            appends=False,
            links=False,
            copies=True,
            exclusive_uploads=False,
            conditional_writes=True,
            external_writers=False,
            presigned=self._bucket.credentials.can_sign,
            part_bytes=settings.part_size,
            delete_batch=MOST_DELETED,
        )

    # ---- objects

    def stat(self, key: str) -> ObjectStat:
        """See StorageDriver."""
        check_key(key)
        return self._objects.stat(key)

    def read(self, key: str, *, max_bytes: int) -> tuple[bytes, ObjectStat]:
        """See StorageDriver."""
        check_key(key)
        return self._objects.read(key, max_bytes=max_bytes)

    def open(self, key: str, *, offset: int = 0, length: int | None = None) -> ObjectReader:
        """See StorageDriver."""
        check_key(key)
        return self._objects.open(key, offset=offset, length=length)

    def write(self, key: str, data: bytes, *, if_signature: str | None = None, if_absent: bool = False) -> ObjectStat:
        """See StorageDriver."""
        check_key(key)
        if if_absent or if_signature is not None:
            return self._objects.put_if(key, data, None if if_absent else if_signature)
        return self._objects.put(key, data)

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
        """See StorageDriver."""
        checked = []
        for key in keys:
            check_key(key)
            checked.append(key)
        self._objects.delete(checked)

    def copy(self, source: str, target: str, *, size: int, if_signature: str) -> ObjectStat:
        """See StorageDriver."""
        check_key(source)
        check_key(target)
        return self._objects.copy(source, target, size, if_signature)

    def presign(self, key: str, *, seconds: int) -> str:
        """See StorageDriver."""
        check_key(key)
        if not self.capabilities.presigned:
            raise UnsupportedOperation(key, "only the key of a service account (storage.gcs.credentials_file) signs")
        return self._bucket.presign(key, seconds)

    # ---- uploads

    def start_upload(self, upload_id: str) -> UploadState:
        """See StorageDriver. Nothing is written."""
        check_upload_id(upload_id)
        return UploadState()

    def open_upload(self, upload_id: str) -> GcsUploadWriter:
        """See StorageDriver."""
        check_upload_id(upload_id)
        return GcsUploadWriter(self._objects, upload_id, self._buffers)

    def discard_upload(self, upload_id: str, state: UploadState | None = None) -> None:
        """See StorageDriver. A state without a note says that the store holds nothing."""
        check_upload_id(upload_id)
        if state is None or state.note:
            self._objects.delete([key for key, _ in self._objects.keys(f".uploads/{upload_id}/")])

    def uploads(self) -> Iterator[UploadEntry]:
        """See StorageDriver."""
        found: dict[str, float] = {}
        for key, stat in self._objects.keys(".uploads/"):
            upload_id = key.split("/")[1]
            found[upload_id] = max(found.get(upload_id, 0.0), stat.modified)
        return iter([UploadEntry(upload_id, modified) for upload_id, modified in found.items()])

    # ---- the store

    def check(self) -> None:
        """See StorageDriver."""
        self._objects.check()

    def close(self) -> None:
        """See StorageDriver."""
        self._bucket.close()
