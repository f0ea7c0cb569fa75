"""Objects of a bucket that come in parts: multipart uploads, and copies of what is too large for one request."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from registry.storage.driver import ObjectStat
from registry.storage.errors import PathNotFound, PreconditionFailed, StorageUnavailable
from registry.storage.object_store.parts import crc32c_of
from registry.storage.s3.checksums import HEADER
from registry.storage.s3.requests import ObjectRequest
from registry.storage.s3.responses import tag_of
from registry.storage.s3.signature import UNSIGNED
from registry.storage.s3.upload_state import Part
from registry.waiting import waiting

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

    from registry.storage.s3.checksums import S3Checks
    from registry.storage.s3.client import S3Bucket
    from registry.storage.s3.objects import S3Objects

OURS = (".uploads/", "storage/blobs/")
"""What the keys begin with that large objects are gathered at."""
COPY_BYTES = 256 << 20
"""Bytes that one request copies. Amazon's store takes seconds for them."""
COPY_PART = 128 << 20
"""Bytes of each part of a larger copy, unless that made too many."""
COPIES_AT_ONCE = 8
"""Parts that a process lets be copied at the same time."""
MOST_PARTS = 10_000
"""Parts of one multipart upload, at most."""
_COPY = "copy-"
"""What the uploads begin with that are copies in parts."""
_MOST_NOTED = 16 << 10
"""Bytes of a key, which has 1,024 at most, and of the store's name of a multipart upload."""
_ALWAYS: Mapping[str, str] = {}
"""No condition."""


class Pending(NamedTuple):
    """A multipart upload that was neither completed nor aborted."""

    target: str
    """The key that the object would have."""
    multipart: str
    """The store's name of it."""
    began: float
    """Seconds since the epoch."""


class S3Multiparts:
    """Any thread."""

    def __init__(self, bucket: S3Bucket, objects: S3Objects, checks: S3Checks) -> None:
        self._bucket = bucket
        self._objects = objects
        self._client = bucket.client
        self._checks = checks
        self._copying = ThreadPoolExecutor(COPIES_AT_ONCE, thread_name_prefix="copy")

    def close(self) -> None:
        """End the threads."""
        self._copying.shutdown(wait=True)

    def create(self, target: str) -> tuple[str, bool]:
        """Begin an object in parts; the store's name of it, and whether each part has to have a CRC-32C."""
        checked = self._checks.compares()
        algorithm: dict[str, str] = {"ChecksumAlgorithm": "CRC32C"} if checked else {}
        return self._bucket.call(target, self._client.create_multipart_upload, **algorithm)["UploadId"], checked

    def send(self, target: str, multipart: str, number: int, data: bytes | bytearray, *, checked: bool) -> Part:
        """Send a part, replacing one of the same number. Raises PathNotFound."""
        crc32c = crc32c_of(data) if checked else ""
        sent = self._bucket.send(
            target,
            ObjectRequest(
                "upload_part",
                "PUT",
                {HEADER: crc32c} if checked else {},
                {"partNumber": str(number), "uploadId": multipart},
                data,
                UNSIGNED if checked else None,
            ),
        )
        return Part(tag_of(target, sent.headers), crc32c)

    def complete(self, target: str, multipart: str, parts: Sequence[Part], size: int, *, replace: bool) -> ObjectStat:
        """Put the parts together; without ``replace`` an object of that size is the same one.

        Raises PathNotFound when the store does not know the multipart upload, also where this was done before.
        """
        if replace:
            return self._complete(target, multipart, parts, size)
        try:
            return self._complete(target, multipart, parts, size, IfNoneMatch="*")
        except PreconditionFailed:
            there = self._objects.same(target, size)
            if there is None:
                return self._complete(target, multipart, parts, size)
        self.abort(target, multipart)
        return there

    def abort(self, target: str, multipart: str) -> None:
        """Drop the parts. A missing multipart upload is no error."""
        with suppress(PathNotFound):
            self._bucket.call(target, self._client.abort_multipart_upload, UploadId=multipart)

    def touched(self, pending: Pending) -> float:
        """When its last part came, or it began; seconds since the epoch."""
        last, more = pending.began, 0
        while True:
            try:
                page = self._bucket.call(
                    pending.target, self._client.list_parts, UploadId=pending.multipart, PartNumberMarker=more
                )
            except PathNotFound:
                return last  # it was completed or aborted meanwhile
            for part in page.get("Parts", ()):
                last = max(last, part["LastModified"].timestamp())
            if not page.get("IsTruncated"):
                return last
            more = page["NextPartNumberMarker"]

    def pending(self) -> Iterator[Pending]:
        """Every multipart upload of ours: another registry may have some below the same root."""
        more: dict[str, Any] = {}
        while True:
            page = self._bucket.ask("", self._client.list_multipart_uploads, Prefix=self._bucket.root, **more)
            for entry in page.get("Uploads", ()):
                key = entry["Key"].removeprefix(self._bucket.root)
                if key.startswith(OURS):
                    yield Pending(key, entry["UploadId"], entry["Initiated"].timestamp())
            if not page.get("IsTruncated"):
                return
            more = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def copy(self, source: str, target: str, size: int) -> ObjectStat:
        """Copy an object of ``size`` bytes inside the store. Raises PathNotFound."""
        if size <= COPY_BYTES:
            return self._copy_whole(source, target, size, _ALWAYS)
        return self._copy_parts(source, target, self._begin_copy(target), size, _ALWAYS)

    def copy_version(self, source: str, target: str, size: int, tag: str) -> ObjectStat:
        """As ``copy``, of that version alone; at most one at a time to a target. Raises PreconditionFailed too.

        The store does not tell the parts of a killed copy from those of a running upload to the same key,
        nor from those of another registry, so the parts of a copy are noted until it has ended.
        """
        if size <= COPY_BYTES:
            return self._copy_whole(source, target, size, {"CopySourceIfMatch": tag})
        upload_id = _COPY + hashlib.sha256(target.encode()).hexdigest()[:32]
        self.drop_copy(upload_id)
        multipart = self._begin_copy(target)
        self._objects.put(_note(upload_id), orjson.dumps([target, multipart]))
        try:
            copied = self._copy_parts(source, target, multipart, size, {"CopySourceIfMatch": tag})
        except PathNotFound:
            copied = self._put_together(source, target, size, tag)
        self._objects.delete([_note(upload_id)])
        return copied

    def drop_copy(self, upload_id: str) -> None:
        """Drop the parts that a killed copy left, where ``upload_id`` is what they are noted under; no error if not."""
        if not upload_id.startswith(_COPY):
            return
        with suppress(PathNotFound):
            noted, _ = self._objects.read(_note(upload_id), max_bytes=_MOST_NOTED)
            self.abort(*orjson.loads(noted))

    def _put_together(self, source: str, target: str, size: int, tag: str) -> ObjectStat:
        """What became of a copy whose source, or whose parts, the store does not know any more."""
        if self._objects.stat(source).signature != tag:
            raise PreconditionFailed(source)
        copied = self._objects.same(target, size)
        if copied is None:
            raise StorageUnavailable(target, "the parts of its copy have gone")
        return copied  # the parts were put together, and the answer to that was lost

    def _copy_whole(self, source: str, target: str, size: int, condition: Mapping[str, str]) -> ObjectStat:
        copied = self._bucket.call(target, self._client.copy_object, CopySource=self._origin(source), **condition)
        return ObjectStat(size, copied["CopyObjectResult"]["ETag"], time.time())

    def _begin_copy(self, target: str) -> str:
        return self._bucket.call(target, self._client.create_multipart_upload)["UploadId"]

    def _origin(self, source: str) -> dict[str, str]:
        return {"Bucket": self._bucket.name, "Key": self._bucket.path(source)}

    def _copy_parts(
        self, source: str, target: str, multipart: str, size: int, condition: Mapping[str, str]
    ) -> ObjectStat:
        length = max(COPY_PART, -(-size // MOST_PARTS))
        copy = partial(self._copy_part, self._origin(source), target, multipart, condition)
        copying = [
            self._copying.submit(copy, number, begin, min(size, begin + length))
            for number, begin in enumerate(range(0, size, length), start=1)
        ]
        try:
            with waiting:
                parts = [part.result() for part in copying]
            return self._complete(target, multipart, parts, size)
        except BaseException:
            for part in copying:
                part.cancel()
            wait(copying)
            self.abort(target, multipart)
            raise

    def _copy_part(
        self,
        origin: dict[str, str],
        target: str,
        multipart: str,
        condition: Mapping[str, str],
        number: int,
        begin: int,
        end: int,
    ) -> Part:
        part = self._bucket.call(
            target,
            self._client.upload_part_copy,
            CopySource=origin,
            CopySourceRange=f"bytes={begin}-{end - 1}",
            UploadId=multipart,
            PartNumber=number,
            **condition,
        )
        return Part(part["CopyPartResult"]["ETag"])

    def _complete(self, target: str, multipart: str, parts: Sequence[Part], size: int, **condition: str) -> ObjectStat:
        completed = [_described(number, part) for number, part in enumerate(parts, start=1)]
        done = self._bucket.call(
            target,
            self._client.complete_multipart_upload,
            UploadId=multipart,
            MultipartUpload={"Parts": completed},
            **condition,
        )
        return ObjectStat(size, done["ETag"], time.time())


def _note(upload_id: str) -> str:
    """The key of what says which parts a copy gathers."""
    return f".uploads/{upload_id}/note"


def _described(number: int, part: Part) -> CompletedPartTypeDef:
    """For the request that puts the parts together."""
    described: CompletedPartTypeDef = {"ETag": part.tag, "PartNumber": number}
    if part.crc32c:
        described["ChecksumCRC32C"] = part.crc32c
    return described
