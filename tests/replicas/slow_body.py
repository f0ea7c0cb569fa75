"""A request whose body stops in the middle, until a test goes on with it or lets go."""

from __future__ import annotations

import http.client
from typing import Self

from tests.clients.wire import Answer

BLOCK = 1 << 20


class SlowBody:
    """One request on a connection of its own, of which only the head was sent at first."""

    def __init__(self, address: str, method: str, path: str, length: int) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=60)
        self._connection.putrequest(method, path)
        self._connection.putheader("Content-Length", str(length))
        self._connection.putheader("Content-Type", "application/octet-stream")
        self._connection.endheaders()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.cut()

    def send(self, data: bytes) -> None:
        """More of the body, in blocks: the server has taken all but what fits into the buffers of two sockets."""
        view = memoryview(data)
        for start in range(0, len(data), BLOCK):
            self._connection.send(view[start : start + BLOCK])

    def answer(self) -> Answer:
        """What the server says."""
        response = self._connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read())

    def cut(self) -> None:
        """End the connection, in the middle or not."""
        self._connection.close()
