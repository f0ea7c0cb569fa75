"""Replicas over S3 and PostgreSQL lose nothing that was acknowledged, whenever one of them is killed (I1, I3, I8)."""

from __future__ import annotations

import random
import time
from functools import partial

import pytest

from tests.soak.budget import SEED, announce, budget
from tests.soak.far_client import FarClient
from tests.soak.far_registry import SIZES, FarRegistry
from tests.soak.history import History
from tests.soak.pushers import Crowd

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(1800),
    pytest.mark.tools("versitygw", "nginx", "initdb", "pg_ctl", "postgres"),
]

KILLS = budget(sample=2, full=60)
CLIENTS = 8
REPOSITORIES = ("kill/one", "kill/two", "kill/one/below")
EXPIRY = 5.0


def test_no_kill_of_a_replica_loses_a_push(far: FarRegistry) -> None:
    announce()
    chance, history = random.Random(SEED), History()
    with Crowd(CLIENTS, partial(FarClient, far.ports), REPOSITORIES, history, SEED, sizes=SIZES) as crowd:
        crowd.resume()
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.1, 1.0))
            far.kill_one(chance)
            crowd.check()
        time.sleep(1)
    print(f"{crowd.pushed} pushes acknowledged, {KILLS} kills")  # noqa: T201
    assert crowd.pushed >= KILLS, "hardly anything was pushed between the kills"
    far.check(history)
    far.expire_uploads(EXPIRY)
    far.check_nothing_is_left()
    far.lose_database()
    assert far.rebuild()["repositories"] == len(REPOSITORIES)
    far.check(history)
