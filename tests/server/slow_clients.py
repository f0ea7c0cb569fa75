"""Clients that begin to send and then send nothing, many of them, until a test goes on with one."""

from __future__ import annotations

import re
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tests.server.sending import TIMEOUT, Client
from tests.support.payloads import digest_of
from tests.support.servers import HOST

if TYPE_CHECKING:
    from types import TracebackType

    from tests.support.servers import Registry


@dataclass
class SlowClient:
    """One request, the body of which is the caller's to send."""

    connection: socket.socket
    chunked: bool
    location: str
    """Of its upload session."""

    def send(self, data: bytes) -> None:
        """More of the body."""
        self.connection.sendall(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def finish(self) -> int:
        """End a chunked body, or one that is whole. The status of the answer."""
        if self.chunked:
            self.connection.sendall(b"0\r\n\r\n")
        with self.connection.makefile("rb") as answer:
            found = re.match(rb"HTTP/1.1 (\d+)", answer.readline())
        assert found
        return int(found[1])


class SlowClients:
    """Connections to one registry, closed together."""

    def __init__(self, registry: Registry) -> None:
        self._port = registry.port
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def upload(self, repository: str, length: int | None) -> SlowClient:
        """A PATCH of a new session; without a length its body is chunked."""
        with Client(self._port) as client:
            location = client.start_upload(repository)
        return self._begin("PATCH", location, length, "application/octet-stream")

    def push(self, repository: str, data: bytes, *, chunked: bool) -> SlowClient:
        """A PUT that closes a new session with the digest of ``data``: its bytes are gathered where they will stay."""
        with Client(self._port) as client:
            location = client.start_upload(repository)
        target = f"{location}?digest={digest_of(data)}"
        return self._begin("PUT", target, None if chunked else len(data), "application/octet-stream")

    def manifest(self, repository: str, reference: str, length: int | None, media_type: str) -> SlowClient:
        """A PUT of a manifest."""
        return self._begin("PUT", f"/v2/{repository}/manifests/{reference}", length, media_type)

    def _begin(self, method: str, target: str, length: int | None, media_type: str) -> SlowClient:
        connection = self._open.enter_context(socket.create_connection((HOST, self._port), timeout=TIMEOUT))
        framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        lines = [f"{method} {target} HTTP/1.1", f"Host: {HOST}", f"Content-Type: {media_type}", framing]
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        return SlowClient(connection, length is None, target)


def wait_for_offset(port: int, location: str, offset: int) -> None:
    """Until a session has so many bytes."""
    until = time.monotonic() + TIMEOUT
    with Client(port) as client:
        while time.monotonic() < until:
            reply = client.call("GET", location)
            if reply.headers.get("range") == f"0-{offset - 1}":
                return
            time.sleep(0.05)
    raise AssertionError(f"{location} has not got {offset} bytes: {reply}")
