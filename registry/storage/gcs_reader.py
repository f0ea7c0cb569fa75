"""Reading a range of an object of Google Cloud Storage in order, through connections that break."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.storage.errors import PathNotFound, StorageUnavailable
from registry.storage.gcs_answers import InvalidRange
from registry.storage.gcs_bucket import Call
from registry.storage.resuming_reader import ResumingReader

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

    from registry.storage.driver import ObjectStat
    from registry.storage.gcs_bucket import GcsBucket


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
