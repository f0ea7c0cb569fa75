"""A walk finds every repository in one order, and goes on behind any of them."""

from __future__ import annotations

import time

import pytest

from registry.images.registry import Registry
from registry.oci.index import Index
from registry.storage.errors import StorageUnavailable
from registry.storage.middleware.faults import Fault, FaultyDriver
from tests.support.registry_world import World

ORDERED = ["a", "a/b", "a/b/c", "a/d", "a-b/x", "a.b", "b/y/z", "b/z", "c"]
"""A hyphen and a dot sort before a slash: the order is that of the segments, so that a subtree is in one piece."""


@pytest.fixture(name="filled")
def _filled(registry: Registry) -> Registry:
    for name in ORDERED[::-1]:
        registry.backends.index_file.write(name, Index.empty().serialise(), "")
    return registry


def test_repositories_come_in_the_order_of_their_segments(filled: Registry) -> None:
    assert list(filled.storage_walk.repositories()) == ORDERED
    assert sorted(ORDERED, key=lambda name: name.split("/")) == ORDERED


@pytest.mark.parametrize("place", range(len(ORDERED)))
def test_a_walk_goes_on_behind_any_repository(filled: Registry, place: int) -> None:
    found = [step.name for step in filled.storage_walk.steps(after=ORDERED[place])]
    assert found == ORDERED[place + 1 :]


@pytest.mark.parametrize("after", ["a/a", "a/b/c/d", "a/c", "b", "0", "zz"])
def test_a_walk_goes_on_behind_a_name_that_is_gone(filled: Registry, after: str) -> None:
    found = [step.name for step in filled.storage_walk.steps(after=after)]
    assert found == [name for name in ORDERED if name.split("/") > after.split("/")]


def test_a_walk_enters_nothing_that_is_done(filled: Registry, world: World) -> None:
    driver = FaultyDriver(world.driver(), [Fault("children", "a*", times=None)])
    found = world.registry(driver=driver).storage_walk.steps(after="b/y/z")
    assert [step.name for step in found] == ["b/z", "c"]


def test_a_walk_tells_how_much_it_has_seen(filled: Registry) -> None:
    ahead = [step.ahead for step in filled.storage_walk.steps()]
    assert ahead[0] >= len(["a-b", "a.b", "b", "c"])
    assert ahead[-1] == 0


def test_a_store_over_a_network_is_asked_for_several_directories_at_once(registry: Registry, world: World) -> None:
    names = [f"team{number}/app{app}" for number in range(3) for app in range(10)]
    for name in names:
        registry.backends.index_file.write(name, Index.empty().serialise(), "")
    asked: list[int] = []
    running: list[None] = []

    def wait() -> None:
        running.append(None)
        time.sleep(0.02)
        asked.append(len(running))
        running.pop()

    driver = FaultyDriver(world.driver(), [Fault("children", times=None, effect=wait)])
    walking = world.registry(driver=driver)
    assert list(walking.storage_walk.repositories()) == names
    assert len(asked) == driver.calls["children"]
    assert driver.calls["children"] >= len(names), "each directory is listed once"
    assert (max(asked) > 4) != driver.capabilities.stat_is_local


def test_a_walk_that_is_left_asks_for_no_more(filled: Registry, world: World) -> None:
    driver = FaultyDriver(world.driver())
    steps = world.registry(driver=driver).storage_walk.steps()
    assert next(steps).name == "a"
    del steps
    asked = driver.calls["children"]
    time.sleep(0.05)
    assert driver.calls["children"] == asked


def test_a_store_that_fails_ends_a_walk(filled: Registry, world: World) -> None:
    driver = FaultyDriver(world.driver(), [Fault("children", "b/y", times=None)])
    found = world.registry(driver=driver).storage_walk.repositories()
    with pytest.raises(StorageUnavailable):
        list(found)
