"""An upstream on loopback that does what a test tells it to, and writes down what it was asked."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from registry.config.upstream_sections import UpstreamSettings
from registry.upstream.client import Upstream
from registry.upstream.resolver import Resolver

if TYPE_CHECKING:
    from tests.support.authority import Issued

LOCAL = "127.0.0.1"
NAMES = ("registry.example.org", "auth.example.org", "cdn.example.org", "other.example.org", "example.org")
"""Names that ``local`` finds here."""


class Seen(NamedTuple):
    """One request."""

    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    has_certificate: bool


class Handler(BaseHTTPRequestHandler):
    """Answers by the reply of its path, with or without the query."""

    protocol_version = "HTTP/1.1"
    hostile: HostileServer

    def do_POST(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hostile = self.hostile
        certificate = self.connection.getpeercert() if isinstance(self.connection, ssl.SSLSocket) else None
        headers = {name.lower(): value for name, value in self.headers.items()}
        with hostile.lock:
            hostile.seen.append(Seen(self.command, self.path, headers, bool(certificate)))
        reply = hostile.replies.get(self.path) or hostile.replies.get(self.path.partition("?")[0])
        with contextlib.suppress(OSError):  # the client has gone
            if reply is None:
                self.answer(404, b"nothing here")
            else:
                reply(self)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_CONNECT(self) -> None:
        self.do_GET()

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Answer whole; ``Content_Type`` is the header Content-Type."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers and "Transfer_Encoding" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def tunnel(self) -> None:
        """Pass bytes on to the port that CONNECT names, here, whatever its host is."""
        with socket.create_connection((LOCAL, int(self.path.rpartition(":")[2]))) as far:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pass_on, args=(far, self.connection))
            back.start()
            _pass_on(self.connection, far)
            back.join()
        self.close_connection = True

    def cut(self) -> None:
        """End the connection in the middle of whatever it was."""
        self.wfile.flush()
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the interface of http.server
        pass


Reply = Callable[[Handler], None]


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 64
    hostile: HostileServer

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        context = self.hostile.context
        if context is not None:
            connection = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        with self.hostile.lock:
            self.hostile.connections.append(connection)
        return connection, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a handshake that a client has ended, or a connection that it has cut


class HostileServer:
    """``replies`` by path say how it answers; a path without one is 404."""

    def __init__(self, certificate: Issued | None = None, client_ca: Path | None = None) -> None:
        """``certificate`` for HTTPS; with ``client_ca`` it asks for certificates of clients, and needs none."""
        self.context: ssl.SSLContext | None = None
        if certificate is not None:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(certificate.pem, certificate.key)
            if client_ca is not None:
                self.context.verify_mode = ssl.CERT_OPTIONAL
                self.context.load_verify_locations(client_ca)
        self.lock = threading.Lock()
        self.replies: dict[str, Reply] = {}
        self.seen: list[Seen] = []
        self.connections: list[socket.socket] = []
        """Every one that was accepted."""
        self.ended = threading.Event()
        """Set at the end: what hangs waits for it."""
        self._server = _Server((LOCAL, 0), type("Bound", (Handler,), {"hostile": self}))
        self._server.hostile = self
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def url(self, host: str = LOCAL) -> str:
        """Its address under a name."""
        return f"{'http' if self.context is None else 'https'}://{host}:{self.port}"

    def paths(self) -> list[str]:
        """What was asked for, in order."""
        return [seen.path for seen in self.seen]

    def close(self) -> None:
        self.ended.set()
        self._server.shutdown()
        self._thread.join()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        self._server.server_close()
        for connection in self.connections:
            connection.close()


@contextlib.contextmanager
def hostile_server(certificate: Issued | None = None, client_ca: Path | None = None) -> Iterator[HostileServer]:
    server = HostileServer(certificate, client_ca)
    try:
        yield server
    finally:
        server.close()


def whole(status: int, body: bytes = b"", **headers: str) -> Reply:
    """The same answer each time."""
    return lambda handler: handler.answer(status, body, **headers)


def redirect(location: str, status: int = 307) -> Reply:
    return whole(status, b"elsewhere", Location=location)


class Silence:
    """A Reply that begins, and never ends."""

    def __init__(self, begin: bytes = b"") -> None:
        self.begin = begin
        self.reached = threading.Event()
        self.is_cut = threading.Event()
        """The client has ended the connection."""

    def __call__(self, handler: Handler) -> None:
        handler.wfile.write(self.begin)
        handler.wfile.flush()
        self.reached.set()
        handler.connection.settimeout(120)
        handler.close_connection = True
        with contextlib.suppress(ConnectionError):
            if handler.connection.recv(1):
                return
        self.is_cut.set()


def local(*, further: Mapping[str, list[str]] | None = None) -> Resolver:
    """Finds NAMES here, and ``further`` ones where they say."""
    known = {**{name: [LOCAL] for name in NAMES}, **(further or {})}

    def look_up(host: str) -> list[str]:
        if host not in known:
            raise OSError("unknown name")
        return known[host]

    return Resolver(look_up)


def settings_of(*urls: str, **keys: Any) -> UpstreamSettings:
    """Settings with short timeouts, and no proxy."""
    return UpstreamSettings.model_validate(
        {"url": urls, "proxy": None, "connect_timeout": 5, "read_timeout": 10, **keys}
    )


@contextlib.contextmanager
def upstream_of(*urls: str, name: str = "hub", resolver: Resolver | None = None, **keys: Any) -> Iterator[Upstream]:
    """The client of a mirror; ``tokens`` and ``metrics`` are its arguments, every other key one of its settings."""
    arguments = {key: keys.pop(key) for key in ("tokens", "metrics") if key in keys}
    upstream = Upstream(name, settings_of(*urls, **keys), resolver=resolver or local(), **arguments)
    try:
        yield upstream
    finally:
        upstream.close()
