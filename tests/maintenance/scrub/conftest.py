"""A storage with a database: local with SQLite, memory and S3 with PostgreSQL; time passes when a test says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.images.registry import Registry
from tests.support.registry_world import GCS, REAL, World

PROGRAMS = ("initdb", "pg_ctl", "postgres")
POSTGRESQL = pytest.param("memory", marks=pytest.mark.tools(*PROGRAMS), id="memory-postgresql")
S3 = pytest.param(REAL, marks=[pytest.mark.stores, pytest.mark.tools("versitygw", *PROGRAMS)])


@pytest.fixture(params=["local", POSTGRESQL, S3])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    url = None if request.param in {"local", GCS} else request.getfixturevalue("cluster").create_current()
    made = World(tmp_path, request.param, url)
    yield made
    made.close()


@pytest.fixture
def registry(world: World) -> Registry:
    return world.registry()
