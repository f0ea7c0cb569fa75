"""A client that sends any bytes and reads the answer strictly: what no HTTP library would send or accept."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from dataclasses import dataclass, field, replace

TIMEOUT = 15.0
"""Seconds that a server may take to answer or close; a hang is a failed test."""


@dataclass(frozen=True)
class Address:
    """Where a server listens."""

    host: str
    port: int


@dataclass(frozen=True)
class Request:
    """A request that need not be valid; ``body`` goes out as it is, whatever the headers say of it."""

    method: str
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    version: bytes = b"HTTP/1.1"
    half_close: bool = False
    """End the sending side after the body, as a client that vanishes does."""

    def encode(self) -> bytes:
        """The bytes for the socket; a Host header is added unless there is one."""
        lines = [self.method.encode("latin-1") + b" " + self.target + b" " + self.version]
        if not any(name.lower() == b"host" for name, _ in self.headers):
            lines.append(b"Host: registry.test")
        lines.extend(name + b": " + value for name, value in self.headers)
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body


def request(
    method: str,
    target: str | bytes,
    *,
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
    chunked: bool = False,
) -> Request:
    """A request with honest framing: Content-Length, or chunks when asked; non-ASCII targets go out as UTF-8."""
    raw = target if isinstance(target, bytes) else target.encode()
    fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items()]
    if chunked:
        fields.append((b"Transfer-Encoding", b"chunked"))
        body = b"".join(chunk(part) for part in _slices(body or b"")) + b"0\r\n\r\n"
    elif body is not None:
        fields.append((b"Content-Length", str(len(body)).encode()))
    return Request(method, raw, tuple(fields), body or b"")


def chunk(data: bytes) -> bytes:
    """One chunk of the chunked transfer coding (RFC 9112 section 7.1)."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def _slices(data: bytes, size: int = 65536) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@dataclass(frozen=True)
class Reply:
    """An answer; ``complete`` is False when the connection ended before the announced length."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    complete: bool = True
    raw: bytes = field(default=b"", repr=False)

    def header(self, name: str) -> str | None:
        """The only value of a header, None where it is absent."""
        values = [value for key, value in self.headers if key == name.lower()]
        assert len(values) <= 1, f"{name} is sent {len(values)} times"
        return values[0] if values else None

    def codes(self) -> list[str]:
        """The codes of an OCI error body; raises AssertionError where the body is not one."""
        assert (self.header("content-type") or "").split(";")[0] == "application/json", self
        document = json.loads(self.body)
        assert isinstance(document, dict), self
        assert isinstance(document.get("errors"), list), self
        assert document["errors"], self
        for error in document["errors"]:
            assert isinstance(error.get("code"), str), self
            assert isinstance(error.get("message", ""), str), self
        return [error["code"] for error in document["errors"]]

    @property
    def location(self) -> str:
        """The Location, which must be there."""
        value = self.header("location")
        assert value is not None, self
        return value


def send(address: Address, message: Request) -> Reply:
    """Send one request on a connection of its own; raises ConnectionError where no status line comes back."""
    reply = try_send(address, message)
    if reply is None:
        raise ConnectionError(f"no answer to {message.method} {message.target[:200]!r}")
    return reply


def try_send(address: Address, message: Request) -> Reply | None:
    """Like ``send``; None when the server closes the connection without an answer. Raises TimeoutError on a hang."""
    fields = message
    if not any(name.lower() == b"connection" for name, _ in message.headers):
        fields = replace(message, headers=(*message.headers, (b"Connection", b"close")))
    with socket.create_connection((address.host, address.port), timeout=TIMEOUT) as connection:
        # The server may answer and close before it has read everything: its answer counts.
        with suppress(ConnectionError):
            connection.sendall(fields.encode())
            if message.half_close:
                connection.shutdown(socket.SHUT_WR)
        return read_reply(connection, head=message.method == "HEAD")


def read_reply(connection: socket.socket, *, head: bool = False) -> Reply | None:
    """The next final answer on a connection (1xx are skipped); None where it ends before a status line."""
    stream = _Stream(connection)
    while True:
        block = stream.until(b"\r\n\r\n")
        if block is None:
            return None
        status, headers = _parse_head(block)
        if status >= 200:
            break
    body, complete = _read_body(stream, status, dict(headers), head=head)
    return Reply(status, headers, body, complete, raw=block)


class _Stream:
    """Bytes of a connection, buffered."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = bytearray()

    def _more(self) -> bool:
        try:
            data = self._connection.recv(65536)
        except ConnectionError:
            return False
        self._buffer += data
        return bool(data)

    def until(self, mark: bytes) -> bytes | None:
        """Bytes up to and with ``mark``, None where the connection ends before it."""
        while (end := self._buffer.find(mark)) < 0:
            if not self._more():
                return None
        return self._take(end + len(mark))

    def exactly(self, size: int) -> bytes:
        """``size`` bytes, fewer where the connection ends."""
        while len(self._buffer) < size and self._more():
            pass
        return self._take(size)

    def rest(self) -> bytes:
        """Everything to the end of the connection."""
        while self._more():
            pass
        return self._take(len(self._buffer))

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data


def _parse_head(block: bytes) -> tuple[int, tuple[tuple[str, str], ...]]:
    lines = block[:-4].split(b"\r\n")
    version, status, *_ = lines[0].split(b" ", 2)
    assert version in {b"HTTP/1.1", b"HTTP/1.0"}, block[:200]
    headers = []
    for line in lines[1:]:
        assert b"\n" not in line, f"a line feed inside a header: {line!r}"
        assert b"\r" not in line, f"a carriage return inside a header: {line!r}"
        name, _, value = line.partition(b":")
        headers.append((name.decode("latin-1").lower(), value.strip().decode("latin-1")))
    return int(status), tuple(headers)


def _read_body(stream: _Stream, status: int, headers: dict[str, str], *, head: bool) -> tuple[bytes, bool]:
    if head or status in {204, 304}:
        return b"", True
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return _read_chunks(stream)
    if "content-length" in headers:
        size = int(headers["content-length"])
        body = stream.exactly(size)
        return body, len(body) == size
    return stream.rest(), True


def _read_chunks(stream: _Stream) -> tuple[bytes, bool]:
    body = bytearray()
    while True:
        line = stream.until(b"\r\n")
        if line is None:
            return bytes(body), False
        size = int(line.split(b";")[0], 16)
        data = stream.exactly(size + 2)
        if len(data) < size + 2:
            return bytes(body), False
        if size == 0:
            return bytes(body), True
        body += data[:-2]
