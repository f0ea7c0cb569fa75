"""The driver of an S3 bucket: each blob once, index updates by conditional writes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from registry.storage.driver import BlobLayout, Capabilities, Child, ObjectStat, StorageDriver, UploadEntry, UploadState
from registry.storage.errors import AlreadyExists, PreconditionFailed
from registry.storage.keys import check_key, check_prefix, check_upload_id, is_own
from registry.storage.object_store.parts import PartBuffers
from registry.storage.s3.checksums import S3Checks
from registry.storage.s3.client import S3Bucket
from registry.storage.s3.multipart import COPY_BYTES, COPY_PART, S3Multiparts
from registry.storage.s3.objects import MOST_DELETED, S3Objects
from registry.storage.s3.upload import S3UploadWriter, abort
from registry.storage.s3.upload_state import S3UploadState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from registry.config import S3Settings
    from registry.storage.middleware.metrics import Observe
    from registry.storage.s3.multipart import Pending
    from registry.storage.s3.objects import S3Reader


class S3Driver(StorageDriver):
    """Objects below a root of a bucket, shared by all replicas. Uploads are known by the sessions that have them."""

    name = "s3"

    def __init__(
        self, settings: S3Settings, root: str, *, spare_parts: int = 4, observe: Observe | None = None
    ) -> None:
        """``spare_parts``: how many uploads may send one part while another fills. ``observe`` hears of each request.

        Raises StoreRefused when there are no credentials.
        """
        self.capabilities = Capabilities(
            blob_layout=BlobLayout.SHARED,
            stat_is_local=False,
            appends=False,
            links=False,
            copies=True,
            exclusive_uploads=False,
            conditional_writes=True,
            external_writers=False,
            presigned=True,
            part_bytes=settings.part_size,
            copy_bytes=COPY_BYTES,
            copy_part_bytes=COPY_PART,
            delete_batch=MOST_DELETED,
        )
        self._bucket = S3Bucket(settings, root, observe)
        self._objects = S3Objects(self._bucket)
        self._multiparts = S3Multiparts(self._bucket, self._objects, S3Checks(self._bucket, settings.checksums))
        self._buffers = PartBuffers(settings.part_size, spare_parts)

    # ---- objects

    def stat(self, key: str) -> ObjectStat:
        """See StorageDriver."""
        check_key(key)
        return self._objects.stat(key)

    def read(self, key: str, *, max_bytes: int) -> tuple[bytes, ObjectStat]:
        """See StorageDriver."""
        check_key(key)
        return self._objects.read(key, max_bytes=max_bytes)

    def open(self, key: str, *, offset: int = 0, length: int | None = None) -> S3Reader:
        """See StorageDriver."""
        check_key(key)
        return self._objects.open(key, offset=offset, length=length)

    def write(self, key: str, data: bytes, *, if_signature: str | None = None, if_absent: bool = False) -> ObjectStat:
        """See StorageDriver."""
        check_key(key)
        if if_absent:
            return self._objects.put_if(key, data, {"if-none-match": "*"}, AlreadyExists)
        if if_signature is not None:
            return self._objects.put_if(key, data, {"if-match": if_signature}, PreconditionFailed)
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
        return self._multiparts.copy_version(source, target, size, if_signature)

    def presign(self, key: str, *, seconds: int) -> str:
        """See StorageDriver."""
        check_key(key)
        return self._bucket.presign(key, seconds)

    # ---- uploads

    def start_upload(self, upload_id: str) -> UploadState:
        """See StorageDriver. Nothing is written."""
        check_upload_id(upload_id)
        return UploadState()

    def open_upload(self, upload_id: str) -> S3UploadWriter:
        """See StorageDriver."""
        check_upload_id(upload_id)
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
        self._objects.delete([key for key, _ in self._objects.keys(f".uploads/{upload_id}/")])

    def uploads(self) -> Iterator[UploadEntry]:
        """See StorageDriver. Multipart uploads at final keys have entries of their own."""
        found: dict[str, float] = {}
        for key, stat in self._objects.keys(".uploads/"):
            upload_id = key.split("/")[1]
            found[upload_id] = max(found.get(upload_id, 0.0), stat.modified)
        for pending in self._multiparts.pending():
            upload_id = _entry_of(pending)
            found[upload_id] = max(found.get(upload_id, 0.0), self._multiparts.touched(pending))
        return iter([UploadEntry(upload_id, modified) for upload_id, modified in found.items()])

    # ---- the store

    def check(self) -> None:
        """See StorageDriver."""
        self._bucket.ask("", self._bucket.client.list_objects_v2, Prefix=self._bucket.root, MaxKeys=1)

    def close(self) -> None:
        """See StorageDriver."""
        self._multiparts.close()
        self._bucket.close()


def _entry_of(pending: Pending) -> str:
    """What ``uploads()`` calls a multipart upload: the upload whose staging place it fills, or a name of its own."""
    if pending.target.startswith(".uploads/"):
        return pending.target.split("/")[1]
    return "part-" + hashlib.sha256(f"{pending.target}\0{pending.multipart}".encode()).hexdigest()[:32]
