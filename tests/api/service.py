"""One process of a registry, called without a socket: a core on a directory and the application over it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from registry.config.settings import DATABASE_DIRECTORY, Settings
from registry.images.registry import Registry
from registry.observability.audit import open_audit_log
from registry.server.application import create_application
from registry.server.observability import ProcessMetrics
from tests.api.asgi import Exchange
from tests.support.payloads import Blob, Manifest
from tests.support.sqlite import create_current

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Mapping, Sequence
    from pathlib import Path

    from registry.api.context import ApiContext
    from registry.api.http.access_log import AccessLog
    from registry.storage.driver import StorageDriver

T = TypeVar("T")
Headers = dict[str, str]
Lines = list[tuple[str, str]]
"""Headers, of which some come more than once."""


@dataclass(frozen=True)
class Reply:
    """An answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """The code of the OCI error body, or None when there is no body."""
        return cast("str", self.json["errors"][0]["code"]) if self.body else None

    @property
    def location(self) -> str:
        """The Location header."""
        return self.headers["location"]


class Service:
    """Nothing runs in the background: the lifespan is not sent, so a test decides when records are folded."""

    def __init__(
        self,
        directory: Path,
        sections: Mapping[str, Mapping[str, object]] | None = None,
        *,
        driver: StorageDriver | None = None,
        peer: str = "127.0.0.1",
        mirrors: Sequence[Mapping[str, object]] = (),
    ) -> None:
        given: dict[str, Any] = {"storage": {"root_directory": directory / "root", "fsync": False}, "mirrors": mirrors}
        for section, values in (sections or {}).items():
            given.setdefault(section, {}).update(values)
        settings = Settings(**given)
        self.root = directory / "root"
        database = self.root / DATABASE_DIRECTORY / "registry.db"
        if "database" not in given and not database.exists():
            database.parent.mkdir(parents=True, exist_ok=True)
            create_current(database)
        self.registry = Registry.open(settings, driver)
        audit_log = open_audit_log(settings.log.audit.file, with_access=False)
        metrics = ProcessMetrics(None, None, audit_log=audit_log)
        self.observation = cast("AccessLog", create_application(self.registry, settings, metrics))
        self.context: ApiContext = cast("Any", self.observation)._application.state.context
        self._peer = peer
        self._runner = asyncio.Runner()

    def close(self) -> None:
        """Free everything."""
        self._runner.close()
        self.context.close()
        self.registry.close()

    def call(
        self, method: str, target: str, body: bytes | Sequence[bytes] = b"", headers: Headers | Lines | None = None
    ) -> Reply:
        """Send one request; a body in several parts goes without a length, as a chunked one."""
        return self.run(self.send(method, target, body, headers))

    def run(self, story: Coroutine[Any, Any, T]) -> T:
        """Run something else in the event loop of this process.

        The runner would take SIGINT for it, and the interpreter then writes out the task twice, with its megabytes.
        """
        return self._runner.get_loop().run_until_complete(story)

    async def send(
        self, method: str, target: str, body: bytes | Sequence[bytes] = b"", headers: Headers | Lines | None = None
    ) -> Reply:
        """As ``call``, for what runs in the event loop already."""
        lines = headers.items() if isinstance(headers, dict) else headers or []
        exchange = Exchange(method, target, body, lines, self._peer)
        await exchange.run(self.observation)
        return Reply(exchange.status, exchange.headers, bytes(exchange.body))

    # ---- pushing, where how it is done is not what the test is about

    def push_blob(self, repository: str, blob: Blob) -> None:
        """Push a blob in one request."""
        reply = self.call("POST", f"/v2/{repository}/blobs/uploads/?digest={blob.digest}", blob.data)
        assert reply.status == 201, reply

    def push(self, repository: str, reference: str, manifest: Manifest) -> Reply:
        """Push a manifest."""
        target = f"/v2/{repository}/manifests/{reference}"
        reply = self.call("PUT", target, manifest.data, {"Content-Type": manifest.media_type})
        assert reply.status == 201, reply
        return reply

    def begin(self, repository: str) -> str:
        """Open an upload session; where it is."""
        reply = self.call("POST", f"/v2/{repository}/blobs/uploads/")
        assert reply.status == 202, reply
        return reply.location


@contextlib.contextmanager
def serving(
    directory: Path,
    sections: Mapping[str, Mapping[str, object]] | None = None,
    *,
    driver: StorageDriver | None = None,
    peer: str = "127.0.0.1",
    mirrors: Sequence[Mapping[str, object]] = (),
) -> Iterator[Service]:
    """A service for the length of a block."""
    service = Service(directory, sections, driver=driver, peer=peer, mirrors=mirrors)
    try:
        yield service
    finally:
        service.close()
