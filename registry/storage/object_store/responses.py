"""*Responses* of a store over HTTP: statuses as errors, headers as values, bodies that are read as they come."""

from __future__ import annotations

import http
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING

from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ReadTimeoutError

from registry.storage.driver import ObjectStat
from registry.storage.errors import (
    InvalidRange,
    NotSent,
    PathNotFound,
    PreconditionFailed,
    StorageError,
    StorageFull,
    StorageUnavailable,
    Throttled,
    Unanswered,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from urllib3 import BaseHTTPResponse

STATUSES: dict[int, type[StorageError]] = {
    http.HTTPStatus.NOT_FOUND: PathNotFound,
    http.HTTPStatus.PRECONDITION_FAILED: PreconditionFailed,
    http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: InvalidRange,
    http.HTTPStatus.TOO_MANY_REQUESTS: Throttled,
    http.HTTPStatus.SERVICE_UNAVAILABLE: Throttled,
    http.HTTPStatus.REQUEST_TIMEOUT: StorageUnavailable,
    http.HTTPStatus.GATEWAY_TIMEOUT: Unanswered,
    http.HTTPStatus.INSUFFICIENT_STORAGE: StorageFull,
}
BROKEN = (HTTPError, HTTPException, OSError)
"""What a request or its body raises when a connection breaks."""
_BREAKS: dict[type[Exception], type[StorageUnavailable]] = {
    NewConnectionError: NotSent,
    ConnectTimeoutError: NotSent,
    ReadTimeoutError: Unanswered,
}
"""What is known of a request by the way in which its connection broke."""


class ResponseBody:
    """See Body. The body of a response of urllib3 with a Content-Length and no other framing. For one thread at a time.

    ``read`` and ``read_into`` return less than is asked for, also nothing, where the connection ends early.
    """

    def __init__(self, response: BaseHTTPResponse, length: int) -> None:
        """``length`` of the body in bytes."""
        self.length = length
        self._response = response
        self._left = length
        self._socket: socket.socket | None = None

    def read(self, size: int) -> bytes:
        """At most ``size`` more bytes."""
        if self._socket is not None:
            buffer = bytearray(min(size, self._left))
            return bytes(buffer[: self.read_into(memoryview(buffer))])
        data = self._response.read(min(size, self._left))
        self._left -= len(data)
        return data

    def read_into(self, buffer: memoryview) -> int:
        """Fill a buffer; how many bytes these are.

        A new object of a MiB for each read costs as much again as receiving it: the system has to find its pages.
        """
        wanted = buffer[: self._left]
        filled = 0
        while filled < len(wanted):
            count = self._receive(wanted[filled:])
            self._left -= count
            filled += count
            if not count:
                break
        return filled

    def close(self) -> None:
        """Let the connection be used again, where everything was read in the usual way; else cut it."""
        if self._left or self._socket is not None:
            self._response.close()
        else:
            self._response.drain_conn()
        self._response.release_conn()

    def _receive(self, wanted: memoryview) -> int:
        if self._socket is not None:
            return self._socket.recv_into(wanted)
        data = self._response.read1(len(wanted))
        wanted[: len(data)] = data
        connection: object = self._response.connection
        if len(data) < len(wanted) and isinstance(connection, HTTPConnection):
            # What came with the head has been taken: nothing is left in between, and the socket is ours.
            self._socket = connection.sock
        return len(data)


def range_of(start: int, end: int | None) -> dict[str, str]:
    """The header of a request for some bytes of an object; none if it is for all of them."""
    if end is not None:
        return {"range": f"bytes={start}-{end - 1}"}
    return {"range": f"bytes={start}-"} if start else {}


def stat_of_headers(key: str, headers: Mapping[str, str], version: str) -> tuple[ObjectStat, int]:
    """What a response with an object, or a range of it, says of the whole, and how many bytes it has.

    ``version`` is the header that names the object's version. Raises StorageUnavailable.
    """
    try:
        length = int(headers["Content-Length"])
        whole = headers.get("Content-Range", "").rpartition("/")[2] or length
        modified = parsedate_to_datetime(headers["Last-Modified"]).timestamp()
        return ObjectStat(int(whole), headers[version], modified), length
    except (KeyError, TypeError, ValueError) as error:
        raise StorageUnavailable(key, "the answer does not describe an object") from error


def described(key: str, response: BaseHTTPResponse, version: str) -> tuple[ObjectStat, ResponseBody]:
    """What a response with bytes of an object says of the whole, and the bytes. Raises StorageUnavailable."""
    try:
        stat, length = stat_of_headers(key, response.headers, version)
    except StorageUnavailable:
        response.close()
        raise
    return stat, ResponseBody(response, length)


def error_of_break(key: str, error: Exception) -> StorageUnavailable:
    """What a broken connection (BROKEN) says of its request."""
    kind = next((kind for cause, kind in _BREAKS.items() if isinstance(error, cause)), StorageUnavailable)
    return kind(key, f"{type(error).__name__}: {error}")


def body_of(key: str, response: BaseHTTPResponse) -> bytes:
    """The body of a response that tells an error. Raises StorageUnavailable."""
    try:
        return response.data
    except BROKEN as error:
        raise StorageUnavailable(key, f"{response.status}, and {error}") from error
