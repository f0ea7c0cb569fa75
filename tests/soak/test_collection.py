"""Collection beside clients: what was acknowledged stays, and no push fails because of it (I1, I7, I13, I14).

Servers and collectors, several of each, with times of a second or two. First nothing goes wrong, and nothing may. Then
collectors are killed and stopped, and a store carries deletes out that it had answered with an error: a push may be
asked to come again, and is taken then. At the end everything is there that must be, and nothing else.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.soak.budget import SEED, announce
from tests.soak.collecting.actor import Actor, Actors
from tests.soak.collecting.caller import Caller
from tests.soak.collecting.collectors import Collectors
from tests.soak.collecting.late_deletes import LateDeletes
from tests.soak.collecting.times import CALM, CLAIM, ENOUGH, PATIENCE, ROUGH
from tests.soak.collecting.world import FarWorld, LocalWorld, World
from tests.soak.loss import require_kept
from tests.support.fault_proxy import FaultProxy
from tests.support.postgresql import Cluster
from tests.support.s3_server import S3Server

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

ACTORS = 5
ALL = {"restored in time", "skipped", "mounted", "checked", "skipped child"}
"""What has to have happened at least once; some of it is rare."""


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalWorld]:
    made = LocalWorld(tmp_path)
    yield made
    made.end()


@pytest.fixture
def proxy(store: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(store.port, secret=store.secret) as between:
        yield between


@pytest.fixture
def far(tmp_path: Path, store: S3Server, cluster: Cluster, proxy: FaultProxy) -> Iterator[FarWorld]:
    made = FarWorld(tmp_path, store, cluster, proxy.url)
    yield made
    made.end()


def test_collection_on_disk_takes_nothing_that_clients_have(local: LocalWorld) -> None:
    announce()
    live(local, random.Random(SEED))


@pytest.mark.tools("versitygw", "initdb", "pg_ctl", "postgres")
def test_collection_in_a_bucket_takes_nothing_that_clients_have(
    far: FarWorld, store: S3Server, proxy: FaultProxy
) -> None:
    announce()
    chance = random.Random(SEED)
    with LateDeletes(proxy, store, chance) as late:
        live(far, chance, late.strike, lambda: late.carried_out > 0)
    print(f"{late.carried_out} deletes carried out late")  # noqa: T201


def live(
    world: World,
    chance: random.Random,
    strike: Callable[[], object] = lambda: None,
    has_struck: Callable[[], bool] = lambda: True,
) -> None:
    """All of it. ``strike``: let the store go wrong, which it has to do at least once."""
    world.start()
    rough = threading.Event()
    callers = [Caller(world.ports, random.Random(f"{SEED}-{number}"), rough) for number in range(ACTORS)]
    actors = Actors(
        [Actor(number, ACTORS, caller, random.Random(f"{SEED} {number}")) for number, caller in enumerate(callers)]
    )
    with ExitStack() as stack:
        collectors = stack.enter_context(Collectors(world.machines))
        stack.enter_context(actors)
        _watch(CALM, actors, collectors, lambda: time.sleep(0.2), lambda: collectors.freed() > ENOUGH)
        calm = collectors.freed()
        print(f"calm: {dict(actors.done())}, {calm} things collected")  # noqa: T201
        rough.set()

        def harm() -> None:
            strike()
            time.sleep(chance.uniform(0.1, 3.0))
            if chance.random() < 0.6:
                collectors.kill_one(chance)
            else:
                collectors.stop_one(chance, chance.choice((0.3, 1.0, CLAIM * 1.5)))

        def is_enough() -> bool:
            return has_struck() and collectors.freed() > calm + ENOUGH and actors.done().keys() >= ALL

        _watch(ROUGH, actors, collectors, harm, is_enough)
        told = dict(actors.done())
        waits = sum(caller.waits for caller in callers)
        print(f"{told}, {collectors.freed()} things collected, {waits} waits")  # noqa: T201
        print(f"{collectors.kills} kills, {collectors.stops} stops")  # noqa: T201
    _check_end(world, actors)


def _watch(
    seconds: float,
    actors: Actors,
    collectors: Collectors,
    act: Callable[[], object],
    is_enough: Callable[[], bool],
) -> None:
    """Act for so long, and longer until ``is_enough``."""
    began = time.monotonic()
    while time.monotonic() - began < seconds or not is_enough():
        told = f"{collectors.runs()[-9:]}, {dict(actors.done())}"
        assert time.monotonic() - began < seconds + PATIENCE, f"hardly anything happens: {told}"
        act()
        actors.check()
        collectors.check()


def _check_end(world: World, actors: Actors) -> None:
    """Nothing that must be there is missing, nothing else is left, and the figures are those of the storage."""
    actors.check_all()
    world.restart_without_a_schedule()
    removed = world.collect_all()
    actors.check_all()
    expected, (found, size) = actors.expected(), world.content()
    if "" in found:
        expected = {"": set().union(*expected.values())}
    for repository, digests in expected.items():
        require_kept(not digests - found.get(repository, set()), "missing", repository)
    left = {repository: digests - expected.get(repository, set()) for repository, digests in found.items()}
    assert not any(left.values()), ("left over", left)
    usage = world.usage()
    print(f"{removed} things collected at the end, {size} bytes are left")  # noqa: T201
    assert usage["stored"] == size, usage
    assert set(usage["waiting"].values()) == {0}, usage
