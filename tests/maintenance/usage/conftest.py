"""A storage with a database: local with SQLite, memory and replicas over S3 with PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.images.registry import Registry
from tests.support.registry_world import POSTGRESQL_PROGRAMS, REPLICAS, REPLICAS_KIND, World, open_world

SQLITE, SERVER = "sqlite", "postgresql"
WORLDS = [
    pytest.param(("local", SQLITE), id="local"),
    pytest.param(("memory", SQLITE), id="memory"),
    pytest.param(("memory", SERVER), marks=pytest.mark.tools(*POSTGRESQL_PROGRAMS), id="memory-postgresql"),
    pytest.param((REPLICAS, SERVER), marks=REPLICAS_KIND.marks, id=REPLICAS),
]


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    kind, database = request.param
    made = open_world(request, tmp_path, kind, postgresql=database == SERVER)
    yield made
    made.close()


@pytest.fixture
def registry(world: World) -> Registry:
    return world.registry()
