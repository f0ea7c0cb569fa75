"""One S3 store for all tests here; each registry gets a bucket and a database of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fault_proxy import FaultProxy
from tests.support.postgresql import Cluster
from tests.support.s3_server import S3Server
from tests.support.servers import RegistryProcess

Config = dict[str, dict[str, Any]]


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def proxy(store: S3Server) -> Iterator[FaultProxy]:
    """In front of the store, for one test."""
    with FaultProxy(store.port, secret=store.secret) as between:
        yield between


@pytest.fixture
def config(store: S3Server, tmp_path: Path) -> Config:
    """Of a registry on an empty bucket, with SQLite."""
    return {
        "storage": store.storage(store.new_bucket()),
        "database": {"url": f"sqlite:///{tmp_path / 'cache.db'}"},
    }


@pytest.fixture
def shared_config(config: Config, cluster: Cluster) -> Config:
    """Of any number of replicas on an empty bucket and an empty PostgreSQL database."""
    return {**config, "database": {"url": cluster.create()}}


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Callable[[Config], RegistryProcess]]:
    """Starts registries, which end with the test."""
    started: list[RegistryProcess] = []

    def start(config: Config) -> RegistryProcess:
        process = RegistryProcess(tmp_path / f"replica-{len(started)}", config)
        started.append(process)
        process.start()
        return process

    yield start
    for process in started:
        if process.running:
            process.stop()
