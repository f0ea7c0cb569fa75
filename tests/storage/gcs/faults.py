"""A server between the driver and fake-gcs-server that answers wrongly when a test asks for it.

It also gives what fake-gcs-server lacks: conditions on compositions and copies, and tokens for the key of a service
account.
"""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, urlsplit

SILENCE = 2.5
"""Seconds, more than any client here waits for an answer."""


class Seen(NamedTuple):
    """A request that came."""

    method: str
    target: str
    headers: dict[str, str]


Fault = Callable[["Handler"], None]


@dataclass
class Rule:
    """What happens to some of the requests, a number of times."""

    fault: Fault
    method: str = ""
    part: str = ""
    """Text in the target."""
    times: int = 1 << 30

    def meets(self, handler: Handler) -> bool:
        return bool(self.times) and handler.command.startswith(self.method) and self.part in handler.path


@dataclass
class Faults:
    """The server. Rules are looked through in order; without one a request goes through."""

    upstream: str
    rules: list[Rule] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.faults = self  # type: ignore[attr-defined]
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def take(self, handler: Handler) -> Fault | None:
        """The fault of the first rule that meets the request."""
        with self._lock:
            self.seen.append(Seen(handler.command, handler.path, dict(handler.headers.items())))
            for rule in self.rules:
                if rule.meets(handler):
                    rule.times -= 1
                    return rule.fault
        return None

    def count(self, method: str = "", part: str = "") -> int:
        """How many such requests came."""
        return sum(seen.method.startswith(method) and part in seen.target for seen in self.seen)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def handle_one_request(self) -> None:
        with suppress(ConnectionError, ValueError):
            super().handle_one_request()

    def do_any(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("content-length", 0)))
        fault = self.server.faults.take(self)  # type: ignore[attr-defined]
        (fault or forward)(self)

    do_GET = do_POST = do_DELETE = do_any  # noqa: N815 - as http.server wants it

    def ask(self) -> tuple[int, dict[str, str], bytes]:
        """The store's own answer."""
        upstream = urlsplit(self.server.faults.upstream)  # type: ignore[attr-defined]
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        connection = http.client.HTTPConnection(upstream.netloc, timeout=30)
        try:
            if self._is_held_back(connection):
                return 412, {}, b'{"error": {"message": "held back", "errors": [{"reason": "conditionNotMet"}]}}'
            connection.request(self.command, self.path, self.body, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def answer(
        self, status: int, headers: dict[str, str], body: bytes, *, cut: int | None = None, stall: float = 0
    ) -> None:
        """Send an answer; with ``cut`` only so many bytes of its body, and then nothing more."""
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in {"content-length", "connection", "transfer-encoding", "date", "server"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:cut])
        self.wfile.flush()
        time.sleep(stall)
        if cut is not None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def _is_held_back(self, connection: http.client.HTTPConnection) -> bool:
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        if path.endswith("/compose") and query.get("ifGenerationMatch") == ["0"]:
            return _there(connection, path.removesuffix("/compose")) is not None
        if "ifSourceGenerationMatch" in query:
            there = _there(connection, path.partition("/rewriteTo/")[0])
            return there is not None and [there] != query["ifSourceGenerationMatch"]
        return False

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as http.server calls it
        """Nothing."""


def _there(connection: http.client.HTTPConnection, path: str) -> str | None:
    """The generation of an object; None where there is none."""
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    return str(json.loads(body)["generation"]) if answer.status == 200 else None


def forward(handler: Handler) -> None:
    """No fault."""
    handler.answer(*handler.ask())


def status(code: int, message: str = "", reason: str = "", headers: dict[str, str] | None = None) -> Fault:
    """An answer of the server that tells an error."""
    body = json.dumps({"error": {"code": code, "message": message, "errors": [{"reason": reason}]}}).encode()
    return lambda handler: handler.answer(code, headers or {}, body)


def text(code: int, body: bytes) -> Fault:
    """Another answer."""
    return lambda handler: handler.answer(code, {"X-Goog-Generation": "1"}, body)


def reset(handler: Handler) -> None:
    """The connection breaks before an answer."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.connection.close()


def silence(handler: Handler) -> None:
    """No answer within the timeout."""
    time.sleep(SILENCE)
    reset(handler)


def lose(handler: Handler) -> None:
    """It is done, and the answer is lost."""
    handler.ask()
    reset(handler)


def lose_as(code: int) -> Fault:
    """It is done, and the answer says otherwise."""

    def fault(handler: Handler) -> None:
        handler.ask()
        status(code)(handler)

    return fault


def cut_after(size: int) -> Fault:
    """The connection breaks in the middle of the body."""
    return lambda handler: handler.answer(*handler.ask(), cut=size)


def stall_after(size: int) -> Fault:
    """Nothing more comes in the middle of the body."""

    def fault(handler: Handler) -> None:
        code, headers, body = handler.ask()
        handler.answer(code, headers, body, cut=size, stall=SILENCE)

    return fault
