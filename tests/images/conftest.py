"""A storage with a database, local and memory; tests open cores on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.images.registry import Registry
from tests.support.registry_world import KINDS, REPLICAS_KIND, World, open_world


@pytest.fixture(params=[*KINDS, REPLICAS_KIND])
def kind(request: pytest.FixtureRequest) -> str:
    """The driver; a test that needs one of them parametrizes it."""
    return str(request.param)


@pytest.fixture
def world(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    made = open_world(request, tmp_path, kind)
    yield made
    made.close()


@pytest.fixture
def registry(world: World) -> Registry:
    return world.registry()
