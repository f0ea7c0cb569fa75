"""A leader is killed after any of its steps: the next one brings the blob, and nothing is left (B.6 of mirrors)."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from registry.database.mirrors import fetches
from registry.images.backends import Backends
from registry.images.fetching.expiry import expire
from registry.images.registry import Registry
from tests.images.fetching.scripted import (
    PIECE,
    REPOSITORY,
    Cut,
    ScriptedUpstream,
    hub_of,
    in_threads,
    join,
    read_all,
)
from tests.support.kills import Doom, DyingDatabase, DyingDriver, Killed
from tests.support.registry_world import REPLICAS_KIND, World, open_world

DATA = random.Random(20).randbytes(5 * PIECE + 7)
NEVER = 1e9
LEASE = 16.0
DAYS = 3 * 86400.0
MOST = 100
"""Steps that a fetch of these bytes never has."""


def doomed(world: World, doom: Doom) -> Registry:
    """A process that dies."""
    world.registry()  # makes the database, and is closed with its world
    database = DyingDatabase(world.url, doom, world.clocks())
    return Registry(Backends(DyingDriver(world.driver(), doom), database, world.policy, clock=database.clocks.wall))


def fetch_until_killed(world: World, upstream: ScriptedUpstream, doom: Doom) -> bytes | Cut:
    registry = doomed(world, doom)
    with hub_of(registry, flush=0.0, renewal=NEVER) as hub:
        try:
            (outcome,) = in_threads([join(hub, upstream)])
        except Killed:  # it would have read on
            outcome = DATA
    registry.close()
    return outcome


@pytest.mark.parametrize("kind", ["local", "memory", REPLICAS_KIND])
@pytest.mark.parametrize("is_lost", [False, True], ids=["the database stays", "the database is lost"])
def test_a_leader_is_killed_after_each_of_its_steps(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, is_lost: bool
) -> None:
    for step in range(1, MOST):
        (directory := tmp_path / str(step)).mkdir()
        world = open_world(request, directory, kind)
        upstream, doom = ScriptedUpstream(DATA), Doom(step)
        outcome = fetch_until_killed(world, upstream, doom)
        assert outcome == DATA or isinstance(outcome, Cut)
        if isinstance(outcome, Cut):
            assert DATA.startswith(outcome.data)
            assert len(outcome.data) < len(DATA)
        is_over = doom.steps < step
        if is_lost:
            world.url = world.another()
        world.clock.now += LEASE
        registry = world.registry()
        with hub_of(registry) as hub:
            assert read_all(join(hub, upstream)) == DATA, step
        if not is_lost:
            assert upstream.sent <= len(DATA) + PIECE, step
        with registry.blobs.read(registry.blobs.open(REPOSITORY, upstream.digest)) as reader:
            assert reader.read(1 << 20) == DATA
        world.clock.now += DAYS
        expire(registry.backends, seconds=3600)
        registry.uploads.expire()
        assert list(registry.backends.driver.uploads()) == [], step
        with registry.backends.database.autocommit() as connection:
            assert fetches.find(connection, "mirror", upstream.digest).get() is None
        world.close()
        if is_over:
            assert step > 15
            return
    pytest.fail("it has more steps")
