"""The driver of a Google Cloud Storage bucket: each blob once, index updates by generations."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from registry.storage.driver import OBJECT_STORE
from registry.storage.errors import UnsupportedOperation
from registry.storage.gcs.batch_delete import MOST_DELETED
from registry.storage.gcs.client import GcsBucket
from registry.storage.gcs.objects import GcsObjects
from registry.storage.gcs.upload import GcsUploadWriter
from registry.storage.gcs.upload_state import GCSUploadState
from registry.storage.keys import check_key
from registry.storage.object_store.driver import UPLOADS, BucketDriver
from registry.storage.object_store.parts import PartBuffers
from registry.storage.object_store.reader import Flushed

if TYPE_CHECKING:
    from registry.config.sections import GcsSettings
    from registry.storage.driver import ObjectStat, UploadState
    from registry.storage.middleware.metrics import Observe


class GcsDriver(BucketDriver):
    """See BucketDriver."""

    name = "gcs"
    _objects: GcsObjects

    def __init__(
        self, settings: GcsSettings, root: str, *, spare_parts: int = 4, observe: Observe | None = None
    ) -> None:
        """``spare_parts``: how many uploads may send one part while another fills. ``observe`` hears of each request.

        Raises StoreMisconfigured when there are no credentials.
        """
        self._bucket = GcsBucket(settings, root, observe)
        self._buffers = PartBuffers(settings.part_size, spare_parts)
        capabilities = replace(
            OBJECT_STORE,
            copies=True,
            presigned=self._bucket.credentials.can_sign,
            part_bytes=settings.part_size,
            delete_batch=MOST_DELETED,
            late_deletes=False,  # each names its generation
            readable_uploads=True,
        )
        super().__init__(GcsObjects(self._bucket), capabilities)

    def copy(self, source: str, target: str, *, size: int, if_etag: str) -> ObjectStat:
        """See StorageDriver."""
        check_key(source)
        check_key(target)
        return self._objects.copy(source, target, size, if_etag)

    def presign(self, key: str, *, seconds: int) -> str:
        """See StorageDriver."""
        check_key(key)
        if not self.capabilities.presigned:
            raise UnsupportedOperation(key, "only the key of a service account (storage.gcs.credentials_file) signs")
        return self._bucket.presign(key, seconds)

    def open_upload(self, upload_id: str) -> GcsUploadWriter:
        """See StorageDriver."""
        return GcsUploadWriter(self._objects, upload_id, self._buffers)

    def _flushed(self, upload_id: str, state: UploadState) -> Flushed:
        """See BucketDriver. Parts that were composed stay until the upload is discarded."""
        parts = GCSUploadState.parse(state.note).parts
        return Flushed([(f"{UPLOADS}{upload_id}/{part.name}", part.size) for part in parts], state.tail)

    def close(self) -> None:
        """See StorageDriver."""
        self._bucket.close()
