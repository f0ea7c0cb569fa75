"""The signature of an S3 request (SigV4), made again after a proxy has changed the request.

boto3 signs every field that means something to the store, ``If-Match`` and ``If-None-Match`` among them, so that a
proxy cannot take them away unnoticed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.support.http_message import Head

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<access>[^/]+)/(?P<scope>\d+/(?P<region>[^/]+)/s3/aws4_request),\s*"
    r"SignedHeaders=(?P<signed>[^,]+),\s*Signature=[0-9a-f]+"
)


def without(head: Head, names: AbstractSet[str], secret: str | None) -> Head:
    """Take fields and query parameters of these names out of a request; sign it again where it was signed.

    ``names`` are in lower case. The same head comes back where none of them is there. A body whose chunks are signed
    one by one cannot be signed again: each signature goes on from the one before.
    """
    first = _without_parameters(head.first, names)
    fields = [(name, value) for name, value in head.fields if name.decode("latin-1").lower() not in names]
    if len(fields) == len(head.fields) and first == head.first:
        return head
    changed = Head(first, fields)
    return changed if secret is None else _signed(changed, secret)


def _without_parameters(first: bytes, names: AbstractSet[str]) -> bytes:
    method, target, version = first.decode("latin-1").split(" ")
    path, mark, query = target.partition("?")
    parameters = parse_qsl(query, keep_blank_values=True)
    kept = [pair for pair in parameters if pair[0].lower() not in names]
    if len(kept) == len(parameters):
        return first
    mark = mark if kept else ""
    return f"{method} {path}{mark}{urlencode(kept)} {version}".encode("latin-1")


def _signed(head: Head, secret: str) -> Head:
    headers = head.headers()
    found = _AUTHORIZATION.match(headers.get("authorization", ""))
    if found is None:
        return head
    if headers.get("x-amz-content-sha256", "").startswith("STREAMING-AWS4"):
        raise ValueError("chunks that are signed one by one cannot be signed again")
    signed = [name for name in found["signed"].split(";") if name in headers]
    target = urlsplit(head.target)
    query = f"?{target.query}" if target.query else ""
    request = AWSRequest(
        method=head.method,
        url=f"http://{headers['host']}{target.path}{query}",
        headers={name: headers[name] for name in signed},
    )
    request.context["timestamp"] = headers["x-amz-date"]
    signer = S3SigV4Auth(Credentials(found["access"], secret), "s3", found["region"])
    canonical = signer.canonical_request(request)
    signature = signer.signature(signer.string_to_sign(request, canonical), request)
    value = (
        f"AWS4-HMAC-SHA256 Credential={found['access']}/{found['scope']}, "
        f"SignedHeaders={';'.join(signed)}, Signature={signature}"
    )
    return head.having(b"Authorization", value.encode())
