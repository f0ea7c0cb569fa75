"""Objects of a bucket on S3: read, written on conditions, copied."""

from __future__ import annotations

import http
import time
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from registry.storage.driver import CHUNK_SIZE, Child, ObjectStat
from registry.storage.errors import (
    AlreadyExists,
    ObjectTooLarge,
    PathNotFound,
    PreconditionFailed,
    StorageUnavailable,
    Throttled,
)
from registry.storage.keys import sha256_of
from registry.storage.object_store.reader import ResumingReader
from registry.storage.s3.requests import ObjectRequest
from registry.storage.s3.responses import InvalidRange, error_of_response, stat_of, tag_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from urllib3 import BaseHTTPResponse

    from registry.storage.s3.client import S3Bucket

_ALWAYS: Mapping[str, str] = {}
"""No condition."""
MOST_DELETED = 1000
"""Keys in one request."""
_DOUBT_SECONDS = 0.1
"""Pause before a conditional write whose answer was lost is tried once more."""


class S3Objects:
    """Reads and writes single objects. Any thread."""

    def __init__(self, bucket: S3Bucket) -> None:
        self._bucket = bucket
        self._client = bucket.client

    def stat(self, key: str) -> ObjectStat:
        """Raises PathNotFound."""
        return stat_of(key, self._bucket.send(key, ObjectRequest("head_object", "HEAD")).headers)[0]

    def same(self, key: str, size: int) -> ObjectStat | None:
        """The object, if it is there and has this size."""
        try:
            found = self.stat(key)
        except PathNotFound:
            return None
        return found if found.size == size else None

    def open(self, key: str, *, offset: int = 0, length: int | None = None) -> S3Reader:
        """See StorageDriver."""
        if length == 0:
            return S3Reader(self._bucket, key, self.stat(key), None, 0, 0)
        ranged = {} if not offset and length is None else {"range": _range(offset, length)}
        try:
            answer = self._bucket.send(key, ObjectRequest("get_object", "GET", ranged, streams=True))
        except InvalidRange:  # it begins behind the end
            return S3Reader(self._bucket, key, self.stat(key), None, 0, 0)
        try:
            stat, there = stat_of(key, answer.headers)
        except StorageUnavailable:
            answer.close()
            raise
        return S3Reader(self._bucket, key, stat, answer, offset, offset + there)

    def read(self, key: str, *, max_bytes: int) -> tuple[bytes, ObjectStat]:
        """See StorageDriver."""
        with self.open(key) as reader:
            if reader.stat.size > max_bytes:
                raise ObjectTooLarge(key, f"{reader.stat.size} bytes, more than {max_bytes}")
            parts = []
            while part := reader.read(CHUNK_SIZE):
                parts.append(part)
            return b"".join(parts), reader.stat

    def put(self, key: str, data: bytes | bytearray, *, sha256: str | None = None) -> ObjectStat:
        """Write an object, whatever was there; ``sha256`` of ``data`` in hexadecimal digits, where it is known."""
        return self._put(self._bucket.send, key, data, sha256=sha256)

    def put_blob(self, key: str, data: bytes | bytearray, *, replace: bool) -> ObjectStat:
        """Write bytes that are named by their digest: an object of that size is the same one, unless ``replace``."""
        sha256 = sha256_of(key)
        if replace:
            return self.put(key, data, sha256=sha256)
        try:
            return self._put(self._bucket.send, key, data, {"if-none-match": "*"}, sha256)
        except PreconditionFailed:
            return self.same(key, len(data)) or self.put(key, data, sha256=sha256)

    def put_if(
        self, key: str, data: bytes, condition: dict[str, str], failure: type[AlreadyExists | PreconditionFailed]
    ) -> ObjectStat:
        """Write an object on a condition. Where an answer was lost, what is there then is compared with ``data``."""
        doubtful = False
        while True:
            try:
                return self._put(self._bucket.send_once, key, data, condition)
            except (Throttled, StorageUnavailable):
                if doubtful:
                    raise
                doubtful = True  # it may have been written: what a second attempt meets may be our own
                time.sleep(_DOUBT_SECONDS)
            except (PreconditionFailed, PathNotFound) as error:
                ours = self._with_bytes(key, data) if doubtful else None
                if ours is not None:
                    return ours
                raise failure(key) from error

    def keys(self, prefix: str, after: str = "") -> Iterator[tuple[str, ObjectStat]]:
        """Every object whose key begins with ``prefix``, sorted, 1,000 to a request."""
        more: dict[str, str] = {"StartAfter": self._bucket.path(after)} if after else {}
        while True:
            page = self._bucket.ask(prefix, self._client.list_objects_v2, Prefix=self._bucket.path(prefix), **more)
            for entry in page.get("Contents", ()):
                key = entry["Key"].removeprefix(self._bucket.root)
                if key and not key.endswith("/"):
                    yield key, ObjectStat(entry["Size"], entry["ETag"], entry["LastModified"].timestamp())
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def children(self, prefix: str) -> list[Child]:
        """The names directly below a prefix that ends with a slash, or is empty; sorted."""
        names: dict[str, bool] = {}
        more: dict[str, str] = {"Prefix": self._bucket.path(prefix), "Delimiter": "/"}
        start = len(self._bucket.path(prefix))
        while True:
            page = self._bucket.ask(prefix, self._client.list_objects_v2, **more)
            for entry in page.get("Contents", ()):
                names.setdefault(entry["Key"][start:], False)
            for common in page.get("CommonPrefixes", ()):
                names[common["Prefix"][start:-1]] = True
            if not page.get("IsTruncated"):
                return [Child(name, names[name]) for name in sorted(names) if name]
            more["ContinuationToken"] = page["NextContinuationToken"]

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects, 1,000 in a request; a missing one is no error."""
        remaining = iter(keys)
        while batch := list(islice(remaining, MOST_DELETED)):
            self._delete(batch)

    def _put(
        self,
        send: Callable[[str, ObjectRequest], BaseHTTPResponse],
        key: str,
        data: bytes | bytearray,
        condition: Mapping[str, str] = _ALWAYS,
        sha256: str | None = None,
    ) -> ObjectStat:
        answer = send(key, ObjectRequest("put_object", "PUT", condition, body=data, payload=sha256))
        return ObjectStat(len(data), tag_of(key, answer.headers), time.time())

    def _delete(self, keys: list[str]) -> None:
        if len(keys) == 1:
            with suppress(PathNotFound):
                self._bucket.call(keys[0], self._client.delete_object)
            return
        self._bucket.repeat(partial(self._delete_once, keys))

    def _delete_once(self, keys: list[str]) -> None:
        """One answer for all of them, in which each may have failed by itself."""
        objects = [{"Key": self._bucket.path(key)} for key in keys]
        done = self._bucket.ask_once(keys[0], self._client.delete_objects, Delete={"Objects": objects, "Quiet": True})
        for failed in done.get("Errors", ()):
            key = failed.get("Key", "").removeprefix(self._bucket.root)
            error = error_of_response(key, http.HTTPStatus.INTERNAL_SERVER_ERROR, failed.get("Code", ""))
            if not isinstance(error, PathNotFound):
                raise error

    def _with_bytes(self, key: str, data: bytes) -> ObjectStat | None:
        """The object, if it has just these bytes."""
        try:
            found, stat = self.read(key, max_bytes=len(data))
        except (PathNotFound, ObjectTooLarge):
            return None
        return stat if found == data else None


def _range(offset: int, length: int | None) -> str:
    return f"bytes={offset}-" if length is None else f"bytes={offset}-{offset + length - 1}"


class S3Reader(ResumingReader):
    """See ResumingReader. The version is an ETag."""

    def __init__(
        self, bucket: S3Bucket, key: str, stat: ObjectStat, answer: BaseHTTPResponse | None, start: int, end: int
    ) -> None:
        """See ResumingReader."""
        super().__init__(key, stat, answer, start, end, bucket.gate)
        self._bucket = bucket

    def _continue(self) -> BaseHTTPResponse:
        headers = {"range": f"bytes={self._position}-{self._end - 1}", "if-match": self.stat.signature}
        try:
            return self._bucket.send(self._key, ObjectRequest("get_object", "GET", headers, streams=True))
        except (PathNotFound, PreconditionFailed) as error:
            raise StorageUnavailable(self._key, "it was replaced or deleted while it was read") from error
