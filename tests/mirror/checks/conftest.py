"""A storage with its database for the registries of a check: a local directory, or a bucket with PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.mirror.checks.mirroring import Mirroring, mirroring
from tests.support.s3_server import S3Server
from tests.upstream.hostile import HostileServer, hostile_server

Open = Callable[..., Mirroring]
REPLICAS = pytest.param(
    "replicas", marks=[pytest.mark.stores, pytest.mark.tools("versitygw", "initdb", "pg_ctl", "postgres")]
)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with hostile_server() as server:
        yield server


@pytest.fixture(params=["local", REPLICAS])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, dict[str, Any]]:
    if request.param == "local":
        return {
            "storage": {"root_directory": str(tmp_path / "storage")},
            "database": {"url": f"sqlite:///{tmp_path / 'cache.db'}"},
        }
    store: S3Server = request.getfixturevalue("store")
    return {
        "storage": store.storage(store.new_bucket()),
        "database": {"url": request.getfixturevalue("cluster").create()},
    }


@pytest.fixture
def opened(
    request: pytest.FixtureRequest, config: dict[str, dict[str, Any]], tmp_path: Path, server: HostileServer
) -> Iterator[Open]:
    """Starts registries with a mirror, which end with the test: two replicas, or one process on a local directory."""
    is_local = "root_directory" in config["storage"]
    with ExitStack() as stack:

        def start(**keys: Any) -> Mirroring:
            count = 1 if is_local else 2
            entered: AbstractContextManager[Mirroring] = mirroring(tmp_path, config, server, count, **keys)
            return stack.enter_context(entered)

        yield start
