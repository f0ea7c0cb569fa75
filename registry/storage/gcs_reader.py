"""Reading a range of an object of Google Cloud Storage in order, through connections that break."""

from __future__ import annotations

from http.client import HTTPException
from typing import TYPE_CHECKING, Self

from urllib3.exceptions import HTTPError

from registry.storage.errors import PathNotFound, StorageUnavailable
from registry.storage.gcs_answers import InvalidRange
from registry.storage.gcs_bucket import Call

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

    from registry.storage.driver import ObjectStat
    from registry.storage.gcs_bucket import GcsBucket

REOPENED = 3
"""How often a range is continued on a new connection before the reader gives up."""


class GcsReader:
    """See ObjectReader. One request, and one more for each connection that breaks; always of one generation."""

    def __init__(
        self, bucket: GcsBucket, key: str, stat: ObjectStat, body: BaseHTTPResponse | None, start: int, end: int
    ) -> None:
        """``body`` has the bytes from ``start`` to ``end``; None: there are none."""
        self.stat = stat
        self._bucket = bucket
        self._key = key
        self._body = body
        self._position = start
        self._end = end
        self._left = REOPENED

    @staticmethod
    def call(bucket: GcsBucket, key: str, start: int, end: int | None, generation: str = "") -> Call:
        """The request for a range, of one generation or of the newest."""
        query = {"alt": "media", "generation": generation} if generation else {"alt": "media"}
        headers = {}
        if start or end is not None:
            headers["range"] = f"bytes={start}-" if end is None else f"bytes={start}-{end - 1}"
        return Call("objects.get", "GET", bucket.object(key), query, headers, streams=True)

    def read(self, size: int) -> bytes:
        """See ObjectReader."""
        wanted = min(size, self._end - self._position)
        if wanted <= 0 or self._body is None:
            return b""
        while True:
            try:
                data = self._body.read(wanted)
            except (HTTPError, HTTPException, OSError) as error:
                self._open_again(str(error))
                continue
            if data:
                self._position += len(data)
                return data
            self._open_again("the connection ended early")

    def fileno(self) -> int | None:
        """See ObjectReader."""
        return None

    def close(self) -> None:
        """See ObjectReader."""
        body, self._body = self._body, None
        if body is not None:
            body.close()
            body.release_conn()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _open_again(self, reason: str) -> None:
        self.close()
        self._left -= 1
        if self._left < 0:
            raise StorageUnavailable(self._key, reason)
        call = self.call(self._bucket, self._key, self._position, self._end, self.stat.signature)
        try:
            self._body = self._bucket.send(self._key, call)
        except (PathNotFound, InvalidRange) as error:
            raise StorageUnavailable(self._key, "it was replaced or deleted while it was read") from error
