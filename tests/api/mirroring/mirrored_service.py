"""One process of a registry with a mirror, and what its upstream has."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.api.service import Reply, Service, serving
from tests.mirror.hostile_mirror import APP, HERE, give
from tests.mirror.served_blob import ServedBlob
from tests.support.payloads import Blob, Manifest, image
from tests.upstream.hostile import HostileServer

MANIFESTS = f"/v2/{HERE}/manifests"
BLOBS = f"/v2/{HERE}/blobs"


class MirroredService:
    """``image`` is upstream, under the tag v1."""

    def __init__(self, service: Service, server: HostileServer) -> None:
        self.service = service
        self.server = server
        self.config, self.layer = Blob(b'{"os": "linux"}'), Blob(bytes(range(256)) * 4096)
        self.image = image(self.config, [self.layer])
        self.served = {blob.digest: self.serve(blob.data) for blob in (self.config, self.layer)}
        give(server, self.image, "v1")

    def serve(self, data: bytes) -> ServedBlob:
        """Let the upstream have a blob."""
        blob = ServedBlob(self.server, data)
        del self.server.replies[blob.path]
        return ServedBlob(self.server, data, path=f"/v2/{APP}/blobs/{blob.digest}")

    def move(self, manifest: Manifest) -> None:
        """Let the tag v1 of the upstream be another manifest."""
        give(self.server, manifest, "v1")

    def get(self, target: str, **headers: str) -> Reply:
        """GET; ``If_None_Match`` is the header If-None-Match."""
        return self.service.call("GET", target, headers={key.replace("_", "-"): each for key, each in headers.items()})

    def head(self, target: str) -> Reply:
        return self.service.call("HEAD", target)

    def asked(self) -> list[str]:
        """Method and path of what the upstream was asked since the last call."""
        with self.server.lock:
            seen, self.server.seen[:] = list(self.server.seen), []
        return [f"{each.method} {each.path}" for each in seen]


@contextlib.contextmanager
def mirrored_service(
    server: HostileServer, directory: Path, sections: Any = None, **keys: Any
) -> Iterator[MirroredService]:
    section = {
        "name": "hub",
        "prefix": "docker.io",
        "url": [server.url()],
        "namespaces": ["docker.io"],
        "hosts": ["hub.mirror.example.org"],
        "proxy": None,
        "connect_timeout": 5,
        "read_timeout": 10,
        **keys,
    }
    with serving(directory, sections, mirrors=[section]) as service:
        yield MirroredService(service, server)
