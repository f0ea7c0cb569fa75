"""Where a bucket is, as Amazon's library finds it from its settings: its rules for this are many."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from urllib3 import HTTPResponse

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest
    from mypy_boto3_s3 import S3Client

_SCOPE = re.compile(r"Credential=.*/\d{8}/(?P<region>[^/,]+)/(?P<service>[^/,]+)/aws4_request,")
_PORTS = {"http": 80, "https": 443}
_EVENT = "before-send.s3.HeadObject"


class Endpoint(NamedTuple):
    """Endpoint: the address of one bucket's objects."""

    scheme: str
    host: str
    """As it stands in requests: with a port unless it is the usual one."""
    path: str
    """What comes before a quoted key."""
    region: str
    service: str

    @property
    def origin(self) -> str:
        """Scheme and host."""
        return f"{self.scheme}://{self.host}"


def place_of(client: S3Client, bucket: str) -> Endpoint:
    """Seen in a request that is made and signed, and not sent. One at a time. Raises BotoCoreError."""
    made: list[AWSPreparedRequest] = []

    def keep(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        made.append(request)
        return AWSResponse(request.url, 200, HTTPHeaders(), HTTPResponse(io.BytesIO(), preload_content=False))

    events: Any = client.meta.events
    events.register(_EVENT, keep)
    try:
        client.head_object(Bucket=bucket, Key="k")
    finally:
        events.unregister(_EVENT, keep)
    url = urlsplit(made[0].url)
    scope = _SCOPE.search(_text(made[0].headers["Authorization"]))
    assert scope is not None  # noqa: S101 - signed with version 4, as the client is told
    host = url.hostname or ""
    named = f"[{host}]" if ":" in host else host
    if url.port not in {None, _PORTS[url.scheme]}:
        named += f":{url.port}"
    return Endpoint(url.scheme, named, url.path.removesuffix("k"), scope["region"], scope["service"])


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
