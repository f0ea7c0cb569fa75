"""Calling an ASGI application synchronously, without a socket."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Message

CHUNK = 7
"""Bytes of one part of a body: small, so that every body arrives in several."""


@dataclass(frozen=True)
class Reply:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of the OCI error body."""
        code: str = self.json["errors"][0]["code"]
        return code


class Caller:
    """One event loop and the application in it; ``close`` ends both."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application
        self._runner = asyncio.Runner()

    def close(self) -> None:
        """Free the loop."""
        self._runner.close()

    def call(self, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
        """Send one request and read the whole answer."""
        return self._runner.get_loop().run_until_complete(self._call(method, target, body, headers or {}))

    async def _call(self, method: str, target: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        parts = urlsplit(target)
        fields = {"host": "registry.test", "content-length": str(len(body))} | {
            k.lower(): v for k, v in headers.items()
        }
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": parts.path,
            "raw_path": quote(parts.path).encode(),
            "query_string": parts.query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "state": {},
        }
        pending: list[Message] = [
            {"type": "http.request", "body": body[at : at + CHUNK], "more_body": at + CHUNK < len(body)}
            for at in range(0, max(len(body), 1), CHUNK)
        ]
        sent: list[Message] = []

        async def receive() -> Message:
            if pending:
                return pending.pop(0)
            # A client that waits for its answer sends nothing more.
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Message) -> None:
            sent.append(message)

        await self._application(scope, receive, send)
        start = sent[0]
        assert start["type"] == "http.response.start"
        assert sent[-1].get("more_body", False) is False
        content = b"".join(message.get("body", b"") for message in sent[1:])
        raw = {name.decode().lower(): value.decode() for name, value in start["headers"]}
        return Reply(start["status"], raw, content)
