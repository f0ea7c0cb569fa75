"""Batch delete: many objects of a Google Cloud Storage bucket with one request.

Tests: ``tests/storage/gcs/test_driver.py``.
"""

from __future__ import annotations

import http
from email import message_from_bytes
from typing import TYPE_CHECKING

from registry.storage.errors import PathNotFound, StorageError, StorageUnavailable, Throttled
from registry.storage.gcs.client import Call
from registry.storage.gcs.responses import error_of_response

if TYPE_CHECKING:
    from registry.storage.gcs.client import GcsBucket

MOST_DELETED = 100
"""Objects in one request."""
_BOUNDARY = "stowage-batch"


class Deletion:
    """At most MOST_DELETED objects that are to go; a missing one is no error."""

    def __init__(self, bucket: GcsBucket, keys: list[str]) -> None:
        self._bucket = bucket
        self._keys = list(dict.fromkeys(keys))

    def attempt(self) -> None:
        """Delete what is left of them. Raises StorageError; then the next attempt asks for the rest again."""
        if len(self._keys) == 1:
            self._delete_one(self._keys[0])
        else:
            self._delete_all()

    def _delete_one(self, key: str) -> None:
        try:
            self._bucket.send_once(key, Call("objects.delete", "DELETE", self._bucket.object(key)))
        except PathNotFound:
            return

    def _delete_all(self) -> None:
        asked = [
            f"--{_BOUNDARY}\r\ncontent-type: application/http\r\ncontent-id: <delete+{number}>\r\n\r\n"
            f"DELETE {self._bucket.object(key)} HTTP/1.1\r\n\r\n\r\n"
            for number, key in enumerate(self._keys)
        ]
        body = f"{''.join(asked)}--{_BOUNDARY}--\r\n".encode()
        headers = {"content-type": f"multipart/mixed; boundary={_BOUNDARY}"}
        answer = self._bucket.send_once("", Call("batch", "POST", "/batch/storage/v1", headers=headers, body=(body,)))
        failures = self._failures(answer.headers.get("content-type", ""), answer.data)
        self._keys = [key for key, _ in failures]
        if failures:
            refusals = [error for _, error in failures if not isinstance(error, (Throttled, StorageUnavailable))]
            raise refusals[0] if refusals else failures[0][1]

    def _failures(self, content_type: str, body: bytes) -> list[tuple[str, StorageError]]:
        """The keys that may still be there, and why."""
        parsed = message_from_bytes(f"content-type: {content_type}\r\n\r\n".encode() + body)
        parts = [part for part in parsed.walk() if not part.is_multipart()]
        answers = {_number(part["content-id"]): part.get_payload(decode=True) for part in parts}
        failures = []
        for number, key in enumerate(self._keys):
            answer = answers.get(str(number))
            error = _failure(key, answer if isinstance(answer, bytes) else b"")
            if error is not None:
                failures.append((key, error))
        return failures


def _number(content_id: object) -> str:
    """Which of the requests an answer belongs to: ``<response-delete+7>``."""
    return str(content_id).rstrip(">").rpartition("+")[2]


def _failure(key: str, answer: bytes) -> StorageError | None:
    """What one of the answers says, if it is not that the object is gone."""
    head, _, body = answer.lstrip().replace(b"\r\n", b"\n").partition(b"\n\n")
    try:
        status = int(head.split()[1])
    except (IndexError, ValueError):
        return StorageUnavailable(key, "the answer does not say whether it was deleted")
    if status < http.HTTPStatus.MULTIPLE_CHOICES:
        return None
    error = error_of_response(key, status, body.strip())
    return None if isinstance(error, PathNotFound) else error
