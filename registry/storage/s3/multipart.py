"""Objects of a bucket that come in parts: multipart uploads, and copies of what is too large for one request."""

from __future__ import annotations

import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple
from xml.etree.ElementTree import Element, SubElement, tostring

import orjson
import structlog

from registry.storage.driver import ObjectStat
from registry.storage.errors import NotOffered, PathNotFound, PreconditionFailed, StorageUnavailable
from registry.storage.object_store.driver import UPLOADS
from registry.storage.object_store.objects import ABSENT
from registry.storage.object_store.parts import crc32c_of
from registry.storage.s3.checksums import HEADER
from registry.storage.s3.completion import Completion
from registry.storage.s3.objects import NAMESPACE, condition_of
from registry.storage.s3.requests import S3Request
from registry.storage.s3.responses import tag_of, text_of, time_of
from registry.storage.s3.signature import UNSIGNED, path_of
from registry.storage.s3.upload_state import Part
from registry.waiting import waiting

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

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

log = structlog.get_logger(__name__)


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
        self._checks = checks
        self._copies_parts = True
        """False once the store has said that it does not."""
        self._sending = threading.Lock()
        """Held while the bytes of a part are in memory, where the store does not copy it."""
        self._copying = ThreadPoolExecutor(COPIES_AT_ONCE, thread_name_prefix="copy")

    def close(self) -> None:
        """End the threads."""
        self._copying.shutdown(wait=True)

    def create(self, target: str) -> tuple[str, bool]:
        """Begin an object in parts; the store's name of it, and whether each part has to have a CRC-32C."""
        checked = self._checks.compares()
        return self._begin(target, {"x-amz-checksum-algorithm": "CRC32C"} if checked else {}), checked

    def send(self, target: str, multipart: str, number: int, data: bytes | bytearray, *, checked: bool) -> Part:
        """Send a part, replacing one of the same number. Raises PathNotFound."""
        crc32c = crc32c_of(data) if checked else ""
        headers, payload = ({HEADER: crc32c}, UNSIGNED) if checked else ({}, None)
        request = S3Request("upload_part", "PUT", headers, _numbered(multipart, number), data, payload)
        return Part(tag_of(target, self._bucket.send(target, request).headers), crc32c)

    def complete(self, target: str, multipart: str, parts: Sequence[Part], size: int, *, replace: bool) -> ObjectStat:
        """Put the parts together; without ``replace`` an object of that size is the same one.

        Raises PathNotFound when the store does not know the multipart upload, also where this was done before.
        """
        if replace:
            return self._complete(target, multipart, parts, size)
        try:
            return self._complete(target, multipart, parts, size, ABSENT)
        except PreconditionFailed:
            there = self._objects.same(target, size)
            if there is None:
                return self._complete(target, multipart, parts, size)
        self.abort(target, multipart)
        return there

    def abort(self, target: str, multipart: str) -> None:
        """Drop the parts. A missing multipart upload is no error."""
        with suppress(PathNotFound):
            self._bucket.send(target, S3Request("abort_multipart_upload", "DELETE", query={"uploadId": multipart}))

    def touched(self, pending: Pending) -> float:
        """When its last part came, or it began; seconds since the epoch."""
        last, key, query = pending.began, pending.target, {"uploadId": pending.multipart}
        while True:
            try:
                page = self._bucket.ask(key, S3Request("list_parts", "GET", query=query))
            except PathNotFound:
                return last  # it was completed or aborted meanwhile
            last = max([last, *(time_of(key, part, "LastModified") for part in page.findall("Part"))])
            if page.findtext("IsTruncated") != "true":
                return last
            query["part-number-marker"] = text_of(key, page, "NextPartNumberMarker")

    def pending(self) -> Iterator[Pending]:
        """Every multipart upload of this registry: other programs may have some below the same root."""
        query = {"uploads": "", "prefix": self._bucket.root}
        while True:
            page = self._bucket.ask("", S3Request("list_multipart_uploads", "GET", query=query, of_bucket=True))
            for entry in page.findall("Upload"):
                key = text_of("", entry, "Key").removeprefix(self._bucket.root)
                if key.startswith(OURS):
                    yield Pending(key, text_of(key, entry, "UploadId"), time_of(key, entry, "Initiated"))
            if page.findtext("IsTruncated") != "true":
                return
            query["key-marker"] = text_of("", page, "NextKeyMarker")
            query["upload-id-marker"] = text_of("", page, "NextUploadIdMarker")

    def copy(self, source: str, target: str, size: int) -> ObjectStat:
        """Copy an object of ``size`` bytes inside the store. Raises PathNotFound."""
        if size <= COPY_BYTES:
            return self._copy_whole(source, target, size)
        return self._copy_parts(source, target, self._begin(target), size)

    def copy_version(self, source: str, target: str, size: int, tag: str) -> ObjectStat:
        """As ``copy``, of that version alone; at most one at a time to a target. Raises PreconditionFailed too.

        The store does not tell the parts of a killed copy from those of a running upload to the same key,
        nor from those of another registry, so the parts of a copy are noted until it has ended.
        """
        if size <= COPY_BYTES:
            return self._copy_whole(source, target, size, tag)
        upload_id = _COPY + hashlib.sha256(target.encode()).hexdigest()[:32]
        self.drop_copy(upload_id)
        multipart = self._begin(target)
        self._objects.put(_note(upload_id), orjson.dumps([target, multipart]))
        try:
            copied = self._copy_parts(source, target, multipart, size, tag)
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

    def join(
        self, sources: Sequence[tuple[str, int]], rest: bytes | bytearray, target: str, *, replace: bool
    ) -> ObjectStat:
        """Make one object of whole ones, by keys and sizes, and of what comes after them.

        All sources but the last part of all have at least the size of a part. The store copies them; one that does
        not copy into parts is sent their bytes, one at a time. Without ``replace`` an object of that size is the same
        one. Raises PathNotFound when a source is gone.
        """
        multipart = self._begin(target)
        copying = [
            self._copying.submit(self._take_part, source, target, multipart, number, size)
            for number, (source, size) in enumerate(sources, start=1)
        ]
        try:
            with waiting:
                parts = [part.result() for part in copying]
            if rest:
                parts.append(self.send(target, multipart, len(parts) + 1, rest, checked=False))
            size = sum(size for _, size in sources) + len(rest)
            return self.complete(target, multipart, parts, size, replace=replace)
        except BaseException:
            for part in copying:
                part.cancel()
            wait(copying)
            self.abort(target, multipart)
            raise

    def _put_together(self, source: str, target: str, size: int, tag: str) -> ObjectStat:
        """What became of a copy whose source, or whose parts, the store does not know any more."""
        if self._objects.stat(source).etag != tag:
            raise PreconditionFailed(source)
        copied = self._objects.same(target, size)
        if copied is None:
            raise StorageUnavailable(target, "the parts of its copy have gone")
        return copied  # the parts were put together, and the answer to that was lost

    def _copy_whole(self, source: str, target: str, size: int, tag: str = "") -> ObjectStat:
        request = S3Request("copy_object", "PUT", self._origin(source, tag))
        copied = self._bucket.ask(target, request)
        return ObjectStat(size, text_of(target, copied, "ETag"), time.time())

    def _begin(self, target: str, headers: Mapping[str, str] = {}) -> str:
        request = S3Request("create_multipart_upload", "POST", headers, {"uploads": ""}, b"")
        return text_of(target, self._bucket.ask(target, request), "UploadId")

    def _origin(self, source: str, tag: str) -> dict[str, str]:
        """The headers of a copy of that version; "": of whatever is there."""
        between = "/object/" if self._bucket.name.startswith("arn:") else "/"
        path = path_of(f"{self._bucket.name}{between}{self._bucket.path(source)}")
        return {"x-amz-copy-source": path, **({"x-amz-copy-source-if-match": tag} if tag else {})}

    def _copy_parts(self, source: str, target: str, multipart: str, size: int, tag: str = "") -> ObjectStat:
        length = max(COPY_PART, -(-size // MOST_PARTS))
        copy = partial(self._copy_part, self._origin(source, tag), target, multipart)
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

    def _take_part(self, source: str, target: str, multipart: str, number: int, size: int) -> Part:
        """Make a part of a whole object."""
        if self._copies_parts:
            try:
                return self._copy_part(self._origin(source, ""), target, multipart, number, 0, size)
            except NotOffered as error:
                is_new, self._copies_parts = self._copies_parts, False
                if is_new:
                    log.warning("the store copies no parts: what mirrors bring is sent to it twice", reason=str(error))
        with self._sending:
            data, _stat = self._objects.read(source, max_bytes=size)
            return self.send(target, multipart, number, data, checked=False)

    def _copy_part(
        self, origin: dict[str, str], target: str, multipart: str, number: int, begin: int, end: int
    ) -> Part:
        headers = {**origin, "x-amz-copy-source-range": f"bytes={begin}-{end - 1}"}
        request = S3Request("upload_part_copy", "PUT", headers, _numbered(multipart, number))
        return Part(text_of(target, self._bucket.ask(target, request), "ETag"))

    def _complete(
        self, target: str, multipart: str, parts: Sequence[Part], size: int, over: str | None = None
    ) -> ObjectStat:
        wanted = Element("CompleteMultipartUpload", xmlns=NAMESPACE)
        for number, part in enumerate(parts, start=1):
            described = SubElement(wanted, "Part")
            SubElement(described, "ETag").text = part.tag
            if part.crc32c:
                SubElement(described, "ChecksumCRC32C").text = part.crc32c
            SubElement(described, "PartNumber").text = str(number)
        query, body = {"uploadId": multipart}, tostring(wanted)
        request = S3Request("complete_multipart_upload", "POST", condition_of(over), query, body)
        is_free = over is not None or target.startswith(UPLOADS)
        before = None if is_free else self._objects.same(target, size)
        return Completion(self._bucket, self._objects, target, size, before).make(request)


def _note(upload_id: str) -> str:
    """The key of what says which parts a copy gathers."""
    return f".uploads/{upload_id}/note"


def _numbered(multipart: str, number: int) -> dict[str, str]:
    """The query of a request for a part."""
    return {"partNumber": str(number), "uploadId": multipart}
