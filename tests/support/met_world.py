"""A world whose storage a server has met while it was empty, local with SQLite and elsewhere with PostgreSQL."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from registry.maintenance.collection.survey.gc_state import meet
from tests.support.registry_world import GCS, POSTGRESQL_PROGRAMS, REPLICAS_KIND, World
from tests.support.registry_world import open_world as world_of

if TYPE_CHECKING:
    from pathlib import Path

    from registry.images.registry import Registry

PLACES = [
    "local",
    pytest.param("memory", marks=pytest.mark.tools(*POSTGRESQL_PROGRAMS)),
    REPLICAS_KIND,
    pytest.param(GCS, marks=[pytest.mark.stores, pytest.mark.tools("fake-gcs-server", *POSTGRESQL_PROGRAMS)]),
]
"""The kinds of worlds, as rows of parameters."""
SHARED = PLACES[1:]
"""Those whose repositories share all blobs."""
OWN = PLACES[:1]
"""Those whose repositories have blobs of their own."""


def open_world(request: pytest.FixtureRequest, directory: Path) -> World:
    """Make the world of a fixture over PLACES."""
    return world_of(request, directory, request.param, postgresql=request.param != "local")


def copy_database(request: pytest.FixtureRequest, world: World, directory: Path) -> str:
    """Copy the database of a world, whose processes end; the URL of the copy."""
    world.close()
    if not world.url.startswith("sqlite"):
        made: str = request.getfixturevalue("cluster").copy(world.url)
        return made
    shutil.copyfile(world.url.removeprefix("sqlite:///"), directory / "copy.db")
    return f"sqlite:///{directory / 'copy.db'}"


def met(world: World) -> Registry:
    """A process that has met the storage, as a server does before its port opens."""
    made = world.registry()
    meet(made)
    return made
