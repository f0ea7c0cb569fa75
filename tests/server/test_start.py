"""The port answers soon after the command, whatever the store holds; and what the probes say then."""

from __future__ import annotations

import json
import os
import random
import sys
from typing import TYPE_CHECKING

from tests.server.sending import Client, call
from tests.support.payloads import Blob, image
from tests.support.servers import RegistryProcess

if TYPE_CHECKING:
    from pathlib import Path

REPOSITORIES = 2000
ALLOWED = 6.0
"""Seconds of processor time; 2 are promised on a machine that does nothing else."""
CONFIG = Blob(b'{"a": "layout"}')
IMAGE = image(CONFIG, [])


def lay_out(root: Path, count: int) -> list[str]:
    """Make repositories the way another tool does: image layouts, whose blobs are links to one file each."""
    names = [f"group{number % 50}/app{number}" for number in range(count)]
    index = {"schemaVersion": 2, "manifests": [tagged("latest")]}
    sources = root.parent / "sources"
    sources.mkdir()
    for blob in (CONFIG.data, IMAGE.data):
        (sources / Blob(blob).digest.removeprefix("sha256:")).write_bytes(blob)
    (sources / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (sources / "index.json").write_text(json.dumps(index))
    for name in names:
        blobs = root / name / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        for source in sources.iterdir():
            place = blobs if len(source.name) == 64 else root / name
            os.link(source, place / source.name)
    return names


def tagged(tag: str) -> dict[str, object]:
    """The descriptor of the image in an index."""
    return {**IMAGE.descriptor(), "annotations": {"org.opencontainers.image.ref.name": tag}}


def test_a_store_of_thousands_starts_as_soon_and_each_repository_is_there_at_first_touch(tmp_path: Path) -> None:
    server = RegistryProcess(tmp_path, {"storage": {"fsync": False}})
    names = lay_out(server.root, REPOSITORIES)
    chosen = random.Random(3).sample(names, 30)
    with server:
        seconds = server.processor_seconds()
        sys.stdout.write(f"{REPOSITORIES} repositories and no database: {seconds:.2f} s\n")
        assert seconds < ALLOWED
        with Client(server.port) as client:
            for name in chosen:
                reply = client.call("GET", f"/v2/{name}/manifests/latest")
                assert (reply.status, reply.body) == (200, IMAGE.data), name
                assert client.call("HEAD", f"/v2/{name}/blobs/{CONFIG.digest}").status == 200
                assert client.call("GET", f"/v2/{name}/tags/list").json["tags"] == ["latest"]


def test_readiness_sees_that_storage_vanished_and_came_back(tmp_path: Path) -> None:
    with RegistryProcess(tmp_path, {"database": {"url": f"sqlite:///{tmp_path / 'cache.db'}"}}) as server:
        assert call(server.port, "GET", "/readyz").status == 200
        away = server.root.rename(tmp_path / "away")
        reply = call(server.port, "GET", "/readyz")
        assert (reply.status, reply.json["problems"]) == (503, ["storage"])
        assert call(server.port, "GET", "/livez").status == 200
        away.rename(server.root)
        assert call(server.port, "GET", "/readyz").status == 200
