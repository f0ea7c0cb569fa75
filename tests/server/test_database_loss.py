"""A PostgreSQL server that goes away and comes back while it is read from: 503, and then as before."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.server.sending import Client
from tests.support.payloads import Blob, image
from tests.support.postgresql import Cluster
from tests.support.servers import RegistryProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REPO = "lost/and-found"
CONFIG = Blob(b"{}")
IMAGE = image(CONFIG, [])
MANIFEST = f"/v2/{REPO}/manifests/one"
BACK_SECONDS = 60.0


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """A server that no other test uses."""
    running = Cluster()
    yield running
    running.remove()


def test_a_restart_between_two_reads_is_not_noticed_and_a_loss_ends_when_the_database_is_back(
    own_cluster: Cluster, tmp_path: Path
) -> None:
    with (
        RegistryProcess(tmp_path, {"database": {"url": own_cluster.create()}}) as process,
        Client(process.port) as client,
    ):
        assert client.call("POST", f"/v2/{REPO}/blobs/uploads/?digest={CONFIG.digest}", CONFIG.data).status == 201
        assert client.call("PUT", MANIFEST, IMAGE.data, {"Content-Type": IMAGE.media_type}).status == 201
        assert client.call("GET", MANIFEST).status == 200
        own_cluster.stop()
        own_cluster.start()
        assert client.call("GET", MANIFEST).body == IMAGE.data
        for _ in range(2):
            for _ in range(3):
                assert client.call("GET", MANIFEST).body == IMAGE.data
            own_cluster.stop()
            for method in ("GET", "HEAD", "GET"):
                refused = client.call(method, MANIFEST)
                assert refused.status == 503
                assert int(refused.headers["retry-after"]) > 0
            assert client.call("GET", "/livez").status == 200
            own_cluster.start()
            deadline = time.monotonic() + BACK_SECONDS
            while client.call("GET", MANIFEST).status != 200:
                assert time.monotonic() < deadline
                time.sleep(0.05)
