"""A storage that a database of its own was the first to meet, and another, empty database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry.images.registry import Registry
from tests.support.met_world import PLACES, met, open_world
from tests.support.registry_world import World


@pytest.fixture(params=PLACES)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    made = open_world(request, tmp_path)
    yield made
    made.close()


@pytest.fixture
def registry(world: World) -> Registry:
    return met(world)


@pytest.fixture
def another(request: pytest.FixtureRequest, world: World, tmp_path: Path) -> Callable[[], str]:
    """Makes another, empty database; its URL."""

    def make() -> str:
        if world.url.startswith("sqlite"):
            return f"sqlite:///{tmp_path / 'another.db'}"
        return str(request.getfixturevalue("new_database")())

    return make
