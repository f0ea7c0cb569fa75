"""A former release and this one at work on one storage and one database: a rolling upgrade in its middle."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from functools import partial

import pytest

from tests.soak import disk, truth
from tests.soak.budget import SEED, announce, budget
from tests.soak.client import Client
from tests.soak.far_client import FarClient
from tests.soak.far_registry import SIZES, settle
from tests.soak.history import History
from tests.soak.pushers import Crowd
from tests.upgrade.filling import AMD, ELSEWHERE, PRIVATE, SPARSE
from tests.upgrade.places import Tenancy

pytestmark = [pytest.mark.upgrade, pytest.mark.timeout(900)]

CLIENTS = 6
SECONDS = budget(sample=2, full=60)
"""Of work by both after the last kill, and at most before each."""
REPOSITORIES = ("beside/one", "beside/two", "beside/one/below")


class Pair:
    """Two registries of one place, the former release first."""

    def __init__(self, tenancy: Tenancy, former: list[str]) -> None:
        self.tenancy = tenancy
        self.registries = [tenancy.registry(former), tenancy.registry()]

    @property
    def ports(self) -> list[int]:
        """Where a client may ask."""
        return [registry.port for registry in self.registries]

    def check(self, history: History) -> None:
        """Whatever was acknowledged is there, through both, and in each index."""
        for registry in self.registries:
            with Client(registry.port) as client:
                truth.check_tags(client, history)
                truth.check_images(client, history)
        with Client(self.ports[0]) as client:
            for name in REPOSITORIES:
                wanted = {tag: client.digest_of_tag(name, tag) for tag in client.tags(name)}
                settle(partial(self._has_folded, name, wanted), f"index.json of {name}")
        if not self.tenancy.place.shared:
            assert disk.wrong_blobs(self.tenancy.place.root) == []
            assert disk.strangers(self.tenancy.place.root) == []

    def _has_folded(self, name: str, wanted: dict[str, str | None]) -> bool:
        return self.tenancy.tags_in_index(name) == wanted


@pytest.fixture
def pair(tenancy: Tenancy, former: list[str]) -> Iterator[Pair]:
    announce()
    made = Pair(tenancy, former)
    try:
        for registry in made.registries:
            registry.start()
        yield made
        for registry in made.registries:
            registry.stop()
    finally:
        for registry in made.registries:
            if registry.running:
                registry.kill()


def work(pair: Pair, history: History) -> None:
    """Let clients push, move tags, mount and delete, each request at either release; each of them dies once."""
    chance = random.Random(SEED)
    with Crowd(CLIENTS, partial(FarClient, pair.ports), REPOSITORIES, history, SEED, sizes=SIZES) as crowd:
        crowd.resume()
        for registry in pair.registries:
            time.sleep(chance.uniform(0.3, 1) * SECONDS)
            registry.kill()
            crowd.check()
            time.sleep(chance.uniform(0, 0.5))
            registry.start()
        time.sleep(SECONDS)
    assert crowd.pushed > SECONDS, "hardly anything was pushed"


def test_what_either_acknowledged_is_there_through_both(pair: Pair) -> None:
    history = History()
    work(pair, history)
    pair.check(history)
    lose_database(pair)
    assert pair.registries[1].run("rebuild")["problems"] == []
    pair.check(history)


def test_what_is_withheld_stays_so_beside_a_former_release(pair: Pair) -> None:
    """And what that release takes in although it is withheld, it takes in for good."""
    with Client(pair.ports[1]) as present, Client(pair.ports[0]) as former:
        for blob in (AMD, PRIVATE):
            present.push_blob(ELSEWHERE, blob)
        present.push_manifest(ELSEWHERE, SPARSE, "owner")
        for name in REPOSITORIES:
            present.push_manifest(name, SPARSE, "sparse")
            former.push_blob(name, AMD)
    work(pair, History())
    assert pair.registries[1].run("rebuild")["problems"] == []
    for port in pair.ports:
        check_withheld(port)
    for registry in pair.registries:
        registry.stop()
    pair.tenancy.place.lose_database()
    for registry in reversed(pair.registries):
        registry.start()
        check_withheld(registry.port)


def check_withheld(port: int) -> None:
    """Each repository has the manifest and what came for it, and not the layer of another repository."""
    with Client(port) as client:
        for name in REPOSITORIES:
            assert client.digest_of_tag(name, "sparse") == SPARSE.digest, name
            assert client.has_blob(name, AMD.digest), name
            assert not client.has_blob(name, PRIVATE.digest), name
            assert client.call("GET", f"/v2/{name}/blobs/{PRIVATE.digest}").status == 404, name
        assert client.has_blob(ELSEWHERE, PRIVATE.digest)


def lose_database(pair: Pair) -> None:
    """Stop both, lose the database and start both, the former release first: it makes the schema."""
    for registry in pair.registries:
        registry.stop()
    pair.tenancy.place.lose_database()
    for registry in pair.registries:
        registry.start()
