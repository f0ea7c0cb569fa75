"""The driver of an S3 bucket: each blob once, index updates by conditional writes."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

from registry.storage.driver import BlobLayout, Capabilities, Child, ObjectStat, StorageDriver, UploadEntry, UploadState
from registry.storage.errors import (
    AlreadyExists,
    ObjectTooLarge,
    PathNotFound,
    PreconditionFailed,
    StorageUnavailable,
    Throttled,
)
from registry.storage.keys import OWN_SEGMENTS, TEMPORARY_SEGMENT, check_key, check_prefix, check_upload_id
from registry.storage.s3_bucket import S3Bucket
from registry.storage.s3_reader import S3Reader
from registry.storage.s3_upload import COPY_BYTES, Plan, S3UploadWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

    from registry.config import S3Settings
    from registry.storage.driver import ObjectReader

_DELETED_AT_ONCE = 1000
"""Keys in one request."""
_COPY_PART = 1 << 30
"""Bytes of each part of a copy that is too large for one request."""


class S3Driver(StorageDriver):
    """Objects below a root of a bucket, shared by all replicas. Uploads are known by the sessions that have them."""

    name = "s3"
    capabilities = Capabilities(
        blob_layout=BlobLayout.SHARED,
        cheap_stat=False,
        appends=False,
        links=False,
        upload_rights=False,
        conditional_writes=True,
        outside_writers=False,
    )

    def __init__(self, settings: S3Settings, root: str) -> None:
        self._bucket = S3Bucket(settings, root)
        self._client = self._bucket.client
        self._part_size = settings.part_size

    # ---- objects

    def stat(self, key: str) -> ObjectStat:
        """See StorageDriver."""
        check_key(key)
        return self._stat(key)

    def read(self, key: str, *, max_bytes: int) -> tuple[bytes, ObjectStat]:
        """See StorageDriver."""
        with self.open(key) as reader:
            if reader.stat.size > max_bytes:
                raise ObjectTooLarge(key, f"{reader.stat.size} bytes, more than {max_bytes}")
            return _all(reader), reader.stat

    def open(self, key: str, *, offset: int = 0, length: int | None = None) -> ObjectReader:
        """See StorageDriver."""
        check_key(key)
        return self.open_raw(key, offset=offset, length=length)

    def write(self, key: str, data: bytes, *, if_signature: str | None = None, if_absent: bool = False) -> ObjectStat:
        """See StorageDriver. A condition that failed after an answer was lost is compared with what is there."""
        check_key(key)
        condition = {"IfNoneMatch": "*"} if if_absent else {"IfMatch": if_signature} if if_signature is not None else {}
        if not condition:
            return self.put(key, data)
        doubtful = False
        while True:
            try:
                found = self._bucket.call_once(key, self._client.put_object, Body=data, **condition)
            except (Throttled, StorageUnavailable):
                if doubtful:
                    raise
                doubtful = True  # it may have been written: what a second attempt meets may be our own
                time.sleep(0.1)
                continue
            except (PreconditionFailed, PathNotFound) as error:
                if doubtful and (ours := self._is_ours(key, data)) is not None:
                    return ours
                raise (AlreadyExists if if_absent else PreconditionFailed)(key) from error
            return ObjectStat(len(data), found["ETag"], time.time())

    def list(self, prefix: str) -> Iterator[tuple[str, ObjectStat]]:
        """See StorageDriver."""
        check_prefix(prefix)
        return self._list(f"{prefix}/" if prefix else "")

    def children(self, prefix: str) -> Iterator[Child]:
        """See StorageDriver."""
        check_prefix(prefix)
        return self._children(f"{prefix}/" if prefix else "")

    def delete(self, keys: Iterable[str]) -> None:
        """See StorageDriver."""
        remaining = iter(keys)
        while batch := list(islice(remaining, _DELETED_AT_ONCE)):
            for key in batch:
                check_key(key)
            self._delete(batch)

    # ---- uploads

    def start_upload(self, upload_id: str) -> UploadState:
        """See StorageDriver. Nothing is written."""
        check_upload_id(upload_id)
        return UploadState()

    def open_upload(self, upload_id: str) -> S3UploadWriter:
        """See StorageDriver."""
        check_upload_id(upload_id)
        return S3UploadWriter(self, upload_id, self._part_size)

    def discard_upload(self, upload_id: str, state: UploadState | None = None) -> None:
        """See StorageDriver."""
        check_upload_id(upload_id)
        if state is not None:
            self.abort(Plan.parse(state.note))
            return
        for target, multipart, _ in self._multiparts():
            if _entry_of(target, multipart) == upload_id or target.startswith(f".uploads/{upload_id}/"):
                self._abort(target, multipart)
        self._delete([key for key, _ in self._keys(f".uploads/{upload_id}/")])

    def uploads(self) -> Iterator[UploadEntry]:
        """See StorageDriver."""
        found: dict[str, float] = {}
        for key, stat in self._keys(".uploads/"):
            upload_id = key.split("/")[1]
            found[upload_id] = max(found.get(upload_id, 0.0), stat.modified)
        for target, multipart, modified in self._multiparts():
            upload_id = _entry_of(target, multipart)
            found[upload_id] = max(found.get(upload_id, 0.0), modified)
        return iter([UploadEntry(upload_id, modified) for upload_id, modified in found.items()])

    # ---- the store

    def check(self) -> None:
        """See StorageDriver."""
        self._bucket.ask("", self._client.list_objects_v2, Prefix=self._bucket.root, MaxKeys=1)

    def close(self) -> None:
        """See StorageDriver."""
        self._bucket.close()

    # ---- for uploads: keys that are no objects of the contract

    def put(self, key: str, data: bytes) -> ObjectStat:
        """Write an object, whatever was there."""
        found = self._bucket.call(key, self._client.put_object, Body=data)
        return ObjectStat(len(data), found["ETag"], time.time())

    def put_blob(self, key: str, data: bytes) -> ObjectStat:
        """Write bytes that are named by their digest: an object of that size is the same one."""
        try:
            found = self._bucket.call(key, self._client.put_object, Body=data, IfNoneMatch="*")
        except PreconditionFailed:
            there = self._stat(key)
            return there if there.size == len(data) else self.put(key, data)
        return ObjectStat(len(data), found["ETag"], time.time())

    def open_raw(self, key: str, *, offset: int = 0, length: int | None = None) -> S3Reader:
        """As ``open``, also of what is below ``.uploads``."""
        if length == 0:
            stat = self._stat(key)
            return S3Reader(self._bucket, key, stat, None, 0, 0)
        ranged = {} if not offset and length is None else {"Range": _range(offset, length)}
        try:
            found = self._bucket.call(key, self._client.get_object, **ranged)
        except StorageUnavailable as error:
            if "InvalidRange" not in error.reason and "(416)" not in error.reason:
                raise
            return S3Reader(self._bucket, key, self._stat(key), None, 0, 0)  # it begins behind the end
        whole = int(found["ContentRange"].rpartition("/")[2]) if "ContentRange" in found else found["ContentLength"]
        stat = ObjectStat(whole, found["ETag"], found["LastModified"].timestamp())
        return S3Reader(self._bucket, key, stat, found["Body"], offset, offset + found["ContentLength"])

    def read_raw(self, key: str, size: int) -> bytes:
        """A piece of an upload."""
        with self.open_raw(key) as reader:
            if reader.stat.size != size:
                raise PathNotFound(key, "it has another size than was noted")
            return _all(reader)

    def copy(self, source: str, target: str, size: int) -> ObjectStat:
        """Copy inside the store, in parts where it is too large for one request."""
        origin = {"Bucket": self._bucket.name, "Key": self._bucket.path(source)}
        if size <= COPY_BYTES:
            copied = self._bucket.call(target, self._client.copy_object, CopySource=origin)
            return ObjectStat(size, copied["CopyObjectResult"]["ETag"], time.time())
        multipart = self.create_multipart(target)
        try:
            tags = []
            for number, begin in enumerate(range(0, size, _COPY_PART), start=1):
                part = self._bucket.call(
                    target,
                    self._client.upload_part_copy,
                    CopySource=origin,
                    CopySourceRange=f"bytes={begin}-{min(size, begin + _COPY_PART) - 1}",
                    UploadId=multipart,
                    PartNumber=number,
                )
                tags.append(part["CopyPartResult"]["ETag"])
            return self.complete_multipart(target, multipart, tags, size)
        except BaseException:
            with suppress(PathNotFound):
                self._abort(target, multipart)
            raise

    def create_multipart(self, target: str) -> str:
        """Begin an object in parts; the store's name of it."""
        return self._bucket.call(target, self._client.create_multipart_upload)["UploadId"]

    def upload_part(self, target: str, multipart: str, number: int, data: bytes) -> str:
        """Send a part, replacing one of the same number; its tag."""
        sent = self._bucket.call(target, self._client.upload_part, UploadId=multipart, PartNumber=number, Body=data)
        return sent["ETag"]

    def complete_multipart(self, target: str, multipart: str, tags: list[str], size: int) -> ObjectStat:
        """Put the parts together. Where that was done before, the object is there."""
        parts: list[CompletedPartTypeDef] = [{"ETag": tag, "PartNumber": number} for number, tag in enumerate(tags, 1)]
        try:
            done = self._bucket.call(
                target, self._client.complete_multipart_upload, UploadId=multipart, MultipartUpload={"Parts": parts}
            )
        except PathNotFound:
            stat = self._stat(target)
            if stat.size != size:
                raise
            return stat
        return ObjectStat(size, done["ETag"], time.time())

    def abort(self, plan: Plan) -> None:
        """Free what an upload has in the store. What was published stays."""
        if plan.target:
            self._abort(plan.target, plan.multipart)
        staged = [plan.target] if plan.target.startswith(".uploads/") else []
        self._delete([*staged, *(key for key, _ in plan.pieces)])

    # ----

    def _stat(self, key: str) -> ObjectStat:
        found = self._bucket.call(key, self._client.head_object)
        return ObjectStat(found["ContentLength"], found["ETag"], found["LastModified"].timestamp())

    def _is_ours(self, key: str, data: bytes) -> ObjectStat | None:
        """The object, if it has just these bytes."""
        try:
            found, stat = self.read(key, max_bytes=len(data))
        except (PathNotFound, ObjectTooLarge):
            return None
        return stat if found == data else None

    def _list(self, prefix: str) -> Iterator[tuple[str, ObjectStat]]:
        return ((key, stat) for key, stat in self._keys(prefix) if not _is_own(key))

    def _keys(self, prefix: str) -> Iterator[tuple[str, ObjectStat]]:
        more = {}
        while True:
            page = self._bucket.ask(prefix, self._client.list_objects_v2, Prefix=self._bucket.path(prefix), **more)
            for entry in page.get("Contents", ()):
                key = entry["Key"].removeprefix(self._bucket.root)
                if key and not key.endswith("/"):
                    yield key, ObjectStat(entry["Size"], entry["ETag"], entry["LastModified"].timestamp())
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def _children(self, prefix: str) -> Iterator[Child]:
        names: dict[str, bool] = {}
        more = {}
        start = len(self._bucket.path(prefix))
        while True:
            page = self._bucket.ask(
                prefix, self._client.list_objects_v2, Prefix=self._bucket.path(prefix), Delimiter="/", **more
            )
            for entry in page.get("Contents", ()):
                names.setdefault(entry["Key"][start:], False)
            for common in page.get("CommonPrefixes", ()):
                names[common["Prefix"][start:-1]] = True
            if not page.get("IsTruncated"):
                break
            more = {"ContinuationToken": page["NextContinuationToken"]}
        for name in sorted(names):
            if name and not _is_own(prefix + name):
                yield Child(name, names[name])

    def _delete(self, keys: list[str]) -> None:
        if len(keys) == 1:
            with suppress(PathNotFound):
                self._bucket.call(keys[0], self._client.delete_object)
        elif keys:
            done = self._bucket.ask(
                keys[0],
                self._client.delete_objects,
                Delete={"Objects": [{"Key": self._bucket.path(key)} for key in keys], "Quiet": True},
            )
            for failed in done.get("Errors", ()):
                raise StorageUnavailable(failed["Key"].removeprefix(self._bucket.root), failed.get("Code", ""))

    def _abort(self, target: str, multipart: str) -> None:
        with suppress(PathNotFound):
            self._bucket.call(target, self._client.abort_multipart_upload, UploadId=multipart)

    def _multiparts(self) -> Iterator[tuple[str, str, float]]:
        more = {}
        while True:
            page = self._bucket.ask("", self._client.list_multipart_uploads, Prefix=self._bucket.root, **more)
            for entry in page.get("Uploads", ()):
                target = entry["Key"].removeprefix(self._bucket.root)
                yield target, entry["UploadId"], entry["Initiated"].timestamp()
            if not page.get("IsTruncated"):
                return
            more = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}


def _range(offset: int, length: int | None) -> str:
    return f"bytes={offset}-" if length is None else f"bytes={offset}-{offset + length - 1}"


def _all(reader: ObjectReader) -> bytes:
    parts = []
    while part := reader.read(1 << 20):
        parts.append(part)
    return b"".join(parts)


def _is_own(key: str) -> bool:
    segments = key.split("/")
    return segments[0] in OWN_SEGMENTS or any(segment.startswith(TEMPORARY_SEGMENT) for segment in segments)


def _entry_of(target: str, multipart: str) -> str:
    """What ``uploads()`` calls a multipart upload: the upload whose staging place it fills, or a name of its own."""
    if target.startswith(".uploads/"):
        return target.split("/")[1]
    return "part-" + hashlib.sha256(f"{target}\0{multipart}".encode()).hexdigest()[:32]
