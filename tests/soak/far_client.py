"""A client of several replicas: what one cannot do now it takes to the next."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from tests.soak.client import BROKEN, Client, Reply
from tests.support.nginx import ASKED
from tests.support.servers import HOST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FAILED = frozenset({502, 503, 504})
LOST = {404: b"BLOB_UPLOAD_UNKNOWN", 400: b"MANIFEST_BLOB_UNKNOWN"}
"""What a client may hear after the database was lost: it begins the push again."""


class Refused(OSError):
    """An answer after which the push is begun again, like after a broken connection."""


class FarClient(Client):
    """As Client; an answer that asks to try again is raised as one of ``BROKEN``. The next request goes elsewhere.

    ``lossy``: the database may be lost, and with it sessions, and blobs that no manifest names.
    """

    _numbers = itertools.count()

    def __init__(self, ports: Sequence[int], *, lossy: bool = False) -> None:
        self._ports = itertools.islice(itertools.cycle(ports), next(self._numbers) % len(ports), None)
        super().__init__(next(self._ports))
        self._lossy = lossy
        self.refused: list[int] = []

    def call(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """See Client. A 503 has to say when to come back, unless it is not of the registry."""
        try:
            reply = super().call(method, target, body, headers)
        except BROKEN:
            self._move()
            raise
        lost = self._lossy and reply.status in LOST and LOST[reply.status] in reply.body
        # The first server may have deleted it before it was killed, and the second says that it is not there.
        again = method == "DELETE" and reply.status == 404 and "," in reply.headers.get(ASKED.lower(), "")
        if reply.status not in FAILED and not lost and not again:
            return reply
        if reply.status == 503 and "docker-distribution-api-version" in reply.headers:
            assert "retry-after" in reply.headers, reply
        self.refused.append(reply.status)
        self._move()
        raise Refused(f"{method} {target}: {reply.status} {reply.body[:200]!r}")

    def _move(self) -> None:
        self.close()
        self.connection = type(self.connection)(HOST, next(self._ports), timeout=self.connection.timeout)
