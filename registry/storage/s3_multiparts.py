"""Objects of a bucket that come in parts: multipart uploads, and copies of what is too large for one request."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from registry.storage.driver import ObjectStat
from registry.storage.errors import PathNotFound, PreconditionFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

    from registry.storage.s3_bucket import S3Bucket
    from registry.storage.s3_objects import S3Objects

OURS = (".uploads/", "storage/")
"""What the keys begin with that large objects are gathered at."""
COPY_BYTES = 5 << 30
"""Bytes that one request can copy."""
COPY_PART = 1 << 30
"""Bytes of each part of a copy that is too large for one request."""


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

    def __init__(self, bucket: S3Bucket, objects: S3Objects) -> None:
        self._bucket = bucket
        self._objects = objects
        self._client = bucket.client

    def create(self, target: str) -> str:
        """Begin an object in parts; the store's name of it."""
        return self._bucket.call(target, self._client.create_multipart_upload)["UploadId"]

    def send(self, target: str, multipart: str, number: int, data: bytes | bytearray) -> str:
        """Send a part, replacing one of the same number; its tag. Raises PathNotFound."""
        sent = self._bucket.call(target, self._client.upload_part, UploadId=multipart, PartNumber=number, Body=data)
        return sent["ETag"]

    def complete(self, target: str, multipart: str, tags: list[str], size: int, *, replace: bool) -> ObjectStat:
        """Put the parts together; without ``replace`` an object of that size is the same one.

        Raises PathNotFound when the store does not know the multipart upload, also where this was done before.
        """
        if replace:
            return self._complete(target, multipart, tags, size)
        try:
            return self._complete(target, multipart, tags, size, IfNoneMatch="*")
        except PreconditionFailed:
            there = self._objects.same(target, size)
            if there is None:
                return self._complete(target, multipart, tags, size)
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
        """Every multipart upload of ours: others may have some of their own below the same root."""
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
        origin = {"Bucket": self._bucket.name, "Key": self._bucket.path(source)}
        if size <= COPY_BYTES:
            copied = self._bucket.call(target, self._client.copy_object, CopySource=origin)
            return ObjectStat(size, copied["CopyObjectResult"]["ETag"], time.time())
        multipart = self.create(target)
        try:
            tags = [
                self._copy_part(origin, target, multipart, number, begin, min(size, begin + COPY_PART))
                for number, begin in enumerate(range(0, size, COPY_PART), start=1)
            ]
            return self._complete(target, multipart, tags, size)
        except BaseException:
            self.abort(target, multipart)
            raise

    def _copy_part(self, origin: dict[str, str], target: str, multipart: str, number: int, begin: int, end: int) -> str:
        part = self._bucket.call(
            target,
            self._client.upload_part_copy,
            CopySource=origin,
            CopySourceRange=f"bytes={begin}-{end - 1}",
            UploadId=multipart,
            PartNumber=number,
        )
        tag: str = part["CopyPartResult"]["ETag"]
        return tag

    def _complete(self, target: str, multipart: str, tags: list[str], size: int, **condition: str) -> ObjectStat:
        parts: list[CompletedPartTypeDef] = [{"ETag": tag, "PartNumber": number} for number, tag in enumerate(tags, 1)]
        done = self._bucket.call(
            target,
            self._client.complete_multipart_upload,
            UploadId=multipart,
            MultipartUpload={"Parts": parts},
            **condition,
        )
        return ObjectStat(size, done["ETag"], time.time())
