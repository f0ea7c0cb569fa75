"""A storage with a database, an upstream, and processes with a mirror of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mirror.scripted import Mirror, ScriptedRemote, open_mirror
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
def remote(world: World) -> ScriptedRemote:
    return ScriptedRemote(world.clock)


@pytest.fixture
def mirror(world: World, remote: ScriptedRemote) -> Mirror:
    return open_mirror(world, remote)


@pytest.fixture
def second(world: World, remote: ScriptedRemote, mirror: Mirror) -> Mirror:
    """Another process, opened after the first."""
    assert mirror.remote is remote
    return open_mirror(world, remote)
