"""A scrub that fails or is killed at any of its steps: what is right is served, what is wrong is not after the next."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from registry.database.errors import DatabaseError
from registry.images.backends import Backends
from registry.images.registry import Registry
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown
from registry.storage.errors import StorageError
from registry.storage.memory import MemoryDriver
from tests.maintenance.scrub.place import flip, flip_file, key_of, scrub
from tests.soak.budget import budget
from tests.support.failing_statement import failing
from tests.support.kills import Doom, DyingDatabase, DyingDriver, Killed
from tests.support.registry_world import World, is_there, pull, pull_blob, push_image

OTHER = "other/app"
STEP = budget(sample=17, full=1)
"""One of so many steps is tried."""


class Scene(NamedTuple):
    """A registry with a layer and a manifest that are wrong, and, on disk, a layer that can be repaired."""

    world: World
    right: Digest
    """The digest of an image of which all is right."""
    layer: Digest
    manifest: Any


@pytest.fixture(params=["local", "memory"])
def prepared(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    (tmp_path / "prepared").mkdir()
    world = World(tmp_path / "prepared", request.param)
    registry = world.registry()
    right, wrong = push_image(registry, "right", "right"), push_image(registry, "wrong", "wrong")
    another = push_image(registry, "another", "another")
    push_image(registry, "mended", "mended")
    mended = push_image(registry, "mended", "mended", name=OTHER)
    registry.fold_waiting()
    if world.kind == "local":
        path = world.root / key_of(registry, mended.layer.digest, OTHER)
        own = path.with_name("copy")
        shutil.copyfile(path, own)
        own.replace(path)
        scrub(registry)
        flip_file(path)
        world.clock.now += 1
    for digest in (wrong.layer.digest, another.digest):
        flip(world, key_of(registry, digest))
    world.close()
    return Scene(world, right.digest, Digest(wrong.layer.digest), another.manifest)


@pytest.fixture
def copies(prepared: Scene, tmp_path: Path) -> Callable[[], World]:
    """Makes worlds that are copies of the one that was prepared."""
    numbers = iter(range(1 << 20))

    def copy() -> World:
        directory = tmp_path / f"copy-{next(numbers)}"
        directory.mkdir()
        if prepared.world.kind == "memory":
            return prepared.world.copy(directory)
        made = World(directory, "local")
        made.clock.now = prepared.world.clock.now
        shutil.copytree(prepared.world.root, made.root, copy_function=_copied)
        with closing(sqlite3.connect(prepared.world.url.removeprefix("sqlite:///"))) as source:
            source.execute("VACUUM INTO ?", (str(directory / "cache.db"),))
        return made

    linked: dict[int, str] = {}

    def _copied(source: str, target: str) -> None:
        """Bytes that are shared are shared again; etags are others, as after a restored backup."""
        inode = Path(source).stat().st_ino
        known = linked.get(inode)
        if known is not None and Path(known).parts[:-4] == Path(target).parts[:-4]:
            Path(target).hardlink_to(known)
        else:
            shutil.copy2(source, target)
        linked[inode] = target

    return copy


def conclude(world: World, scene: Scene) -> None:
    """What is right is served whatever happened, and after the next scrub of another process nothing wrong is."""
    after = world.registry()
    assert pull(after, "right") == scene.right
    world.clock.now += 1000  # claims of before are over
    after.blob_deletion.finish_abandoned()
    report = scrub(after, repairs=True)
    assert report.finished
    assert report.problems == []
    with pytest.raises(BlobUnknown):
        pull_blob(after, scene.layer)
    assert is_there(after, scene.manifest) is (world.kind == "memory"), "the database has a manifest of a bucket"
    assert pull(after, "right") == scene.right
    assert pull(after, "mended")
    assert pull(after, "mended", OTHER)
    world.close()


def test_without_a_fault(prepared: Scene, copies: Callable[[], World]) -> None:
    conclude(copies(), prepared)


def test_a_statement_fails(prepared: Scene, copies: Callable[[], World]) -> None:
    """A part of check 13, for statements of a scrub that repairs."""
    struck = 0
    for number in range(1, 2000, STEP):
        world = copies()
        registry = world.registry()
        with failing(number) as count, suppress(DatabaseError, StorageError):
            scrub(registry, repairs=True)
        if count[0] < number:
            world.close()
            break
        struck += 1
        conclude(world, prepared)
    assert struck > 50 / STEP


def test_it_is_killed_after_any_step(prepared: Scene, copies: Callable[[], World]) -> None:
    killed = 0
    for death in range(1, 2000, STEP):
        world = copies()
        world.registry()
        doom = Doom(death)
        driver = world.driver() if world.kind == "local" else world._memory
        assert world.kind == "local" or isinstance(driver, MemoryDriver)
        backends = Backends(
            DyingDriver(driver, doom), DyingDatabase(world.url, doom, world.clocks()), world.policy, clock=world.clock
        )
        dying = Registry(backends)
        try:
            scrub(dying, repairs=True)
        except Killed:
            killed += 1
            conclude(world, prepared)
        else:
            world.close()
            break
        finally:
            backends.database.close()
    assert killed > 50 / STEP
