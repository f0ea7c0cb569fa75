"""Every call of a collection fails once: nothing that is in use goes, and the next run finishes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from registry.config.settings import Settings
from registry.database.errors import DatabaseError
from registry.images.registry import Registry
from registry.maintenance.collection.collection import Collection
from registry.maintenance.collection.ledger import Ledger
from registry.maintenance.collection.survey.gc_state import meet
from registry.oci.errors import RegistryError
from registry.storage.errors import StorageError, StorageUnavailable
from registry.storage.middleware.faults import Fault, FaultyDriver, When
from tests.support.collection import settle
from tests.support.failing_statement import failing
from tests.support.payloads import index
from tests.support.registry_world import (
    ACTOR,
    NAME,
    REPLICAS_KIND,
    World,
    is_there,
    make_image,
    open_world,
    pull,
    push_blob,
    push_image,
    push_manifest,
)

OTHER = "team/other"
EACH = 17
"""So many calls of a real store are from one that fails to the next, and four times as many statements."""
IN_TURN = [1, *(pytest.param(start, marks=pytest.mark.stores) for start in range(2, 8))]
"""Where a sweep begins that takes every seventh step; all of them together take every step."""
TIMES: dict[str, Any] = {"lease": 0, "grace": 100, "undelete_window": 1000, "claim": 60, "unclear": 10}
SETTINGS = Settings.model_validate({"gc": {"untagged_after": 500, "rate": None}})


class Scene:
    """A registry in which something of each kind is due."""

    def __init__(self, world: World) -> None:
        registry = open_registry(world)
        meet(registry)
        self.kept = push_image(registry, "kept", "kept")
        self.shared = push_image(registry, "shared", "shared", name=OTHER)
        push_image(registry, "shared", "shared")
        children = [push_image(registry, text) for text in ("child", "another child")]
        self.tops = [push_manifest(registry, index([each.manifest for each in children]), "multi")]
        self.deleted = [push_image(registry, f"deleted {number}", f"d{number}") for number in range(2)]
        self.deleted.append(push_image(registry, "shared", name=OTHER, annotations={"deleted": "too"}))
        for number in range(2):
            push_blob(registry, f"never named {number}".encode())
        registry.fold_waiting()
        registry.manifests.delete(NAME, self.deleted[0].digest, actor=ACTOR)
        registry.manifests.delete(OTHER, self.deleted[2].digest, actor=ACTOR)
        registry.fold_waiting()
        run(registry)
        world.clock.now += 101
        run(registry)
        registry.manifests.delete(NAME, self.deleted[1].digest, actor=ACTOR)
        self.untagged = push_image(registry, "untagged", "moving")
        push_image(registry, "moved", "moving")
        push_blob(registry, b"never named either")
        run(registry)
        world.clock.now += 901
        world.close()

    def check(self, registry: Registry) -> None:
        """What is in use is there, byte by byte."""
        for tag in ("kept", "shared", "moving"):
            pull(registry, tag)
        pull(registry, "shared", OTHER)
        for digest in self.tops:
            registry.manifests.find(NAME, digest)
        for text in ("child", "another child"):
            pull(registry, str(_digest(text)))


def _digest(text: str) -> Any:
    return make_image(text).digest


def open_registry(world: World, plan: tuple[Fault, ...] = ()) -> Registry:
    return world.registry(driver=FaultyDriver(world.driver(), plan), **TIMES)


def run(registry: Registry) -> Ledger:
    """One collection, whatever becomes of it."""
    ledger = Ledger()
    try:
        registry.fold_waiting()
        Collection(registry, SETTINGS).run(ledger)
    except (StorageError, DatabaseError, RegistryError) as error:
        ledger.trouble(str(error))
    return ledger


@pytest.fixture
def kind() -> str:
    """In memory, where each call can fail in turn."""
    return "memory"


@pytest.fixture
def scene(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> tuple[World, Scene]:
    (tmp_path / "scene").mkdir()
    world = open_world(request, tmp_path / "scene", kind)
    return world, Scene(world)


@pytest.fixture
def copies(scene: tuple[World, Scene], tmp_path: Path) -> Callable[[], World]:
    numbers = iter(range(1 << 20))

    def copy() -> World:
        directory = tmp_path / f"copy-{next(numbers)}"
        directory.mkdir()
        return scene[0].copy(directory)

    return copy


def conclude(world: World, scene: Scene) -> None:
    """A collection after it, in another process, finishes what one left."""
    after = open_registry(world)
    scene.check(after)
    world.clock.now += 61 + 11  # claims and unclear deletes of before are over
    after.blob_deletion.finish_abandoned()
    settle(after, untagged_after=500.0)
    scene.check(after)
    assert not is_there(after, scene.untagged.manifest)
    world.clock.now += 2000
    settle(after, untagged_after=500.0)
    scene.check(after)
    left = {key.rpartition("/")[2] for key, _ in after.backends.driver.list("storage/blobs")}
    assert left == _needed(scene)
    world.close()


def _needed(scene: Scene) -> set[str]:
    images = [*(make_image(text) for text in ("kept", "shared", "child", "another child", "moved"))]
    digests = {each for image in images for each in (image.manifest.digest, image.config.digest, image.layer.digest)}
    return {digest.partition(":")[2] for digest in (*digests, *map(str, scene.tops))}


def test_without_a_fault_it_frees_what_is_due(scene: tuple[World, Scene], copies: Callable[[], World]) -> None:
    world = copies()
    registry = open_registry(world)
    ledger = run(registry)
    assert ledger.problems == []
    assert set(ledger.removed) == {"blob", "membership", "manifest", "trash"}
    conclude(world, scene[1])


def each_call_fails(scene: Scene, copies: Callable[[], World], numbers: Iterable[int], moment: When) -> int:
    """Calls of the store fail, one in each run; how many there were."""
    struck = 0
    for number in numbers:
        world = copies()
        registry = open_registry(world, (Fault(first=number, moment=moment),))
        ledger = run(registry)
        driver = registry.backends.driver
        assert isinstance(driver, FaultyDriver)
        if not driver.struck[0]:
            world.close()
            break
        struck += 1
        assert ledger.problems or moment is When.AFTER, "a fault is told"
        conclude(world, scene)
    return struck


def each_statement_fails(scene: Scene, copies: Callable[[], World], numbers: Iterable[int]) -> int:
    """Statements fail, one in each run; how many there were."""
    struck = 0
    for number in numbers:
        world = copies()
        registry = open_registry(world)
        with failing(number) as count:
            ledger = run(registry)
        if count[0] < number:
            world.close()
            break
        struck += 1
        assert ledger.problems
        conclude(world, scene)
    return struck


@pytest.mark.parametrize("moment", list(When))
@pytest.mark.parametrize("start", IN_TURN)
def test_a_call_of_the_store_fails(
    scene: tuple[World, Scene], copies: Callable[[], World], start: int, moment: When
) -> None:
    """Check 13 of lifecycle.md, section 7, for calls of the store."""
    assert each_call_fails(scene[1], copies, range(start, 1000, len(IN_TURN)), moment) > 1


@pytest.mark.parametrize("start", IN_TURN)
def test_a_statement_fails(scene: tuple[World, Scene], copies: Callable[[], World], start: int) -> None:
    """Check 13 of lifecycle.md, section 7, for statements."""
    assert each_statement_fails(scene[1], copies, range(start, 2000, len(IN_TURN))) > 10


@pytest.mark.parametrize("kind", [REPLICAS_KIND])
@pytest.mark.parametrize("start", range(1, 4))
def test_a_call_or_a_statement_of_one_replica_fails(
    scene: tuple[World, Scene], copies: Callable[[], World], start: int
) -> None:
    """Check 13 of lifecycle.md, section 7, for some of them over a real store and PostgreSQL; the other concludes."""
    calls = each_call_fails(scene[1], copies, range(start, 1000, EACH), list(When)[start % 2])
    assert calls + each_statement_fails(scene[1], copies, range(start, 2000, EACH * 4)) > 3


def test_a_failure_of_one_step_leaves_the_others_their_work(
    scene: tuple[World, Scene], copies: Callable[[], World]
) -> None:
    world = copies()
    registry = open_registry(world, (Fault("delete_once", times=None, effect=StorageUnavailable),))
    ledger = run(registry)
    assert ledger.problems
    assert "manifest" in ledger.removed
    assert ledger.bytes == 0
    conclude(world, scene[1])
