"""*Endpoint*: where a bucket is, as Amazon's library finds it from its settings: its rules for this are many.

Tests: ``tests/storage/s3/test_signature.py``.
"""

from __future__ import annotations

import io
import re
import threading
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from urllib3 import HTTPResponse

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.awsrequest import AWSPreparedRequest
    from botocore.session import Session

    from registry.config.sections import S3Settings

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


def finder(session: Session, settings: S3Settings, endpoint_url: str | None) -> Callable[[], Endpoint]:
    """What finds the bucket at an address of the store, None for Amazon's; it raises BotoCoreError.

    Raises BotoCoreError and ValueError where the settings leave no way to find it.
    """
    secret = settings.secret_access_key
    client = session.create_client(
        "s3",
        region_name=settings.region,
        endpoint_url=endpoint_url,
        aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=secret.get_secret_value() if secret is not None else None,
        config=Config(signature_version="s3v4", s3={"addressing_style": settings.addressing_style}),
    )
    lock = threading.Lock()

    def find() -> Endpoint:
        with lock:  # the hook is one of the client
            return _find(client, settings.bucket)

    return find


def _find(client: Any, bucket: str) -> Endpoint:  # noqa: ANN401 - botocore makes its methods at run time
    """Seen in a request that is made and signed, and not sent. Raises BotoCoreError."""
    made: list[AWSPreparedRequest] = []

    def keep(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        made.append(request)
        return AWSResponse(request.url, 200, HTTPHeaders(), HTTPResponse(io.BytesIO(), preload_content=False))

    events = client.meta.events
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
