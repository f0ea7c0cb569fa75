"""Responses of Google Cloud Storage, as our errors and values.

Tests: ``tests/storage/gcs/test_client.py``.
"""

from __future__ import annotations

import http
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson

from registry.storage.driver import ObjectStat
from registry.storage.errors import StorageError, StorageFull, StorageUnavailable, StoreMisconfigured, Throttled
from registry.storage.gcs.credentials import WHERE
from registry.storage.object_store.responses import STATUSES

if TYPE_CHECKING:
    from collections.abc import Mapping


VERSION = "X-Goog-Generation"
"""The header that names the version of an object."""
_REASONS: dict[str, type[StorageError]] = {
    **dict.fromkeys(("rateLimitExceeded", "userRateLimitExceeded", "usageLimits.rateLimitExceeded"), Throttled),
    **dict.fromkeys(("quotaExceeded", "dailyLimitExceeded"), StorageFull),
}
"""A few limits are told with a status that says less."""
_REFUSALS = {
    http.HTTPStatus.UNAUTHORIZED: f"the store does not accept these credentials: {WHERE}",
    http.HTTPStatus.FORBIDDEN: (
        "these credentials may not do that: check their role for storage.gcs.bucket (Storage Object User is enough), "
        "retention and holds of the bucket, and storage.gcs.credentials_file"
    ),
}
NO_BUCKET = "there is no such bucket: check storage.gcs.bucket, or make it"
_SAYS_NO_BUCKET = "bucket does not exist"
_SAYS_DAMAGED = "CRC32C"
_SHOWN = 300
"""Characters of a message of the store."""


def error_of_response(key: str, status: int, body: bytes) -> StorageError:
    """The error that an answer with this status and body is."""
    reason, message = _explanation(body)
    said = f"{status} {reason} {message}".strip()
    if status == http.HTTPStatus.NOT_FOUND and _SAYS_NO_BUCKET in message:
        return StoreMisconfigured(key, f"{NO_BUCKET} ({said})")
    if status == http.HTTPStatus.BAD_REQUEST and _SAYS_DAMAGED in message.upper():
        return StorageUnavailable(key, f"the bytes were damaged on their way ({said})")
    found = _REASONS.get(reason) or STATUSES.get(status)
    if found is not None:
        return found(key, said)
    if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        return StorageUnavailable(key, said)
    if status < http.HTTPStatus.BAD_REQUEST:
        return StoreMisconfigured(key, f"this is not the store, check storage.gcs.endpoint_url ({said})")
    return StoreMisconfigured(
        key, f"{_REFUSALS.get(http.HTTPStatus(status), 'the store refuses the request')} ({said})"
    )


def document_of(key: str, body: bytes) -> dict[str, Any]:
    """The JSON object of an answer. Raises StorageUnavailable when it is none."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise StorageUnavailable(key, "the answer is not JSON") from error
    if not isinstance(document, dict):
        raise StorageUnavailable(key, "the answer is not a JSON object")
    return document


def stat_of(key: str, resource: Mapping[str, Any]) -> ObjectStat:
    """From the resource of an object. Times are whole seconds, because headers tell no more."""
    try:
        modified = datetime.fromisoformat(resource["updated"]).timestamp()
        return ObjectStat(int(resource["size"]), str(resource["generation"]), float(int(modified)))
    except (KeyError, TypeError, ValueError) as error:
        raise StorageUnavailable(key, "the answer does not describe an object") from error


def _explanation(body: bytes) -> tuple[str, str]:
    """Reason and message of an error; answers to requests for bytes are plain text."""
    try:
        error = orjson.loads(body)["error"]
        message = str(error["message"])[:_SHOWN]
        return str(error["errors"][0]["reason"]), message
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError):
        return "", body[:_SHOWN].decode("utf-8", "replace")
