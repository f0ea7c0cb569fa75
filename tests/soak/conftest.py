"""The stores of the soaks that are far: one S3 server, and for each test a registry with a bucket of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.soak.far_registry import FarRegistry
from tests.support.postgresql import Cluster
from tests.support.s3_server import S3Server


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def far(store: S3Server, cluster: Cluster, tmp_path: Path) -> Iterator[FarRegistry]:
    made = FarRegistry(tmp_path, store, cluster)
    try:
        with made.replicas:
            yield made
    finally:
        made.close()
