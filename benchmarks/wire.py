"""Wire: a lean HTTP/1.1 client with one socket, whole requests in one send, bodies from a file without a copy."""

from __future__ import annotations

import dataclasses
import os
import socket
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

BUFFER_BYTES = 1 << 20
_TIMEOUT_SECONDS = 300.0


class WireError(Exception):
    """The server closed, or answered something else than was asked for."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """Status, headers with lower-case names, and the body where it was kept."""

    status: int
    headers: dict[str, str]
    body: bytes

    def location(self) -> str:
        """Return the Location's path and query, whether it came relative or absolute."""
        location = self.headers["location"]
        if "://" in location:
            location = "/" + location.split("/", 3)[3]
        return location

    def expect(self, status: int) -> Self:
        """Return self if the status is the one given, else raise `WireError`."""
        if self.status != status:
            raise WireError(f"expected {status}, got {self.status}: {self.body[:300]!r}")
        return self


def head(
    method: str,
    target: str,
    length: int,
    content_type: str = "",
    accept: str = "",
    host: str = "127.0.0.1",
    authorization: str = "",
) -> bytes:
    """Return a request's head; ``length`` is the body's in bytes."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", f"Content-Length: {length}"]
    if content_type:
        lines.append(f"Content-Type: {content_type}")
    if accept:
        lines.append(f"Accept: {accept}")
    if authorization:
        lines.append(f"Authorization: {authorization}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Connection:
    """A kept-alive connection. Not for several threads."""

    def __init__(self, port: int, host: str = "127.0.0.1", authorization: str = "") -> None:
        """Connect to the loopback port; ``host`` is what requests name as their host, with this Authorization."""
        self._port = port
        self._host = host
        self._authorization = authorization
        self._socket = _connect(port)
        self._pending = b""

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the socket."""
        self._socket.close()

    def request(self, method: str, target: str, body: bytes = b"", content_type: str = "", accept: str = "") -> Reply:
        """Send a request with the body given and return the reply with its whole body."""
        opening = head(method, target, len(body), content_type, accept, self._host, self._authorization)
        self._socket.sendall(opening + body)
        reply, length = self._reply_head()
        if method == "HEAD":
            length = 0
        body = self._chunked() if length is None else self._exactly(length)
        self._renew(reply)
        return dataclasses.replace(reply, body=body)

    def send_file(self, method: str, target: str, first: bytes, source: int, size: int) -> Reply:
        """Send ``first`` and then the file ``source`` from that offset on, ``size`` bytes in all."""
        octets = "application/octet-stream"
        opening = head(method, target, size, octets, host=self._host, authorization=self._authorization)
        self._socket.sendall(opening + first)
        offset = len(first)
        while offset < size:
            offset += os.sendfile(self._socket.fileno(), source, offset, size - offset)
        reply, length = self._reply_head()
        body = self._chunked() if length is None else self._exactly(length)
        self._renew(reply)
        return dataclasses.replace(reply, body=body)

    def drain(self, target: str, buffer: bytearray, keep: Callable[[memoryview], None] | None = None) -> int:
        """GET and throw the body away, through the one buffer; return its length in bytes.

        ``keep``, where given, is called with each piece, in order; the piece is only valid during the call.
        """
        self._socket.sendall(head("GET", target, 0, host=self._host, authorization=self._authorization))
        reply, length = self._reply_head()
        reply.expect(200)
        if length is None:
            raise WireError(f"GET {target}: no Content-Length")
        left = length - len(self._pending)
        if keep is not None:
            keep(memoryview(self._pending))
        self._pending = b""
        view = memoryview(buffer)
        while left > 0:
            count = self._socket.recv_into(view, min(left, len(buffer)))
            if not count:
                raise WireError(f"GET {target}: {left} bytes short")
            if keep is not None:
                keep(view[:count])
            left -= count
        self._renew(reply)
        return length

    def redirected(self, target: str) -> str:
        """GET, and return the address of another server that it is answered with."""
        return self.request("GET", target).expect(307).headers["location"]

    def _renew(self, reply: Reply) -> None:
        if reply.headers.get("connection", "").lower() == "close":
            self._socket.close()
            self._socket = _connect(self._port)
            self._pending = b""

    def _fill(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise WireError("the server closed the connection")
        self._pending += data

    def _reply_head(self) -> tuple[Reply, int | None]:
        while (end := self._pending.find(b"\r\n\r\n")) < 0:
            self._fill()
        lines = self._pending[:end].decode("latin-1").split("\r\n")
        self._pending = self._pending[end + 4 :]
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        reply = Reply(int(lines[0].split(" ", 2)[1]), headers, b"")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return reply, None
        return reply, int(headers.get("content-length", "0"))

    def _exactly(self, length: int) -> bytes:
        while len(self._pending) < length:
            self._fill()
        body, self._pending = self._pending[:length], self._pending[length:]
        return body

    def _line(self) -> bytes:
        while (end := self._pending.find(b"\r\n")) < 0:
            self._fill()
        line, self._pending = self._pending[:end], self._pending[end + 2 :]
        return line

    def _chunked(self) -> bytes:
        parts = []
        while size := int(self._line().split(b";")[0], 16):
            parts.append(self._exactly(size))
            self._line()
        while self._line():
            pass
        return b"".join(parts)


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), _TIMEOUT_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setblocking(True)  # noqa: FBT003 - the socket's own signature; a timeout would poll before each call
    return connection


def closing(location: str, digest: str) -> str:
    """Return the target of the PUT that closes the upload at ``location`` (distribution spec, end-6)."""
    return f"{location}{'&' if '?' in location else '?'}digest={digest}"
