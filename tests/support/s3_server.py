"""An S3 store of the tests' own: versitygw over a directory. It honours conditional writes and checks signatures."""

from __future__ import annotations

import re
import uuid
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import boto3
import botocore.session
from botocore.config import Config

from tests.support.access_log import AccessLog, Call
from tests.support.program import Program
from tests.support.tools import tool

if TYPE_CHECKING:
    from pathlib import Path

    from mypy_boto3_s3 import S3Client

botocore.session.create_loader = cache(botocore.session.create_loader)
"""Each client and driver of a test would read all that botocore knows of Amazon again, in a tenth of a second."""
REGION = "us-east-1"
_HEALTH = "/health"  # no bucket has such a short name that it could be hidden by this

_LINE = re.compile(r" s3_(?P<kind>\w+) .* (?P<target>/\S*) (?P<status>\d{3}) \S+ \d+ \d+ \d+ \d+ ")
_METHODS = {
    **dict.fromkeys(["GetObject", "ListObjects", "ListObjectsV2", "ListParts", "ListMultipartUploads"], "GET"),
    **dict.fromkeys(["HeadObject", "HeadBucket"], "HEAD"),
    **dict.fromkeys(["PutObject", "CopyObject", "UploadPart", "UploadPartCopy", "CreateBucket"], "PUT"),
    **dict.fromkeys(["DeleteObjects", "CreateMultipartUpload", "CompleteMultipartUpload"], "POST"),
    **dict.fromkeys(["DeleteObject", "DeleteBucket", "AbortMultipartUpload"], "DELETE"),
}


def _parse(line: str) -> Call | None:
    found = _LINE.search(line)
    if found is None:
        return None
    kind = found["kind"]
    return Call(_METHODS.get(kind, ""), kind, found["target"], int(found["status"]))


class S3Server(Program):
    """One versitygw. Buckets are directories of ``data``, objects are files in them."""

    name: ClassVar[str] = "versitygw"
    access = "stowage"
    secret = "not-a-secret-at-all"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory.resolve())
        self.data = self.directory / "data"
        self._log = AccessLog(self.directory / "access.log", _parse)

    @property
    def endpoint(self) -> str:
        """What a client takes as ``endpoint_url``."""
        return self.url

    def command(self) -> list[str]:
        """Return the command; its log of accesses names the S3 operation of each call."""
        self.data.mkdir(exist_ok=True)
        options = {
            "--port": self.address,
            "--access": self.access,
            "--secret": self.secret,
            "--region": REGION,
            "--health": _HEALTH,
            "--access-log": str(self._log.path),
        }
        flat = [part for option in options.items() for part in option]
        return [str(tool(self.name)), *flat, "--keep-alive", "--quiet", "posix", str(self.data)]

    def ready(self) -> bool:
        """Whether it answers now."""
        return self.answers(_HEALTH)

    def client(self, endpoint: str | None = None, **config: Any) -> S3Client:
        """A boto3 client of the store, or of a proxy in front of it; ``config`` are fields of botocore's Config."""
        return boto3.client(
            "s3",
            endpoint_url=endpoint or self.endpoint,
            region_name=REGION,
            aws_access_key_id=self.access,
            aws_secret_access_key=self.secret,
            config=Config(s3={"addressing_style": "path"}, **config),
        )

    @cached_property
    def _own(self) -> S3Client:
        """Made once: that takes as long as the rest of a small test."""
        return self.client()

    def new_bucket(self, name: str | None = None) -> str:
        """Make an empty bucket, with a name of its own unless one is given; its name."""
        bucket = name or f"bucket-{uuid.uuid4().hex[:12]}"
        try:
            self._own.create_bucket(Bucket=bucket)
        finally:
            self._own.close()  # its connections alone: it is used again
        return bucket

    def storage(self, bucket: str, endpoint: str | None = None) -> dict[str, object]:
        """The section ``storage`` of a registry that keeps its content in ``bucket``."""
        return {
            "driver": "s3",
            "root_directory": "stowage",
            "s3": {
                "bucket": bucket,
                "region": REGION,
                "endpoint_url": endpoint or self.endpoint,
                "access_key_id": self.access,
                "secret_access_key": self.secret,
            },
        }

    def calls(self) -> list[Call]:
        """Return what the store itself says it answered since ``reset_calls``, oldest first."""
        return self._log.calls()

    def reset_calls(self) -> None:
        """Forget the calls until now."""
        self._log.reset()
