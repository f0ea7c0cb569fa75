"""Responses of an S3 store, as our errors and values.

Tests: ``tests/storage/s3/test_multipart.py``.
"""

from __future__ import annotations

import http
import re
from datetime import datetime
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from botocore.exceptions import (
    CredentialRetrievalError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
)

from registry.storage.errors import (
    NotOffered,
    PathNotFound,
    PreconditionFailed,
    StorageError,
    StorageFull,
    StorageUnavailable,
    StoreMisconfigured,
    Throttled,
)
from registry.storage.object_store.responses import STATUSES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from xml.etree.ElementTree import Element

    from botocore.exceptions import BotoCoreError


class BytesDamaged(StorageUnavailable):
    """The bytes that the store received are not those that the request names."""


VERSION = "ETag"
"""The header that names the version of an object."""
_CODES: dict[str, type[StorageError]] = {
    **dict.fromkeys(("NoSuchKey", "NotFound", "NoSuchUpload", "InvalidPart"), PathNotFound),
    **dict.fromkeys(("PreconditionFailed", "ConditionalRequestConflict"), PreconditionFailed),
    **dict.fromkeys(
        ("SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "RequestLimitExceeded"), Throttled
    ),
    **dict.fromkeys(("QuotaExceeded", "InsufficientStorage", "XMinioStorageFull"), StorageFull),
    **dict.fromkeys(("RequestTimeout", "InternalError", "ServiceUnavailable", "OperationAborted"), StorageUnavailable),
    **dict.fromkeys(("BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"), BytesDamaged),
}
_KEYS = "check storage.s3.access_key_id and storage.s3.secret_access_key, or what the environment says"
_REFUSALS = {
    "NoSuchBucket": "there is no such bucket: check storage.s3.bucket, or make it",
    "InvalidBucketName": "no bucket can have this name: check storage.s3.bucket",
    "InvalidAccessKeyId": f"the store does not know the access key: {_KEYS}",
    "XAdminUserNotFound": f"the store does not know the access key: {_KEYS}",
    "SignatureDoesNotMatch": f"the secret does not belong to the access key: {_KEYS}",
    "InvalidToken": f"the session token is not valid: {_KEYS}",
    "ExpiredToken": f"the credentials have expired: {_KEYS}",
    "AccessDenied": "these credentials may not do that: check the policies of the bucket and of the user",
    "AllAccessDisabled": "access to the bucket is disabled",
    "AuthorizationHeaderMalformed": "the bucket is in another region: check storage.s3.region",
    "IllegalLocationConstraintException": "the bucket is in another region: check storage.s3.region",
    "PermanentRedirect": "the bucket is in another region: check storage.s3.region and storage.s3.endpoint_url",
    "RequestTimeTooSkewed": "the clock of this machine is wrong",
}
_CREDENTIALS = (CredentialRetrievalError, NoCredentialsError, PartialCredentialsError, ProfileNotFound, NoRegionError)
_STATUSES = STATUSES | {
    http.HTTPStatus.CONFLICT: StorageUnavailable,  # with another request: versitygw says so of a race over a directory
    http.HTTPStatus.NOT_IMPLEMENTED: NotOffered,
}
_CODE = re.compile(rb"<Code>\s*([A-Za-z0-9_.]{1,100})\s*</Code>")


def error_of_exception(key: str, error: BotoCoreError) -> StorageError:
    """What an error of Amazon's library says."""
    if isinstance(error, _CREDENTIALS):
        return StoreMisconfigured(key, f"{error} ({_KEYS})")
    return StorageUnavailable(key, str(error))


def error_of_response(key: str, status: int, code: str) -> StorageError:
    """What an answer of this status and code says; without a code where it had no body, as to HEAD."""
    reason = f"{code} ({status})"
    if code in _REFUSALS:
        return StoreMisconfigured(key, f"{_REFUSALS[code]} ({code})")
    found = _CODES.get(code)
    if found is None and (not code or code == str(status) or status != http.HTTPStatus.NOT_FOUND):
        found = _STATUSES.get(status)
    if found is not None:
        return found(key, reason)
    if status < http.HTTPStatus.INTERNAL_SERVER_ERROR:
        return StoreMisconfigured(key, f"the store refuses the request: {reason}")
    return StorageUnavailable(key, reason)


def tag_of(key: str, headers: Mapping[str, str]) -> str:
    """The version that an answer names."""
    try:
        return headers[VERSION]
    except KeyError as error:
        raise StorageUnavailable(key, "the answer names no version of the object") from error


def code_of(body: bytes) -> str:
    """The code in the body of an error; empty where there is none."""
    found = _CODE.search(body)
    return found[1].decode() if found is not None else ""


def document_of(key: str, body: bytes) -> Element:
    """The XML document of an answer, its names without their namespace.

    Raises StorageUnavailable when it is none, and what it says where it is an error: the store begins to answer a copy
    or a completion before it has made it.
    """
    try:
        document = ET.fromstring(body)  # noqa: S314 - of the store that also has the data
    except ET.ParseError as error:
        raise StorageUnavailable(key, "the answer is not XML") from error
    for element in document.iter():
        element.tag = element.tag.rpartition("}")[2]
    if document.tag == "Error":
        raise error_of_response(key, http.HTTPStatus.INTERNAL_SERVER_ERROR, document.findtext("Code", ""))
    return document


def text_of(key: str, element: Element, name: str) -> str:
    """The text of an element within another. Raises StorageUnavailable when there is none."""
    found = element.findtext(name)
    if not found:
        raise StorageUnavailable(key, f"the answer has no {name}")
    return found


def time_of(key: str, element: Element, name: str) -> float:
    """The time that an element within another has, in seconds since the epoch. Raises StorageUnavailable."""
    try:
        return datetime.fromisoformat(text_of(key, element, name)).timestamp()
    except ValueError as error:
        raise StorageUnavailable(key, f"the answer has no time as {name}") from error
