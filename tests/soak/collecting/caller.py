"""*Caller*: a client of all servers at once, which comes again where it is asked to."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from tests.soak.client import Client, Reply
from tests.soak.collecting.times import PATIENCE

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping, Sequence

    from tests.support.payloads import Blob

PAUSE = 0.2
"""Seconds until a client comes again; it does not wait as long as it is told to, which is allowed."""


class Busy(Exception):
    """The registry asks to come again, where something may have gone wrong."""


class Caller:
    """Each request goes to one of the servers, and what one of them did the next one is asked about. For one thread."""

    def __init__(self, ports: Sequence[int], chance: random.Random, rough: threading.Event) -> None:
        """``rough`` is set while something goes wrong, and only then a 503 is no failure."""
        self._clients = [_Strict(port, rough) for port in ports]
        self._chance = chance
        self.waits = 0
        """How often the registry asked to come again."""

    def close(self) -> None:
        """End the connections."""
        for client in self._clients:
            client.close()

    def call(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """One request, repeated while the registry asks for that."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return self._any().call(method, target, body, headers)
            except Busy as busy:
                self._wait(busy, deadline)

    def push_blob(self, repository: str, blob: Blob) -> None:
        """Push a blob in any way, and again until it is acknowledged."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self._any().push_blob(repository, blob, self._chance.choice(("post", "put", "chunks", "stream")))
            except Busy as busy:
                self._wait(busy, deadline)
            else:
                return

    def mount(self, repository: str, digest: str, source: str) -> bool:
        """As ``Client.mount``."""
        try:
            return self._any().mount(repository, digest, source)
        except Busy:
            self.waits += 1
            return False

    def _any(self) -> Client:
        return self._chance.choice(self._clients)

    def _wait(self, busy: Busy, deadline: float) -> None:
        assert time.monotonic() < deadline, f"still not possible after {PATIENCE} s: {busy}"
        self.waits += 1
        time.sleep(PAUSE)


class _Strict(Client):
    """A connection to one server."""

    def __init__(self, port: int, rough: threading.Event) -> None:
        super().__init__(port)
        self._rough = rough

    def call(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """See Client. Raises Busy."""
        allowed = self._rough.is_set()
        reply = super().call(method, target, body, headers)
        if reply.status == 503 and (allowed or self._rough.is_set()):
            assert "retry-after" in reply.headers, reply
            raise Busy(f"{method} {target}: {reply.body[:300]!r}")
        assert reply.status < 500, f"{method} {target}: {reply}"
        return reply
