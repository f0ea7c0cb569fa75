"""Real registries over one storage, with a mirror of one hostile server, and clients that read as a test says."""

from __future__ import annotations

import hashlib
import http.client
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.mirror.served_blob import ServedBlob
from tests.support.servers import HOST, RegistryProcess
from tests.upstream.hostile import HostileServer

APP = "library/app"
WAIT = 120.0
"""Seconds after which a test has hung."""


class Got(NamedTuple):
    """What a client has at the end."""

    status: int
    told: int
    """Content-Length."""
    received: int
    digest: str


class Pull:
    """One client, which has the head of its answer. A context manager: it leaves at the end of the block."""

    def __init__(self, port: int, path: str, method: str = "GET", **headers: str) -> None:
        self._connection = http.client.HTTPConnection(HOST, port, timeout=WAIT)
        self._connection.request(method, path, headers=headers)
        self._answer = self._connection.getresponse()
        self.status = self._answer.status
        self.headers = self._answer.headers
        self._hash, self._count = hashlib.sha256(), 0

    def read(self, count: int) -> bytes:
        """So many bytes, or fewer at the end."""
        data = b""
        while len(data) < count:
            with suppress(http.client.IncompleteRead, ConnectionError):
                piece = self._answer.read1(count - len(data))
                if piece:
                    data += piece
                    continue
            break
        self._hash.update(data)
        self._count += len(data)
        return data

    def rest(self) -> Got:
        """Read on to the end, whichever that is."""
        while self.read(1 << 20):
            pass
        told = int(self.headers.get("Content-Length", "-1"))
        return Got(self.status, told, self._count, f"sha256:{self._hash.hexdigest()}")

    def close(self) -> None:
        sock = self._connection.sock
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._answer.close()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Mirroring:
    """``registries`` share a storage, a database and the mirror ``hub`` of ``server``."""

    def __init__(self, registries: list[RegistryProcess], server: HostileServer) -> None:
        self.registries = registries
        self.server = server

    def serve(self, data: bytes, repository: str = APP) -> ServedBlob:
        """Let the upstream have a blob."""
        return ServedBlob(self.server, data, path=f"/v2/{repository}/blobs/sha256:{hashlib.sha256(data).hexdigest()}")

    def pull(self, digest: str, at: int = 0, repository: str = APP, method: str = "GET", **headers: str) -> Pull:
        """A client of one of the registries, once it has the head of its answer."""
        path = f"/v2/docker.io/{repository}/blobs/{digest}"
        return Pull(self.registries[at % len(self.registries)].port, path, method, **headers)

    def pull_whole(self, digest: str, at: int = 0, repository: str = APP) -> Got:
        with self.pull(digest, at, repository) as pull:
            return pull.rest()

    def pull_at_once(self, digest: str, count: int) -> list[Got]:
        """What so many clients have, over all registries."""
        barrier = threading.Barrier(count)

        def one(number: int) -> Got:
            barrier.wait(WAIT)
            return self.pull_whole(digest, number)

        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(one, range(count)))

    def status(self, digest: str, at: int = 0, method: str = "HEAD") -> int:
        with self.pull(digest, at, method=method) as pull:
            return pull.status


@contextmanager
def mirroring(
    directory: Path, config: dict[str, dict[str, Any]], server: HostileServer, count: int, **keys: Any
) -> Iterator[Mirroring]:
    """So many registries of one configuration; ``keys`` are those of the mirror, or ``workers``."""
    http_section = {"workers": keys.pop("workers", 1), "drain_timeout": 2}
    mirror = {
        "name": "hub",
        "prefix": "docker.io",
        "url": [server.url()],
        "proxy": None,
        "connect_timeout": 5,
        "read_timeout": 20,
        **keys,
    }
    registries = [
        RegistryProcess(directory / f"replica-{number}", {**config, "http": http_section, "mirrors": [mirror]})
        for number in range(count)
    ]
    try:
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(RegistryProcess.start, registries))
        yield Mirroring(registries, server)
    finally:
        server.ended.set()
        for registry in registries:
            if registry.running:
                registry.stop()
