"""How S3 and GCS say the same things: which operation a request asks for, and what an error looks like."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

JSON = "application/json; charset=UTF-8"
XML = "application/xml"

_S3_CODES = {
    400: "BadRequest",
    403: "AccessDenied",
    404: "NoSuchKey",
    408: "RequestTimeout",
    409: "ConditionalRequestConflict",
    412: "PreconditionFailed",
    429: "TooManyRequests",
    500: "InternalError",
    501: "NotImplemented",
    503: "SlowDown",
}
_GCS_REASONS = {
    403: "forbidden",
    404: "notFound",
    408: "requestTimeout",
    412: "conditionNotMet",
    429: "rateLimitExceeded",
}

_S3_ROWS: tuple[tuple[str, bool, frozenset[str], str], ...] = (
    ("GET", False, frozenset({"uploads"}), "ListMultipartUploads"),
    ("GET", False, frozenset({"list-type"}), "ListObjectsV2"),
    ("GET", False, frozenset(), "ListObjects"),
    ("HEAD", False, frozenset(), "HeadBucket"),
    ("PUT", False, frozenset(), "CreateBucket"),
    ("POST", False, frozenset({"delete"}), "DeleteObjects"),
    ("DELETE", False, frozenset(), "DeleteBucket"),
    ("GET", True, frozenset({"uploadId"}), "ListParts"),
    ("GET", True, frozenset(), "GetObject"),
    ("HEAD", True, frozenset(), "HeadObject"),
    ("PUT", True, frozenset({"partNumber", "uploadId", "copy"}), "UploadPartCopy"),
    ("PUT", True, frozenset({"partNumber", "uploadId"}), "UploadPart"),
    ("PUT", True, frozenset({"copy"}), "CopyObject"),
    ("PUT", True, frozenset(), "PutObject"),
    ("POST", True, frozenset({"uploads"}), "CreateMultipartUpload"),
    ("POST", True, frozenset({"uploadId"}), "CompleteMultipartUpload"),
    ("DELETE", True, frozenset({"uploadId"}), "AbortMultipartUpload"),
    ("DELETE", True, frozenset(), "DeleteObject"),
)
"""Method, whether a key is named, what else must be there, and the operation; the first row that fits holds."""

_GCS_ROWS: tuple[tuple[str, str, str, str], ...] = (
    ("POST", r"/upload/storage/v1/b/[^/]+/o/?", "uploadType=resumable", "StartResumable"),
    ("PUT", r"/upload/.*", "", "PutResumable"),
    ("DELETE", r"/upload/.*", "", "CancelResumable"),
    ("POST", r"/upload/storage/v1/b/[^/]+/o/?", "", "InsertObject"),
    ("GET", r"/download/storage/v1/b/[^/]+/o/.+", "", "GetObject"),
    ("POST", r"/batch/.*", "", "Batch"),
    ("POST", r"/storage/v1/b/[^/]+/o/.+/rewriteTo/.+", "", "RewriteObject"),
    ("POST", r"/storage/v1/b/[^/]+/o/.+/copyTo/.+", "", "CopyObject"),
    ("POST", r"/storage/v1/b/[^/]+/o/.+/compose", "", "ComposeObject"),
    ("GET", r"/storage/v1/b/[^/]+/o/.+", "alt=media", "GetObject"),
    ("GET", r"/storage/v1/b/[^/]+/o/.+", "", "GetMetadata"),
    ("PATCH", r"/storage/v1/b/[^/]+/o/.+", "", "PatchObject"),
    ("PUT", r"/storage/v1/b/[^/]+/o/.+", "", "UpdateObject"),
    ("DELETE", r"/storage/v1/b/[^/]+/o/.+", "", "DeleteObject"),
    ("GET", r"/storage/v1/b/[^/]+/o/?", "", "ListObjects"),
    ("GET", r"/storage/v1/b/[^/]+/?", "", "GetBucket"),
    ("GET", r"/storage/v1/b/?", "", "ListBuckets"),
    ("POST", r"/storage/v1/b/?", "", "CreateBucket"),
)
"""Method, the whole path, a part of the query, and the operation; the first row that fits holds."""


@dataclass(frozen=True)
class Dialect:
    """What differs between the protocols, as far as a proxy in between has to know it."""

    name: str
    kind: Callable[[str, str, Mapping[str, str]], str]
    """Method, target, headers with names in lower case: the operation, or the method where it is none we know."""
    error: Callable[[int], tuple[str, bytes]]
    """Status: media type and body of such an answer."""


def _s3_kind(method: str, target: str, headers: Mapping[str, str]) -> str:
    parts = urlsplit(target)
    _, _, key = parts.path.lstrip("/").partition("/")
    there = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    if "x-amz-copy-source" in headers:
        there.add("copy")
    for wanted, has_key, needed, kind in _S3_ROWS:
        if method == wanted and bool(key) == has_key and needed <= there:
            return kind
    return method


def _s3_error(status: int) -> tuple[str, bytes]:
    code = _S3_CODES.get(status, "InternalError")
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>A test asked for {status}.</Message>"
        "<RequestId>FAULT</RequestId></Error>"
    )
    return XML, text.encode()


def _gcs_kind(method: str, target: str, headers: Mapping[str, str]) -> str:
    parts = urlsplit(target)
    for wanted, pattern, query, kind in _GCS_ROWS:
        if method == wanted and query in parts.query and re.fullmatch(pattern, parts.path):
            return kind
    return method


def _gcs_error(status: int) -> tuple[str, bytes]:
    message = f"A test asked for {status}."
    reason = _GCS_REASONS.get(status, "backendError")
    entry = {"domain": "global", "reason": reason, "message": message}
    return JSON, json.dumps({"error": {"code": status, "message": message, "errors": [entry]}}).encode()


S3 = Dialect("s3", _s3_kind, _s3_error)
GCS = Dialect("gcs", _gcs_kind, _gcs_error)
