"""Requests in slow motion: the head and the pieces of a body are sent when the test says so."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from tests.support.payloads import digest_of
from tests.support.servers import HOST

if TYPE_CHECKING:
    from collections.abc import Mapping

Config = dict[str, dict[str, object]]
"""Sections of a configuration, by key."""
TIMEOUT = 60.0
"""Seconds that an answer may take."""


@dataclass(frozen=True)
class Reply:
    """An answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


class Client:
    """One connection to a server on this machine."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(HOST, port, timeout=TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Cut the connection, in the middle of whatever it is."""
        self._connection.close()

    def call(self, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
        """One request with its answer."""
        self._connection.request(method, target, body, dict(headers or {}))
        return self.answer()

    def begin(self, method: str, target: str, length: int) -> None:
        """Send the head of a request whose body of ``length`` bytes follows."""
        self._connection.putrequest(method, target)
        self._connection.putheader("Content-Length", str(length))
        self._connection.putheader("Content-Type", "application/octet-stream")
        self._connection.endheaders()

    def send(self, data: bytes) -> None:
        """A piece of the body."""
        self._connection.send(data)

    def answer(self) -> Reply:
        """Read the answer to its end."""
        response = self.opened()
        return Reply(response.status, lower(response), response.read())

    def opened(self) -> http.client.HTTPResponse:
        """The answer, whose body is still to be read."""
        return self._connection.getresponse()

    def start_upload(self, repository: str) -> str:
        """Open an upload session; its path."""
        reply = self.call("POST", f"/v2/{repository}/blobs/uploads/")
        assert reply.status == 202, reply
        return reply.headers["location"]

    def push(self, repository: str, data: bytes) -> str:
        """Push a blob; its digest."""
        digest = digest_of(data)
        reply = self.call("POST", f"/v2/{repository}/blobs/uploads/?digest={digest}", data)
        assert reply.status == 201, reply
        return digest


def lower(response: http.client.HTTPResponse) -> dict[str, str]:
    """The headers of an answer."""
    return {name.lower(): value for name, value in response.getheaders()}


def call(port: int, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
    """One request on a connection of its own."""
    with Client(port) as client:
        return client.call(method, target, body, headers)
