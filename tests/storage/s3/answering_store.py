"""A store that answers what a test wants, and keeps what it was asked."""

from __future__ import annotations

import ssl
import threading
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

from tests.support.servers import HOST

if TYPE_CHECKING:
    from email.message import Message


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    target: str
    headers: Message
    body: bytes
    connection: int
    """Which of the connections, in the order of their first request."""


@dataclass
class Answer:
    """One answer. ``closes``: the connection ends behind it, without a word."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"tag"'})
    closes: bool = False


class AnsweringStore:
    """Gives the answers that were prepared, in their order, then ``Answer()`` to everything."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.asked: list[Asked] = []
        self.answers: deque[Answer] = deque()
        self._server = ThreadingHTTPServer((HOST, 0), _handler(self))
        self._server.daemon_threads = True
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http{'s' if context else ''}://{HOST}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(store: AnsweringStore) -> type[BaseHTTPRequestHandler]:
    connections: list[object] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            if self.connection not in connections:
                connections.append(self.connection)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            place = connections.index(self.connection)
            store.asked.append(Asked(self.command, self.path, self.headers, body, place))
            given = store.answers.popleft() if store.answers else Answer()
            self.send_response(given.status)
            for name, value in {"Content-Length": str(len(given.body)), **given.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(given.body)
            self.close_connection = given.closes

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815 - names of the library

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
