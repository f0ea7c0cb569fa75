"""Every call of the removal of empty repositories fails once: the next run finishes, and pushes go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.images.registry import Registry
from registry.storage.middleware.faults import Fault, FaultyDriver, When
from tests.maintenance.collection.steps.emptying import (
    GRACE,
    TIMES,
    attempt,
    empty_unused,
    empty_used,
    listed,
)
from tests.support.collection import run
from tests.support.failing_statement import failing
from tests.support.registry_world import (
    World,
    pull,
    push_image,
)


def open_faulty(world: World, *plan: Fault) -> Registry:
    return world.registry(driver=FaultyDriver(world.driver(), plan), **TIMES)


def conclude(world: World) -> None:
    """Another process finishes, and clients push to each of the names."""
    world.close()
    registry = world.registry(**TIMES)
    for _ in range(2):
        run(registry)
        world.clock.now += GRACE + 1
    assert listed(registry) == ["team/kept"]
    for name in ("team/used", "team/unused"):
        push_image(registry, name, "v1", name=name)
    registry.fold_waiting()
    for process in (registry, world.registry(**TIMES)):
        for name in ("team/kept", "team/used", "team/unused"):
            pull(process, "v1", name)
    world.close()


@pytest.fixture
def scene(tmp_path: Path) -> World:
    """Two repositories that are due, in memory."""
    (tmp_path / "scene").mkdir()
    world = World(tmp_path / "scene", "memory")
    registry = world.registry(**TIMES)
    push_image(registry, "kept", "v1", name="team/kept")
    empty_used(world, registry, "team/used")
    empty_unused(world, registry, "team/unused")
    run(registry)
    world.clock.now += GRACE + 1
    world.close()
    return world


@pytest.mark.parametrize("moment", list(When))
def test_a_call_of_the_store_fails(scene: World, tmp_path: Path, moment: When) -> None:
    struck = 0
    for number in range(1, 100):
        directory = tmp_path / f"copy-{number}"
        directory.mkdir()
        world = scene.copy(directory)
        registry = open_faulty(world, Fault(first=number, moment=moment))
        attempt(registry)
        driver = registry.backends.driver
        assert isinstance(driver, FaultyDriver)
        is_struck = bool(driver.struck[0])
        conclude(world)
        if not is_struck:
            break
        struck += 1
    assert struck


@pytest.mark.parametrize("start", [1, *(pytest.param(start, marks=pytest.mark.stores) for start in (2, 3))])
def test_a_statement_fails(scene: World, tmp_path: Path, start: int) -> None:
    struck = 0
    for number in range(start, 300, 3):
        directory = tmp_path / f"copy-{number}"
        directory.mkdir()
        world = scene.copy(directory)
        registry = world.registry(**TIMES)
        with failing(number) as count:
            attempt(registry)
        conclude(world)
        if count[0] < number:
            break
        struck += 1
    assert struck > 3
