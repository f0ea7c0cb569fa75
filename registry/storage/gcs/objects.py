"""Objects of a bucket on Google Cloud Storage: read, written on conditions, copied."""

from __future__ import annotations

import time
import uuid
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import orjson

from registry.storage.driver import CHUNK_SIZE, Child, ObjectStat
from registry.storage.errors import (
    AlreadyExists,
    ObjectTooLarge,
    PathNotFound,
    PreconditionFailed,
    StorageUnavailable,
    StoreMisconfigured,
    Throttled,
)
from registry.storage.gcs.batch_delete import MOST_DELETED, Deletion
from registry.storage.gcs.client import Call
from registry.storage.gcs.responses import NO_BUCKET, InvalidRange, stat_of, stat_of_headers
from registry.storage.object_store.parts import crc32c_of
from registry.storage.object_store.reader import ResumingReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from urllib3 import BaseHTTPResponse

    from registry.storage.gcs.client import GcsBucket

_STAT = "size,generation,updated"
_ABSENT = "0"
"""The generation of what is not there."""
_PAGE = 1000
_JSON = {"content-type": "application/json"}
_BYTES = "application/octet-stream"


class GcsObjects:
    """Reads and writes single objects. Any thread."""

    def __init__(self, bucket: GcsBucket) -> None:
        self._bucket = bucket
        self._upload = f"/upload{bucket.objects}"

    def stat(self, key: str) -> ObjectStat:
        """Raises PathNotFound."""
        call = Call("objects.get", "GET", self._bucket.object(key), {"fields": _STAT})
        return stat_of(key, self._bucket.ask(key, call))

    def same(self, key: str, size: int) -> ObjectStat | None:
        """The object, if it is there and has this size."""
        try:
            found = self.stat(key)
        except PathNotFound:
            return None
        return found if found.size == size else None

    def open(self, key: str, *, offset: int = 0, length: int | None = None) -> GcsReader:
        """See StorageDriver."""
        if length == 0:
            return GcsReader(self._bucket, key, self.stat(key), None, 0, 0)
        end = None if length is None else offset + length
        try:
            answer = self._bucket.send(key, GcsReader.call(self._bucket, key, offset, end))
        except InvalidRange:  # it begins behind the end
            return GcsReader(self._bucket, key, self.stat(key), None, 0, 0)
        try:
            stat, length = stat_of_headers(key, answer.headers)
        except StorageUnavailable:
            answer.close()
            raise
        return GcsReader(self._bucket, key, stat, answer, offset, offset + length)

    def read(self, key: str, *, max_bytes: int) -> tuple[bytes, ObjectStat]:
        """See StorageDriver."""
        with self.open(key) as reader:
            if reader.stat.size > max_bytes:
                raise ObjectTooLarge(key, f"{reader.stat.size} bytes, more than {max_bytes}")
            parts = []
            while part := reader.read(CHUNK_SIZE):
                parts.append(part)
            return b"".join(parts), reader.stat

    def put(self, key: str, data: bytes | bytearray) -> ObjectStat:
        """Write an object, whatever was there."""
        return self._bucket.again(partial(self._insert, key, data))

    def put_blob(self, key: str, data: bytes | bytearray, *, replace: bool) -> ObjectStat:
        """Write bytes that are named by their digest: an object of that size is the same one, unless ``replace``."""
        if replace:
            return self.put(key, data)
        try:
            return self._bucket.again(partial(self._insert, key, data, _ABSENT))
        except PreconditionFailed:
            return self.same(key, len(data)) or self.put(key, data)

    def put_if(self, key: str, data: bytes, generation: str | None) -> ObjectStat:
        """Write an object over that generation only; None: only where nothing is.

        Where an answer was lost, what is there then is compared with ``data``: it may be our own. Raises
        PreconditionFailed, AlreadyExists.
        """
        doubtful = False

        def attempt() -> ObjectStat:
            nonlocal doubtful
            try:
                return self._insert(key, data, _ABSENT if generation is None else generation)
            except (Throttled, StorageUnavailable):
                doubtful = True
                raise
            except PreconditionFailed as error:
                ours = self._with_bytes(key, data) if doubtful else None
                if ours is not None:
                    return ours
                raise (AlreadyExists if generation is None else PreconditionFailed)(key) from error

        return self._bucket.again(attempt)

    def compose(self, sources: Sequence[str], key: str, size: int) -> ObjectStat:
        """Make ``key`` the bytes of at most 32 objects, ``size`` in all. Raises PathNotFound when one is gone."""
        return self._compose(sources, key, size, {})

    def compose_blob(self, sources: Sequence[str], key: str, size: int, *, replace: bool) -> ObjectStat:
        """``compose`` what is named by its digest: an object of that size is the same one, unless ``replace``."""
        if replace:
            return self.compose(sources, key, size)
        try:
            return self._compose(sources, key, size, {"ifGenerationMatch": _ABSENT})
        except PreconditionFailed:
            return self.same(key, size) or self.compose(sources, key, size)

    def copy(self, source: str, key: str, size: int, generation: str) -> ObjectStat:
        """Make ``key`` the bytes of that generation of another. Raises PathNotFound, PreconditionFailed.

        A rewrite, and no composition of one object: it keeps the MD5 that the store knows. Where bytes have to move, to
        another class of storage, it takes several requests.
        """
        query = {"ifSourceGenerationMatch": generation, "fields": f"done,rewriteToken,resource({_STAT})"}
        path = f"{self._bucket.object(source)}/rewriteTo{self._bucket.object(key).removeprefix('/storage/v1')}"
        while True:
            answer = self._bucket.ask(source, Call("objects.rewrite", "POST", path, query))
            if answer.get("done"):
                break
            if not answer.get("rewriteToken"):
                raise StorageUnavailable(source, "the answer does not say how its copy goes on")
            query["rewriteToken"] = answer["rewriteToken"]
        copied = stat_of(key, answer.get("resource", {}))
        if copied.size != size:  # the store has ignored the condition
            raise PreconditionFailed(source, f"it has {copied.size} bytes, not {size}")
        return copied._replace(modified=time.time())

    def keys(self, prefix: str, after: str = "") -> Iterator[tuple[str, ObjectStat]]:
        """Every object whose key begins with ``prefix``, sorted, 1,000 to a request."""
        query = {"prefix": self._bucket.path(prefix), "fields": f"kind,items(name,{_STAT}),nextPageToken"}
        if after:
            query["startOffset"] = self._bucket.path(after)
        for page in self._pages(prefix, query):
            for entry in page.get("items", ()):
                key = entry["name"].removeprefix(self._bucket.root)
                if key and key != after and not key.endswith("/"):
                    yield key, stat_of(key, entry)

    def children(self, prefix: str) -> list[Child]:
        """The names directly below a prefix that ends with a slash, or is empty; sorted."""
        names: dict[str, bool] = {}
        whole = self._bucket.path(prefix)
        query = {"prefix": whole, "delimiter": "/", "fields": "kind,items(name),prefixes,nextPageToken"}
        for page in self._pages(prefix, query):
            for entry in page.get("items", ()):
                names.setdefault(entry["name"][len(whole) :], False)
            for common in page.get("prefixes", ()):
                names[common[len(whole) : -1]] = True
        return [Child(name, names[name]) for name in sorted(names) if name]

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects, 100 in a request; a missing one is no error."""
        remaining = iter(keys)
        while batch := list(islice(remaining, MOST_DELETED)):
            self._bucket.again(Deletion(self._bucket, batch).attempt)

    def check(self) -> None:
        """Raises StorageError when the bucket cannot be read now."""
        query: dict[str, str | int] = {"prefix": self._bucket.root, "maxResults": 1, "fields": "kind,items(name)"}
        self._list("", query)

    def _insert(self, key: str, data: bytes | bytearray, generation: str | None = None) -> ObjectStat:
        """Write an object once. The store compares the checksum before anybody can see the object."""
        query = {"uploadType": "multipart", "fields": _STAT}
        if generation is not None:
            query["ifGenerationMatch"] = generation
        described = {"name": self._bucket.path(key), "contentType": _BYTES, "crc32c": crc32c_of(data)}
        boundary = uuid.uuid4().hex  # no object's data can contain it
        head = (
            f"--{boundary}\r\ncontent-type: application/json; charset=UTF-8\r\n\r\n{orjson.dumps(described).decode()}"
            f"\r\n--{boundary}\r\ncontent-type: {_BYTES}\r\n\r\n"
        ).encode()
        headers = {"content-type": f"multipart/related; boundary={boundary}"}
        body = (head, data, f"\r\n--{boundary}--\r\n".encode())
        try:
            answer = self._bucket.ask_once(key, Call("objects.insert", "POST", self._upload, query, headers, body))
        except PathNotFound as error:
            raise StoreMisconfigured(key, f"{NO_BUCKET} ({error.reason})") from error
        return stat_of(key, answer)._replace(size=len(data), modified=time.time())

    def _compose(self, sources: Sequence[str], key: str, size: int, query: dict[str, str]) -> ObjectStat:
        wanted = {
            "sourceObjects": [{"name": self._bucket.path(source)} for source in sources],
            "destination": {"contentType": _BYTES},
        }
        call = Call(
            "objects.compose",
            "POST",
            f"{self._bucket.object(key)}/compose",
            {"fields": _STAT, **query},
            _JSON,
            (orjson.dumps(wanted),),
        )
        composed = stat_of(key, self._bucket.ask(key, call))
        if composed.size != size:
            raise PathNotFound(key, f"its parts have {composed.size} bytes, not {size}")
        return composed._replace(modified=time.time())

    def _pages(self, prefix: str, query: dict[str, str]) -> Iterator[dict[str, Any]]:
        more: dict[str, str | int] = {**query, "maxResults": _PAGE}
        while True:
            page = self._list(prefix, more)
            yield page
            if not page.get("nextPageToken"):
                return
            more["pageToken"] = page["nextPageToken"]

    def _list(self, prefix: str, query: dict[str, str | int]) -> dict[str, Any]:
        try:
            page = self._bucket.ask(prefix, Call("objects.list", "GET", self._bucket.objects, query))
        except PathNotFound as error:
            raise StoreMisconfigured(prefix, f"{NO_BUCKET} ({error.reason})") from error
        if page.get("kind") != "storage#objects":  # no other answer may count as an empty bucket (I7)
            raise StorageUnavailable(prefix, "the answer is not a listing")
        return page

    def _with_bytes(self, key: str, data: bytes) -> ObjectStat | None:
        """The object, if it has just these bytes."""
        try:
            found, stat = self.read(key, max_bytes=len(data))
        except (PathNotFound, ObjectTooLarge):
            return None
        return stat if found == data else None


class GcsReader(ResumingReader):
    """See ResumingReader. The version is a generation."""

    def __init__(
        self, bucket: GcsBucket, key: str, stat: ObjectStat, answer: BaseHTTPResponse | None, start: int, end: int
    ) -> None:
        """See ResumingReader."""
        super().__init__(key, stat, answer, start, end, bucket.gate)
        self._bucket = bucket

    @staticmethod
    def call(bucket: GcsBucket, key: str, start: int, end: int | None, generation: str = "") -> Call:
        """The request for a range, of one generation or of the newest."""
        query = {"alt": "media", "generation": generation} if generation else {"alt": "media"}
        headers = {}
        if start or end is not None:
            headers["range"] = f"bytes={start}-" if end is None else f"bytes={start}-{end - 1}"
        return Call("objects.get", "GET", bucket.object(key), query, headers, streams=True)

    def _continue(self) -> BaseHTTPResponse:
        call = self.call(self._bucket, self._key, self._position, self._end, self.stat.signature)
        try:
            return self._bucket.send(self._key, call)
        except (PathNotFound, InvalidRange) as error:
            raise StorageUnavailable(self._key, "it was replaced or deleted while it was read") from error
