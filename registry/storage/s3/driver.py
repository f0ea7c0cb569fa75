"""The driver of an S3 bucket: each blob once, index updates by conditional writes."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from registry.storage.driver import OBJECT_STORE, UploadState
from registry.storage.errors import UnsupportedOperation
from registry.storage.keys import check_key, check_upload_id
from registry.storage.object_store.driver import UPLOADS, BucketDriver
from registry.storage.object_store.parts import PartBuffers
from registry.storage.object_store.reader import Flushed
from registry.storage.s3.checksums import S3Checks
from registry.storage.s3.client import S3Bucket
from registry.storage.s3.multipart import COPY_BYTES, COPY_PART, S3Multiparts
from registry.storage.s3.objects import MOST_DELETED, S3Objects
from registry.storage.s3.upload import S3UploadWriter, abort, objects_of
from registry.storage.s3.upload_state import S3UploadState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.config.sections import S3Settings
    from registry.storage.driver import ObjectStat
    from registry.storage.middleware.metrics import Observe
    from registry.storage.s3.multipart import Pending


class S3Driver(BucketDriver):
    """See BucketDriver."""

    name = "s3"

    def __init__(
        self, settings: S3Settings, root: str, *, spare_parts: int = 4, observe: Observe | None = None
    ) -> None:
        """``spare_parts``: how many uploads may send one part while another fills. ``observe`` hears of each request.

        Raises StoreMisconfigured where the settings do not say how to find the bucket.
        """
        self._bucket = S3Bucket(settings, root, observe)
        objects = S3Objects(self._bucket)
        self._multiparts = S3Multiparts(self._bucket, objects, S3Checks(self._bucket, settings.checksums))
        self._buffers = PartBuffers(settings.part_size, spare_parts)
        capabilities = replace(
            OBJECT_STORE,
            copies=True,
            presigned=True,
            part_bytes=settings.part_size,
            copy_bytes=COPY_BYTES,
            copy_part_bytes=COPY_PART,
            delete_batch=MOST_DELETED,
            readable_uploads=True,
        )
        super().__init__(objects, capabilities)

    def copy(self, source: str, target: str, *, size: int, if_etag: str) -> ObjectStat:
        """See StorageDriver."""
        check_key(source)
        check_key(target)
        return self._multiparts.copy_version(source, target, size, if_etag)

    def presign(self, key: str, *, seconds: int) -> str:
        """See StorageDriver."""
        check_key(key)
        return self._bucket.presign(key, seconds)

    def start_upload(self, upload_id: str, *, readable: bool = False) -> UploadState:
        """See StorageDriver. Nothing is written."""
        check_upload_id(upload_id)
        return UploadState(S3UploadState(readable=readable).note())

    def open_upload(self, upload_id: str) -> S3UploadWriter:
        """See StorageDriver."""
        return S3UploadWriter(self._objects, self._multiparts, upload_id, self._buffers)

    def discard_upload(self, upload_id: str, state: UploadState | None = None) -> None:
        """See StorageDriver."""
        check_upload_id(upload_id)
        if state is not None:
            abort(self._objects, self._multiparts, upload_id, S3UploadState.parse(state.note))
            return
        self._multiparts.drop_copy(upload_id)
        for pending in self._multiparts.pending():
            if _entry_of(pending) == upload_id:
                self._multiparts.abort(pending.target, pending.multipart)
        super().discard_upload(upload_id)

    def _flushed(self, upload_id: str, state: UploadState) -> Flushed:
        """See BucketDriver."""
        plan = S3UploadState.parse(state.note)
        if plan.target:
            raise UnsupportedOperation(upload_id, "it was not started as readable: its parts are in a multipart upload")
        return Flushed(objects_of(upload_id, plan), state.tail)

    def close(self) -> None:
        """See StorageDriver."""
        self._multiparts.close()
        self._bucket.close()

    def _gathered(self) -> Iterator[tuple[str, float]]:
        """See BucketDriver. Multipart uploads at final keys have entries of their own."""
        yield from super()._gathered()
        for pending in self._multiparts.pending():
            yield _entry_of(pending), self._multiparts.touched(pending)


def _entry_of(pending: Pending) -> str:
    """What ``uploads()`` calls a multipart upload: the upload whose staging place it fills, or a name of its own."""
    if pending.target.startswith(UPLOADS):
        return pending.target.split("/")[1]
    return "part-" + hashlib.sha256(f"{pending.target}\0{pending.multipart}".encode()).hexdigest()[:32]
