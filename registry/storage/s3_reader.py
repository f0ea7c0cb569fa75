"""Reading a range of an S3 object in order, through connections that break."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.storage.errors import PathNotFound, PreconditionFailed, StorageUnavailable
from registry.storage.resuming_reader import ResumingReader
from registry.storage.s3_requests import ObjectRequest

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

    from registry.storage.driver import ObjectStat
    from registry.storage.s3_bucket import S3Bucket


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
