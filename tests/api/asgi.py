"""ASGI: a request handed to an application without a server between, which costs a tenth of a client library's way."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from starlette.types import ASGIApp, Message

HOST = "registry.test"
_KEPT = "!#$%&'()*+,/:;=?@[]~"
"""Characters of a target that need no percent."""


class Exchange:
    """One request and what came back: ``status``, ``headers`` with names in lower case, ``body``."""

    def __init__(
        self,
        method: str,
        target: str,
        body: bytes | Sequence[bytes],
        headers: Iterable[tuple[str, str]],
        peer: str,
    ) -> None:
        given = [(name.lower(), value) for name, value in headers]
        own = {"host": HOST, "accept": "*/*"}
        if not isinstance(body, bytes):
            own["transfer-encoding"] = "chunked"
        elif body or method in {"POST", "PUT", "PATCH"}:
            own["content-length"] = str(len(body))
        named = {name for name, _ in given}
        lines = [*(line for line in own.items() if line[0] not in named), *given]
        self._parts = [body] if isinstance(body, bytes) else list(body) or [b""]
        path, _, query = quote(target.removeprefix(f"http://{HOST}"), safe=_KEPT).partition("?")
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in lines],
            "server": (HOST, None),
            "client": (peer, 1),
        }
        self._done = asyncio.Event()
        self.status = 500
        self.headers: dict[str, str] = {}
        self.body = bytearray()

    async def run(self, application: ASGIApp) -> None:
        """Have it answered; what the application raises is for its server, not for its client."""
        with contextlib.suppress(Exception):
            await application(self._scope, self._receive, self._send)

    async def _receive(self) -> Message:
        if self._parts:
            part = self._parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(self._parts)}
        await self._done.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            for name, value in message["headers"]:
                key, said = name.decode().lower(), value.decode("latin-1")
                self.headers[key] = f"{self.headers[key]}, {said}" if key in self.headers else said
            return
        if self._scope["method"] != "HEAD":
            self.body += message.get("body", b"")
        if not message.get("more_body", False):
            self._done.set()
