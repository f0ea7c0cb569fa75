"""The database of replicas is lost, or away, while clients push and pull: storage is the registry (promise 2)."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from tests.soak.budget import SEED, announce, budget
from tests.soak.far_client import FarClient
from tests.soak.far_registry import SIZES, FarRegistry
from tests.soak.history import History
from tests.soak.pushers import HUNG, Crowd
from tests.support.postgresql import Cluster

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(1800),
    pytest.mark.tools("versitygw", "nginx", "initdb", "pg_ctl", "postgres"),
]

CLIENTS = 6
REPOSITORIES = ("lost/one", "lost/two", "lost/one/below")


@contextmanager
def pushing(far: FarRegistry, history: History, *, lossy: bool) -> Iterator[Crowd]:
    """Clients push for as long as the block lasts, and a moment before and after it."""
    connect = partial(FarClient, far.ports, lossy=lossy)
    with Crowd(CLIENTS, connect, REPOSITORIES, history, SEED, sizes=SIZES) as crowd:
        crowd.resume()
        time.sleep(1)
        yield crowd
        time.sleep(1)


def pushes_go_on(crowd: Crowd) -> None:
    """Some more are acknowledged."""
    wanted, deadline = crowd.pushed + CLIENTS, time.monotonic() + HUNG
    while crowd.pushed < wanted:
        crowd.check()
        assert time.monotonic() < deadline, "nothing is acknowledged any more"
        time.sleep(0.1)


def test_a_database_that_is_lost_under_load_is_rebuilt_and_nothing_acknowledged_is_missing(far: FarRegistry) -> None:
    announce()
    chance, history = random.Random(SEED), History()
    with pushing(far, history, lossy=True) as crowd:
        for _ in range(budget(sample=2, full=25)):
            pushes_go_on(crowd)
            far.lose_database()
            time.sleep(chance.uniform(0, 0.5))
            far.rebuild()
            pushes_go_on(crowd)
    print(f"{crowd.pushed} pushes acknowledged")  # noqa: T201
    far.check(history)


def test_a_database_that_is_away_is_waited_for_and_nothing_acknowledged_is_missing(
    far: FarRegistry, cluster: Cluster
) -> None:
    announce()
    chance, history = random.Random(SEED), History()
    with pushing(far, history, lossy=False) as crowd:
        for number in range(budget(sample=2, full=30)):
            pushes_go_on(crowd)
            cluster.stop("immediate" if number % 2 else "fast")
            try:
                time.sleep(chance.uniform(0.1, 1.5))
                for port in far.ports:
                    asked = FarClient([port])
                    with asked, pytest.raises(OSError, match="503"):
                        asked.call("GET", f"/v2/{REPOSITORIES[0]}/tags/list")
                    assert asked.refused == [503]
            finally:
                cluster.start()
            pushes_go_on(crowd)
    print(f"{crowd.pushed} pushes acknowledged")  # noqa: T201
    far.check(history)
