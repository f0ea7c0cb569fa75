"""Reading a range of an S3 object in order, through connections that break."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError
from urllib3.exceptions import HTTPError

from registry.storage.errors import PathNotFound, PreconditionFailed, StorageUnavailable
from registry.storage.resuming_reader import ResumingReader

if TYPE_CHECKING:
    from registry.storage.driver import ObjectStat
    from registry.storage.resuming_reader import Body
    from registry.storage.s3_bucket import S3Bucket


class S3Reader(ResumingReader):
    """See ResumingReader. The version is an ETag."""

    broken = (BotoCoreError, HTTPError, OSError)

    def __init__(self, bucket: S3Bucket, key: str, stat: ObjectStat, body: Body | None, start: int, end: int) -> None:
        """See ResumingReader."""
        super().__init__(key, stat, body, start, end)
        self._bucket = bucket

    def _continue(self) -> Body:
        try:
            found = self._bucket.call(
                self._key,
                self._bucket.client.get_object,
                Range=f"bytes={self._position}-{self._end - 1}",
                IfMatch=self.stat.signature,
            )
        except (PathNotFound, PreconditionFailed) as error:
            raise StorageUnavailable(self._key, "it was replaced or deleted while it was read") from error
        return found["Body"]
