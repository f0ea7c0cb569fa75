"""A process is killed after any step of bringing a manifest or moving a tag: the next one serves what is right (I8)."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from registry.database.engine import Database
from registry.images.backends import Backends, Policy
from registry.images.registry import Registry
from registry.maintenance.rebuild import rebuild_registry
from registry.storage.local.driver import LocalDriver
from tests.mirror.scripted import HERE, Mirror, ScriptedRemote, open_mirror
from tests.support.kills import Doom, DyingDatabase, DyingDriver, Killed
from tests.support.registry_world import KINDS, Clock, World, make_image
from tests.support.sqlite import create_current

ONE, TWO = make_image("one").manifest, make_image("two").manifest
MIRRORED = frozenset({"docker.io"})


def doomed(world: World, remote: ScriptedRemote, doom: Doom) -> Mirror:
    """A process that dies."""
    database = DyingDatabase(world.url, doom, world.clocks())
    made = world.registry(mirrored=MIRRORED)
    driver = DyingDriver(world.driver(), doom)
    backends = Backends(driver, database, made.backends.policy, clock=database.clocks.wall)
    return Mirror(Registry(backends), remote, world.clock)


def pull_first(world: World, remote: ScriptedRemote) -> None:
    remote.push(ONE, "v1")
    assert world.url


def pull_moved(world: World, remote: ScriptedRemote) -> None:
    remote.push(ONE, "v1")
    open_mirror(world, remote).find()
    remote.push(TWO, "v1")
    world.clock.now += 61
    remote.methods()


def lives(
    directory: Path, kind: str, prepare: Callable[[World, ScriptedRemote], None], at: int | None
) -> tuple[int, World]:
    """One life of a process that is to pull, killed at that step; how many steps it made."""
    directory.mkdir()
    world = World(directory, kind)
    world.registry()
    remote = ScriptedRemote(world.clock)
    prepare(world, remote)
    doom = Doom(at)
    process = doomed(world, remote, doom)
    before = doom.steps
    try:
        process.find()
    except Killed:
        pass
    finally:
        process.registry.backends.database.close()
    check(world, remote, directory)
    return doom.steps - before, world


def check(world: World, remote: ScriptedRemote, directory: Path) -> None:
    expected = remote.tags["v1"]
    second = open_mirror(world, remote)
    digest, is_stale = second.pull()
    assert (digest, is_stale) == (expected.digest, False) or (is_stale and digest == ONE.digest)
    world.clock.now += 31
    digest, is_stale = second.pull()
    assert (digest, is_stale) == (expected.digest, False)
    assert second.registry.manifests.read(second.find().found) == expected.data
    assert remote.methods().count("GET") <= 2
    second.registry.fold_waiting()
    world.clock.now += 600
    second.registry.fold_waiting()
    rebuilt = world.registry(url=f"sqlite:///{directory / 'rebuilt.db'}", mirrored=MIRRORED)
    assert rebuild_registry(rebuilt).problems == []
    assert rebuilt.manifests.find(HERE, "v1").digest == expected.digest


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prepare", [pull_first, pull_moved])
def test_a_process_that_is_killed_is_followed_by_one_that_serves_what_is_right(
    tmp_path: Path, kind: str, prepare: Callable[[World, ScriptedRemote], None]
) -> None:
    steps, whole = lives(tmp_path / "whole", kind, prepare, None)
    whole.close()
    assert steps > 3
    for at in range(1, steps + 1):
        _, world = lives(tmp_path / f"killed-{at}", kind, prepare, at)
        world.close()


def hang(root: str, url: str, out: Connection) -> None:
    """In a process of its own: brings a manifest from an upstream that never answers."""
    registry = Registry(Backends(LocalDriver(Path(root), fsync=False), Database(url), Policy(mirrored=MIRRORED)))
    clock = Clock()
    remote = ScriptedRemote(clock)
    remote.push(ONE, "v1")

    def wait() -> None:
        out.send("asked")
        time.sleep(3600)

    remote.during = wait
    Mirror(registry, remote, clock).find()


def test_a_process_that_is_killed_while_it_waits_for_the_upstream_is_followed_at_once(tmp_path: Path) -> None:
    url, root = create_current(tmp_path / "cache.db"), tmp_path / "root"
    context = multiprocessing.get_context("spawn")
    heard, out = context.Pipe(duplex=False)
    process = context.Process(target=hang, args=(str(root), url, out))
    process.start()
    assert heard.poll(60)
    assert heard.recv() == "asked"
    database, clock = Database(url), Clock()
    registry = Registry(Backends(LocalDriver(root, fsync=False), database, Policy(mirrored=MIRRORED)))
    remote = ScriptedRemote(clock)
    remote.push(ONE, "v1")
    mirror = Mirror(registry, remote, clock)
    process.kill()
    process.join()
    assert mirror.pull() == (ONE.digest, False)
    assert mirror.waits == []
    assert remote.methods() == ["GET"]
    registry.close()
