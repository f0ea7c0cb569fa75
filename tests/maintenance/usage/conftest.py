"""A storage with a database: local with SQLite, memory and S3 with PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.images.registry import Registry
from tests.maintenance.retention.conftest import PROGRAMS
from tests.support.registry_world import REAL, World

SQLITE, SERVER = "sqlite", "postgresql"
WORLDS = [
    pytest.param(("local", SQLITE), id="local"),
    pytest.param(("memory", SQLITE), id="memory"),
    pytest.param(("memory", SERVER), marks=pytest.mark.tools(*PROGRAMS), id="memory-postgresql"),
    pytest.param(
        (REAL, SERVER), marks=[pytest.mark.stores, pytest.mark.tools("versitygw", *PROGRAMS)], id="s3-postgresql"
    ),
]


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    kind, database = request.param
    url = request.getfixturevalue("cluster").create_current() if database == SERVER else None
    made = World(tmp_path, kind, url)
    yield made
    made.close()


@pytest.fixture
def registry(world: World) -> Registry:
    return world.registry()
