"""Objects of a bucket on Google Cloud Storage: read, written on conditions, copied.

Tests: ``tests/storage/gcs/test_driver.py``.
"""

from __future__ import annotations

import time
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from registry.storage.errors import PathNotFound, PreconditionFailed, StorageUnavailable, StoreMisconfigured
from registry.storage.gcs.batch_delete import MOST_DELETED, Deletion
from registry.storage.gcs.client import Call
from registry.storage.gcs.responses import NO_BUCKET, VERSION, stat_of
from registry.storage.object_store.objects import ABSENT, BucketObjects, Page
from registry.storage.object_store.parts import crc32c_of
from registry.storage.object_store.responses import described, range_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from registry.storage.driver import ObjectStat
    from registry.storage.gcs.client import GcsBucket
    from registry.storage.object_store.reader import Body

_STAT = "size,generation,updated"
_NOTHING = "0"
"""The generation of what is not there."""
_JSON = {"content-type": "application/json"}
_BYTES = "application/octet-stream"


class GcsObjects(BucketObjects):
    """See BucketObjects. The version is a generation."""

    most_deleted = MOST_DELETED

    def __init__(self, bucket: GcsBucket) -> None:
        super().__init__(bucket.retry)
        self._bucket = bucket
        self._upload = f"/upload{bucket.objects}"

    def stat(self, key: str) -> ObjectStat:
        """See BucketObjects."""
        call = Call("objects.get", "GET", self._bucket.object(key), {"fields": _STAT})
        return stat_of(key, self._bucket.ask(key, call))

    def get(self, key: str, start: int, end: int | None, version: str = "") -> tuple[ObjectStat, Body]:
        """See BucketObjects."""
        query = {"alt": "media"} | ({"generation": version} if version else {})
        call = Call("objects.get", "GET", self._bucket.object(key), query, range_of(start, end), streams=True)
        return described(key, self._bucket.send(key, call), VERSION)

    def put_once(
        self,
        key: str,
        data: bytes | bytearray,
        over: str | None = None,
        *,
        sha256: str | None = None,  # noqa: ARG002 - the store compares a CRC-32C
    ) -> ObjectStat:
        """See BucketObjects. The store compares the checksum before the object can be seen."""
        query = {"uploadType": "multipart", "fields": _STAT, **_condition(over)}
        named = {"name": self._bucket.path(key), "contentType": _BYTES, "crc32c": crc32c_of(data)}
        boundary = uuid.uuid4().hex  # no data can contain it
        head = (
            f"--{boundary}\r\ncontent-type: application/json; charset=UTF-8\r\n\r\n{orjson.dumps(named).decode()}"
            f"\r\n--{boundary}\r\ncontent-type: {_BYTES}\r\n\r\n"
        ).encode()
        headers = {"content-type": f"multipart/related; boundary={boundary}"}
        body = (head, data, f"\r\n--{boundary}--\r\n".encode())
        try:
            answer = self._bucket.ask_once(key, Call("objects.insert", "POST", self._upload, query, headers, body))
        except PathNotFound as error:
            raise StoreMisconfigured(key, f"{NO_BUCKET} ({error.reason})") from error
        return stat_of(key, answer)._replace(size=len(data), modified=time.time())

    def pages(self, prefix: str, *, after: str = "", delimiter: str = "", most: int) -> Iterator[Page]:
        """See BucketObjects. ``after`` is listed too."""
        path, root = self._bucket.path, self._bucket.root
        fields = f"kind,items(name,{_STAT}),prefixes,nextPageToken"
        query: dict[str, str | int] = {"prefix": path(prefix), "fields": fields, "maxResults": most}
        if after:
            query["startOffset"] = path(after)
        if delimiter:
            query["delimiter"] = delimiter
        while True:
            page = self._list(prefix, query)
            found = [(entry["name"].removeprefix(root), entry) for entry in page.get("items", ())]
            yield Page(
                [(key, stat_of(key, entry)) for key, entry in found],
                [common.removeprefix(root) for common in page.get("prefixes", ())],
            )
            if not page.get("nextPageToken"):
                return
            query["pageToken"] = page["nextPageToken"]

    def delete_some(self, keys: list[str]) -> None:
        """See BucketObjects."""
        self.retry.repeat_refused(keys[0], Deletion(self._bucket, keys).attempt)

    def delete_once(self, key: str, version: str, deadline: float) -> None:
        """See BucketObjects. That generation alone."""
        call = Call(
            "objects.delete", "DELETE", self._bucket.object(key), {"ifGenerationMatch": version}, deadline=deadline
        )
        with self.retry.gate.enter(key):
            self._bucket.send_once(key, call)

    def compose(self, sources: Sequence[str], key: str, size: int, over: str | None = None) -> ObjectStat:
        """Make ``key`` the bytes of at most 32 objects, ``size`` in all, over that version alone (any if None).

        Raises PathNotFound when one of them is gone, PreconditionFailed.
        """
        wanted = {
            "sourceObjects": [{"name": self._bucket.path(source)} for source in sources],
            "destination": {"contentType": _BYTES},
        }
        call = Call(
            "objects.compose",
            "POST",
            f"{self._bucket.object(key)}/compose",
            {"fields": _STAT, **_condition(over)},
            _JSON,
            (orjson.dumps(wanted),),
        )
        composed = stat_of(key, self._bucket.ask(key, call))
        if composed.size != size:
            raise PathNotFound(key, f"its parts have {composed.size} bytes, not {size}")
        return composed._replace(modified=time.time())

    def compose_blob(self, sources: Sequence[str], key: str, size: int, *, replace: bool) -> ObjectStat:
        """``compose`` what is named by its digest: an object of that size is the same one, unless ``replace``."""
        return self.create(key, size, partial(self.compose, sources, key, size), replace=replace)

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

    def _list(self, prefix: str, query: dict[str, str | int]) -> dict[str, Any]:
        try:
            page = self._bucket.ask(prefix, Call("objects.list", "GET", self._bucket.objects, query))
        except PathNotFound as error:
            raise StoreMisconfigured(prefix, f"{NO_BUCKET} ({error.reason})") from error
        if page.get("kind") != "storage#objects":  # no other answer may count as an empty bucket (I7)
            raise StorageUnavailable(prefix, "the answer is not a listing")
        return page


def _condition(over: str | None) -> dict[str, str]:
    """The parameter of a write over that version alone; none where it is None."""
    if over is None:
        return {}
    return {"ifGenerationMatch": _NOTHING if over == ABSENT else over}
