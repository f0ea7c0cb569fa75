"""The one tree of errors a client can see: status, code, message, detail (distribution spec, "Error Codes").

Every layer raises these values; ``registry.api.errors`` turns them into an OCI error body in one place.

Tests: ``tests/api/test_endpoints.py``.
"""

from __future__ import annotations

from typing import ClassVar

Detail = dict[str, object] | list[object] | str | None


class RegistryError(Exception):
    """An answer to a client that is not a success.

    Attributes:
        status: the HTTP status.
        code: the code of the OCI error body.
        message: what happened and what to do next, for a person.
        detail: a JSON value for programs, or None.
        headers: response headers that belong to this answer (Location, Range, Retry-After, Allow).
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "UNKNOWN"
    default: ClassVar[str] = "the registry met an unexpected error; its log has the request id"

    def __init__(
        self, message: str | None = None, *, detail: Detail = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message or self.default)
        self.message = message or self.default
        self.detail = detail
        self.headers = headers or {}

    def body(self) -> dict[str, object]:
        """The OCI error document: ``{"errors": [{"code", "message", "detail"}]}``."""
        error: dict[str, object] = {"code": self.code, "message": self.message}
        if self.detail is not None:
            error["detail"] = self.detail
        return {"errors": [error]}


class BlobUnknown(RegistryError):
    """BLOB_UNKNOWN (code-1)."""

    status = 404
    code = "BLOB_UNKNOWN"
    default = "the blob is not in this repository; push or mount it first"


class BlobUploadInvalid(RegistryError):
    """BLOB_UPLOAD_INVALID (code-2)."""

    status = 400
    code = "BLOB_UPLOAD_INVALID"
    default = "the upload cannot go on; start a new one"


class BlobUploadUnknown(RegistryError):
    """BLOB_UPLOAD_UNKNOWN (code-3)."""

    status = 404
    code = "BLOB_UPLOAD_UNKNOWN"
    default = "there is no such upload; it was finished, cancelled or has expired; start a new one"


class BlobUploadBusy(RegistryError):
    """BLOB_UPLOAD_INVALID (code-2, two writers at once)."""

    status = 409
    code = "BLOB_UPLOAD_INVALID"
    default = "another request is writing to this upload; ask for its status and continue from there"


class DigestInvalid(RegistryError):
    """DIGEST_INVALID (code-4)."""

    status = 400
    code = "DIGEST_INVALID"
    default = "the digest is malformed, unsupported, or not that of the content"


class ManifestBlobUnknown(RegistryError):
    """MANIFEST_BLOB_UNKNOWN (code-5)."""

    status = 400
    code = "MANIFEST_BLOB_UNKNOWN"
    default = "the manifest names content that is not in this repository; push that first"


class ManifestInvalid(RegistryError):
    """MANIFEST_INVALID (code-6)."""

    status = 400
    code = "MANIFEST_INVALID"
    default = "the manifest is not valid"


class ManifestTooLarge(RegistryError):
    """MANIFEST_INVALID (code-6, over the limit of manifests.max_bytes)."""

    status = 413
    code = "MANIFEST_INVALID"
    default = "the manifest is larger than manifests.max_bytes"


class ManifestUnknown(RegistryError):
    """MANIFEST_UNKNOWN (code-7)."""

    status = 404
    code = "MANIFEST_UNKNOWN"
    default = "the manifest is not in this repository"


class NameInvalid(RegistryError):
    """NAME_INVALID (code-8)."""

    status = 400
    code = "NAME_INVALID"
    default = "the repository name is not valid"


class NameUnknown(RegistryError):
    """NAME_UNKNOWN (code-9)."""

    status = 404
    code = "NAME_UNKNOWN"
    default = "there is no such repository"


class SizeInvalid(RegistryError):
    """SIZE_INVALID (code-10)."""

    status = 400
    code = "SIZE_INVALID"
    default = "the length of the content is not the one that was announced"


class Unauthorized(RegistryError):
    """UNAUTHORIZED (code-11).

    Attributes:
        scope: what a token would have to allow, for the challenge; "" if that is not known.
        problem: what is wrong with the token that was sent (RFC 6750, section 3.1); "" if none was.
    """

    status = 401
    code = "UNAUTHORIZED"
    default = "authentication is required"
    scope: str = ""
    problem: str = ""


class RequestInvalid(RegistryError):
    """UNSUPPORTED (a request of the administration or of a login whose parts do not fit)."""

    status = 400
    code = "UNSUPPORTED"
    default = "the request is not what this endpoint takes"


class GrantInvalid(RegistryError):
    """UNSUPPORTED (a request for a token that is not understood; RFC 6749, section 5.2)."""

    status = 400
    code = "UNSUPPORTED"
    default = "the request for a token is not valid"
    error: ClassVar[str] = "invalid_request"

    def body(self) -> dict[str, object]:
        """See RegistryError; with the members that clients of OAuth read."""
        return {**super().body(), "error": self.error, "error_description": self.message}


class GrantUnsupported(GrantInvalid):
    """UNSUPPORTED (a kind of grant that there is not: clients ask by GET then)."""

    default = "grant_type is none of password, refresh_token and urn:ietf:params:oauth:grant-type:token-exchange"
    error = "unsupported_grant_type"


class Denied(RegistryError):
    """DENIED (code-12)."""

    status = 403
    code = "DENIED"
    default = "this identity may not do that"


class TagImmutable(RegistryError):
    """DENIED (code-12, for every caller: the tag stays what it is)."""

    status = 409
    code = "DENIED"
    default = "the tag is immutable; push another tag"


class QuotaExceeded(RegistryError):
    """DENIED (code-12, for every caller: the repositories of a quota have the bytes that they may have)."""

    status = 403
    code = "DENIED"
    default = "the quota of this repository is full; delete what is not needed"


class Unsupported(RegistryError):
    """UNSUPPORTED (code-13)."""

    status = 405
    code = "UNSUPPORTED"
    default = "the operation is not supported"


class TooManyRequests(RegistryError):
    """TOOMANYREQUESTS (code-14)."""

    status = 429
    code = "TOOMANYREQUESTS"
    default = "too many requests; wait and try again"


class RangeInvalid(RegistryError):
    """RANGE_INVALID (no code of the spec; named as the reference implementation does)."""

    status = 416
    code = "RANGE_INVALID"
    default = "the range does not continue the upload or lies outside the content"


class TagInvalid(RegistryError):
    """TAG_INVALID (no code of the spec; named as the reference implementation does)."""

    status = 400
    code = "TAG_INVALID"
    default = "the tag is not valid"


class PaginationInvalid(RegistryError):
    """PAGINATION_NUMBER_INVALID (no code of the spec; named as the reference implementation does)."""

    status = 400
    code = "PAGINATION_NUMBER_INVALID"
    default = "n must be a whole number that is not negative"


class NotFound(RegistryError):
    """NOT_FOUND (a path that is no endpoint)."""

    status = 404
    code = "NOT_FOUND"
    default = "there is nothing at this path; the OCI API is under /v2/"


class Unavailable(RegistryError):
    """UNAVAILABLE (storage or database do not answer)."""

    status = 503
    code = "UNAVAILABLE"
    default = "the registry cannot answer now; try again shortly"


class BadGateway(RegistryError):
    """UNAVAILABLE (an upstream gave no answer, or none that can be used)."""

    status = 502
    code = "UNAVAILABLE"
    default = "the upstream of this mirror gave no answer that can be used; try again later"


class GatewayTimeout(RegistryError):
    """UNAVAILABLE (an upstream did not answer in time)."""

    status = 504
    code = "UNAVAILABLE"
    default = "the upstream of this mirror did not answer in time; try again later"


class InsufficientStorage(RegistryError):
    """UNAVAILABLE (storage has no space left)."""

    status = 507
    code = "UNAVAILABLE"
    default = "the storage is full; free space (registry gc --empty-trash removes what was deleted) or enlarge it"


class RequestTimeout(RegistryError):
    """BLOB_UPLOAD_INVALID (a body that stopped arriving for http.idle_timeout)."""

    status = 408
    code = "BLOB_UPLOAD_INVALID"
    default = "the body stopped arriving; ask for the upload's status and continue from there"


class MalformedRequest(RegistryError):
    """UNSUPPORTED (bytes that are no request of HTTP/1.1, or have ambiguous framing)."""

    status = 400
    code = "UNSUPPORTED"
    default = "this is not a valid request of HTTP/1.1"


class HeadTimeout(RegistryError):
    """UNSUPPORTED (a head that did not arrive within http.head_timeout)."""

    status = 408
    code = "UNSUPPORTED"
    default = "the head of the request did not arrive in time"


class TargetTooLong(RegistryError):
    """UNSUPPORTED (a target over the limit of http.max_target_bytes)."""

    status = 414
    code = "UNSUPPORTED"
    default = "the target of the request is longer than http.max_target_bytes"


class HeadTooLarge(RegistryError):
    """UNSUPPORTED (a head, trailers or framing over the limits of http.max_head_bytes and http.max_headers)."""

    status = 431
    code = "UNSUPPORTED"
    default = "the headers of the request are more than http.max_head_bytes or http.max_headers"


class VersionUnknown(RegistryError):
    """UNSUPPORTED (a version of HTTP that is neither 1.0 nor 1.1)."""

    status = 505
    code = "UNSUPPORTED"
    default = "this server speaks HTTP/1.0 and HTTP/1.1"
