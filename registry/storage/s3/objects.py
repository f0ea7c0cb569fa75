"""Objects of a bucket on S3: read, written on conditions, listed, deleted."""

from __future__ import annotations

import base64
import http
import time
import zlib
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus
from xml.etree.ElementTree import Element, SubElement, tostring

from registry.storage.driver import ObjectStat
from registry.storage.errors import PathNotFound, StorageUnavailable
from registry.storage.object_store.objects import ABSENT, BucketObjects, Page
from registry.storage.object_store.responses import described, range_of, stat_of_headers
from registry.storage.s3.requests import S3Request
from registry.storage.s3.responses import VERSION, error_of_response, tag_of, text_of, time_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.storage.object_store.reader import Body
    from registry.storage.s3.client import S3Bucket

MOST_DELETED = 1000
"""Keys in one request."""
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


class S3Objects(BucketObjects):
    """See BucketObjects. The version is an ETag."""

    most_deleted = MOST_DELETED

    def __init__(self, bucket: S3Bucket) -> None:
        super().__init__(bucket.retry)
        self._bucket = bucket

    def stat(self, key: str) -> ObjectStat:
        """See BucketObjects."""
        return stat_of_headers(key, self._bucket.send(key, S3Request("head_object", "HEAD")).headers, VERSION)[0]

    def get(self, key: str, start: int, end: int | None, version: str = "") -> tuple[ObjectStat, Body]:
        """See BucketObjects."""
        headers = range_of(start, end) | ({"if-match": version} if version else {})
        return described(key, self._bucket.send(key, S3Request("get_object", "GET", headers, streams=True)), VERSION)

    def put_once(
        self, key: str, data: bytes | bytearray, over: str | None = None, *, sha256: str | None = None
    ) -> ObjectStat:
        """See BucketObjects."""
        request = S3Request("put_object", "PUT", condition_of(over), body=data, payload=sha256)
        return ObjectStat(len(data), tag_of(key, self._bucket.send_once(key, request).headers), time.time())

    def pages(self, prefix: str, *, after: str = "", delimiter: str = "", most: int) -> Iterator[Page]:
        """See BucketObjects."""
        path = self._bucket.path
        query = {"list-type": "2", "encoding-type": "url", "max-keys": str(most), "prefix": path(prefix)}
        more = {"delimiter": delimiter} if delimiter else {}
        more |= {"start-after": path(after)} if after else {}
        while True:
            request = S3Request("list_objects_v2", "GET", query=query | more, of_bucket=True)
            answer = self._bucket.ask(prefix, request)
            if answer.tag != "ListBucketResult":  # another answer is not taken for an empty bucket (I7)
                raise StorageUnavailable(prefix, "the answer is not a listing")
            decode = unquote_plus if answer.findtext("EncodingType") == "url" else str
            yield Page(
                [self._listed(decode(text_of(prefix, entry, "Key")), entry) for entry in answer.findall("Contents")],
                [
                    decode(text_of(prefix, entry, "Prefix")).removeprefix(self._bucket.root)
                    for entry in answer.findall("CommonPrefixes")
                ],
            )
            if answer.findtext("IsTruncated") != "true":
                return
            more.pop("start-after", None)
            more["continuation-token"] = text_of(prefix, answer, "NextContinuationToken")

    def delete_some(self, keys: list[str]) -> None:
        """See BucketObjects."""
        if len(keys) > 1:
            self.retry.repeat_refused(keys[0], partial(self._delete_once, keys))
            return
        with suppress(PathNotFound):
            once = partial(self._bucket.send_once, keys[0], S3Request("delete_object", "DELETE"))
            self.retry.repeat_refused(keys[0], once)

    def delete_once(self, key: str, version: str, deadline: float) -> None:  # noqa: ARG002 - the same bytes have the same ETag
        """See BucketObjects. Whatever version is there."""
        with self.retry.gate.enter(key):
            self._bucket.send_once(key, S3Request("delete_object", "DELETE", deadline=deadline))

    def _listed(self, path: str, entry: Element) -> tuple[str, ObjectStat]:
        key = path.removeprefix(self._bucket.root)
        size, tag = int(text_of(key, entry, "Size")), text_of(key, entry, "ETag")
        return key, ObjectStat(size, tag, time_of(key, entry, "LastModified"))

    def _delete_once(self, keys: list[str]) -> None:
        """One answer for all of them, in which each may have failed by itself."""
        wanted = Element("Delete", xmlns=NAMESPACE)
        for key in keys:
            SubElement(SubElement(wanted, "Object"), "Key").text = self._bucket.path(key)
        SubElement(wanted, "Quiet").text = "true"
        body = tostring(wanted)
        headers = {
            "x-amz-sdk-checksum-algorithm": "CRC32",
            "x-amz-checksum-crc32": base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode(),
        }
        request = S3Request("delete_objects", "POST", headers, {"delete": ""}, body, of_bucket=True)
        answer = self._bucket.ask_once(keys[0], request)
        if answer.tag != "DeleteResult":
            raise StorageUnavailable(keys[0], "the answer does not say what was deleted")
        for failed in answer.findall("Error"):
            key = failed.findtext("Key", "").removeprefix(self._bucket.root)
            error = error_of_response(key, http.HTTPStatus.INTERNAL_SERVER_ERROR, failed.findtext("Code", ""))
            if not isinstance(error, PathNotFound):
                raise error


def condition_of(over: str | None) -> dict[str, str]:
    """The header of a write over that version alone; none where it is None."""
    if over is None:
        return {}
    return {"if-none-match": "*"} if over == ABSENT else {"if-match": over}
