"""A storage with a database: local with SQLite, memory with PostgreSQL, and replicas over S3.

Time passes when a test says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.images.registry import Registry
from tests.support.registry_world import POSTGRESQL_PROGRAMS, REPLICAS_KIND, World, open_world

POSTGRESQL = pytest.param("memory", marks=pytest.mark.tools(*POSTGRESQL_PROGRAMS))


@pytest.fixture(params=["local", POSTGRESQL, REPLICAS_KIND])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    made = open_world(request, tmp_path, request.param, postgresql=request.param == "memory")
    yield made
    made.close()


@pytest.fixture
def registry(world: World) -> Registry:
    return world.registry(pull_interval=0)
