"""Storage where each call costs time and money, under two replicas on one PostgreSQL: a warm read makes no call."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, cast

import pytest

from registry.oci.digest import Digest
from registry.storage.memory import MemoryDriver
from registry.storage.middleware.faults import FaultyDriver
from tests.api.service import Service, serving
from tests.support.payloads import Blob, image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REPO = "far/away"
CONFIG = Blob(b'{"far": "away"}')
LAYER = Blob(b"of a small layer" * 50)
IMAGE = image(CONFIG, [LAYER])
OTHER = image(CONFIG, [LAYER], annotations={"other": "yes"})
READS = [
    (method, path)
    for method in ("GET", "HEAD")
    for path in (
        f"/v2/{REPO}/manifests/one",
        f"/v2/{REPO}/manifests/{IMAGE.digest}",
        f"/v2/{REPO}/tags/list",
        f"/v2/{REPO}/referrers/{IMAGE.digest}",
        "/v2/_catalog",
    )
] + [("HEAD", f"/v2/{REPO}/blobs/{blob.digest}") for blob in (CONFIG, LAYER)]


class Replica:
    """A process whose calls to storage and queries of versions are counted."""

    def __init__(self, service: Service, driver: FaultyDriver) -> None:
        self.service = service
        self.driver = driver

    def calls_for(self, method: str, path: str) -> int:
        """How many calls to storage a read makes, that is answered with 200."""
        before = self.driver.calls.total()
        assert self.service.call(method, path).status == 200, (method, path)
        return self.driver.calls.total() - before

    def is_asked(self, method: str, path: str) -> bool:
        """Whether a read comes to the routes."""
        observation = cast("Any", self.service.observation)
        inner, asked = observation._routes, []

        async def spy(*request: object) -> None:
            asked.append(request)
            await inner(*request)

        observation._routes = spy
        assert self.service.call(method, path).status == 200
        observation._routes = inner
        return bool(asked)


@pytest.fixture
def replicas(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Replica]]:
    """The first has pushed and read everything; the second has looked at the repository, as each does once."""
    sections = {"database": {"url": request.getfixturevalue("new_database")()}}
    drivers = [FaultyDriver(inner) for inner in [MemoryDriver()] * 2]
    with (
        serving(tmp_path, sections, driver=drivers[0]) as first,
        serving(tmp_path, sections, driver=drivers[1]) as second,
    ):
        for blob in (CONFIG, LAYER):
            first.push_blob(REPO, blob)
        first.push(REPO, "one", IMAGE)
        for method, path in READS:
            assert first.call(method, path).status == 200
        assert second.call("GET", f"/v2/{REPO}/tags/list?n=1").status == 200
        yield [Replica(service, driver) for service, driver in zip((first, second), drivers, strict=True)]


def test_a_read_that_any_replica_has_made_before_makes_no_call_to_storage(replicas: list[Replica]) -> None:
    for replica in replicas:
        for _ in range(3):
            assert {read: replica.calls_for(*read) for read in READS} == dict.fromkeys(READS, 0)


def test_what_a_replica_has_read_itself_does_not_come_to_its_routes(replicas: list[Replica]) -> None:
    for method, path in READS:
        if path == "/v2/_catalog":
            continue
        for replica in replicas:
            replica.calls_for(method, path)
            assert not replica.is_asked(method, path), (method, path)


def test_threads_that_are_all_busy_delay_no_read_from_memory(replicas: list[Replica]) -> None:
    service, done = replicas[0].service, threading.Event()

    async def story() -> None:
        calls = [service.context.run(done.wait, 20) for _ in range(service.context.settings.limits.threads * 2)]
        try:
            async with asyncio.timeout(60):
                reply = await service.send("GET", f"/v2/{REPO}/manifests/one")
            assert reply.body == IMAGE.data
        finally:
            done.set()
            await asyncio.gather(*calls)

    service._runner.run(story())


def test_a_small_blob_that_a_replica_has_read_is_read_from_memory(replicas: list[Replica]) -> None:
    path = f"/v2/{REPO}/blobs/{LAYER.digest}"
    for replica in replicas:
        assert replica.calls_for("GET", path) > 0
        assert replica.calls_for("GET", path) == 0


def test_a_change_by_one_replica_shows_in_the_other_at_once_and_without_storage(replicas: list[Replica]) -> None:
    target = f"/v2/{REPO}/manifests/one"
    for turn in range(6):
        writer, reader = replicas[turn % 2], replicas[1 - turn % 2]
        wanted = (OTHER, IMAGE)[turn % 2]
        assert reader.service.call("GET", target).status == 200
        writer.service.push(REPO, "one", wanted)
        assert reader.calls_for("HEAD", target) == 0
        assert reader.service.call("GET", target).body == wanted.data


def test_a_blob_whose_loss_one_replica_has_seen_is_gone_for_the_other(replicas: list[Replica]) -> None:
    path = f"/v2/{REPO}/blobs/{LAYER.digest}"
    first, second = (replica.service for replica in replicas)
    assert second.call("GET", path).body == LAYER.data
    key = first.registry.backends.layout.blob(REPO, Digest.parse(LAYER.digest))
    first.registry.backends.driver.delete([key])
    assert first.call("GET", path).status == 404
    assert [service.call(method, path).status for service in (first, second) for method in ("HEAD", "GET")] == [404] * 4
    first.push_blob(REPO, LAYER)
    assert [service.call("GET", path).status for service in (first, second)] == [200] * 2
