"""Reading a range of an S3 object in order, through connections that break."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from botocore.exceptions import BotoCoreError
from urllib3.exceptions import HTTPError

from registry.storage.errors import PathNotFound, StorageUnavailable

if TYPE_CHECKING:
    from botocore.response import StreamingBody

    from registry.storage.driver import ObjectStat
    from registry.storage.s3_bucket import S3Bucket

REOPENED = 3
"""How often a range is continued on a new connection before the reader gives up."""


class S3Reader:
    """See ObjectReader. One request, and one more for each connection that breaks; always of one version."""

    def __init__(
        self, bucket: S3Bucket, key: str, stat: ObjectStat, body: StreamingBody | None, start: int, end: int
    ) -> None:
        """``body`` has the bytes from ``start`` to ``end``; None: there are none."""
        self.stat = stat
        self._bucket = bucket
        self._key = key
        self._body = body
        self._position = start
        self._end = end
        self._left = REOPENED

    def read(self, size: int) -> bytes:
        """See ObjectReader."""
        wanted = min(size, self._end - self._position)
        if wanted <= 0 or self._body is None:
            return b""
        while True:
            try:
                data = self._body.read(wanted)
            except (BotoCoreError, HTTPError, OSError) as error:
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _open_again(self, reason: str) -> None:
        self.close()
        self._left -= 1
        if self._left < 0:
            raise StorageUnavailable(self._key, reason)
        try:
            found = self._bucket.call(
                self._key,
                self._bucket.client.get_object,
                Range=f"bytes={self._position}-{self._end - 1}",
                IfMatch=self.stat.signature,
            )
        except PathNotFound as error:
            raise StorageUnavailable(self._key, "it was deleted while it was read") from error
        self._body = found["Body"]
