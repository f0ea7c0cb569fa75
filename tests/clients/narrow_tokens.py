"""A token service that gives less than it is asked for, once: what a client needs then is another token."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from tests.auth.signing import ec, signed

if TYPE_CHECKING:
    from collections.abc import Iterator

ISSUER = "https://tokens.example.org"
SERVICE = "registry.example.org"
USER = "alice"


class NarrowTokens:
    """Every caller is alice. Asked for more than the right to pull, it gives that alone the first time."""

    def __init__(self) -> None:
        self.is_narrow = False
        self.asked: list[str] = []
        """The scopes that were asked for, their actions in alphabetical order."""
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps({"token": service.token(parse_qs(urlsplit(self.path).query))}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                """There are no forms: clients ask by GET then."""
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the interface of http.server
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.realm = f"http://localhost:{self._server.server_address[1]}/token"

    def narrow(self) -> None:
        """Give less than is asked for, the next time."""
        self.asked.clear()
        self.is_narrow = True

    def token(self, query: dict[str, list[str]]) -> str:
        """The token that a query asks for, or a narrower one."""
        scopes = [scope for value in query.get("scope", []) for scope in value.split()]
        access = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            given = actions.replace("*", "pull,push,delete").split(",")
            self.asked.append(f"{kind}:{name}:{','.join(sorted(actions.split(',')))}")
            access.append({"type": kind, "name": name, "actions": given})
        if self.is_narrow and any(entry["actions"] != ["pull"] for entry in access):
            self.is_narrow = False
            access = [{**entry, "actions": ["pull"]} for entry in access]
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": SERVICE, "sub": USER, "iat": now, "nbf": now, "exp": now + 300}
        return signed(ec(), "ES256", {**claims, "access": access})

    @contextmanager
    def running(self) -> Iterator[NarrowTokens]:
        """Answer for the length of a block."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()
