"""When manifests were pulled: noted in memory, written down once in a while, and missed never without a word."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from registry.database import manifests, repositories, stores, tags
from registry.database.errors import DatabaseUnavailable
from registry.images import pulls
from registry.images.registry import Registry
from registry.oci.digest import Digest
from tests.support.postgresql import Cluster
from tests.support.registry_world import NAME, World, make_image, push_image, push_manifest

POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.tools("initdb", "pg_ctl", "postgres"))


@pytest.fixture(params=["sqlite", POSTGRESQL])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    url = request.getfixturevalue("new_database")() if request.param == "postgresql" else None
    made = World(tmp_path, "memory", url)
    yield made
    made.close()


@pytest.fixture
def registry(world: World) -> Registry:
    return world.registry(pull_interval=3600)


def pulled_at(registry: Registry, digest: str, name: str = NAME) -> float | None:
    with registry.backends.database.autocommit() as connection:
        row = repositories.find(connection, name).get()
        assert row is not None
        return next(
            tag.pulled_at for tag in tags.judged(connection, row.id, last="", count=100).get() if tag.digest == digest
        )


def since(registry: Registry) -> float | None:
    with registry.backends.database.autocommit() as connection:
        return stores.reached_at(connection, stores.PULLS_SINCE).get()


def test_a_pull_is_written_down_for_its_manifest_in_its_repository(registry: Registry, world: World) -> None:
    image, other = push_image(registry, "one", "v1"), push_image(registry, "two", "v2")
    push_image(registry, "one", "v1", name="other/app")
    registry.pulls.pulled(NAME, image.digest)
    assert pulled_at(registry, image.digest) is None, "no request writes"
    noted = world.clock.now
    world.clock.now += 60
    assert registry.pulls.flush() == 1
    assert pulled_at(registry, image.digest) == noted
    assert pulled_at(registry, other.digest) is None
    assert pulled_at(registry, image.digest, "other/app") is None
    assert registry.pulls.flush() == 0


def test_a_further_pull_is_written_down_after_the_interval_alone(
    registry: Registry, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = push_image(registry, "one", "v1")
    now = 1000.0
    monkeypatch.setattr(pulls, "perf_counter", lambda: now)
    first = world.clock.now
    pull = registry.pulls.pulled(NAME, image.digest)
    registry.pulls.flush()
    now, world.clock.now = now + 3599, first + 3599
    assert registry.pulls.pulled(NAME, image.digest) is pull
    assert registry.pulls.flush() == 0
    now, world.clock.now = now + 1, first + 3600
    registry.pulls.pulled(NAME, image.digest)
    assert registry.pulls.flush() == 1
    assert pulled_at(registry, image.digest) == first + 3600


def test_of_several_processes_the_latest_pull_stays(registry: Registry, world: World) -> None:
    image, other = push_image(registry, "one", "v1"), world.registry()
    earlier = world.clock.now
    other.pulls.pulled(NAME, image.digest)
    world.clock.now += 5
    registry.pulls.pulled(NAME, image.digest)
    registry.pulls.flush()
    other.pulls.flush()
    other.pulls.flush()
    assert pulled_at(registry, image.digest) == earlier + 5


def test_a_push_of_the_manifest_keeps_the_time_and_a_new_one_has_none(registry: Registry, world: World) -> None:
    image = push_image(registry, "one", "v1")
    registry.pulls.pulled(NAME, image.digest)
    registry.pulls.flush()
    push_manifest(registry, image.manifest, "v2")
    assert pulled_at(registry, image.digest) == world.clock.now
    registry.manifests.delete(NAME, Digest(image.digest), actor="tester")
    push_image(registry, "one", "v1")
    assert pulled_at(registry, image.digest) is None


def test_a_manifest_that_is_gone_is_tried_twice_and_forgotten(registry: Registry) -> None:
    push_image(registry, "one", "v1")
    registry.pulls.pulled(NAME, make_image("other").digest)
    registry.pulls.pulled("no/such", make_image("one").digest)
    assert registry.pulls.flush() == 0
    assert registry.pulls.flush() == 2
    assert registry.pulls.flush() == 0


def test_what_a_lost_database_did_not_take_is_written_when_it_is_back(
    registry: Registry, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = push_image(registry, "one", "v1")
    registry.pulls.pulled(NAME, image.digest)
    transaction = registry.backends.database.transaction

    def lost(**_: Any) -> Any:
        raise DatabaseUnavailable("away")

    monkeypatch.setattr(registry.backends.database, "transaction", lost)
    for _ in range(3):
        with pytest.raises(DatabaseUnavailable):
            registry.pulls.flush()
    monkeypatch.setattr(registry.backends.database, "transaction", transaction)
    registry.pulls.flush()
    assert pulled_at(registry, image.digest) == world.clock.now


def test_what_is_not_written_yet_does_not_hide_a_later_pull(registry: Registry, world: World) -> None:
    image = push_image(registry, "one", "v1")
    pull = registry.pulls.pulled(NAME, image.digest)
    world.clock.now += 7
    registry.pulls.note(pull)
    registry.pulls.flush()
    assert pulled_at(registry, image.digest) == world.clock.now


def test_since_when_pulls_are_complete_is_noted_once(registry: Registry, world: World) -> None:
    assert since(registry) is None
    begun = world.clock.now
    registry.pulls.flush()
    assert since(registry) == begun
    world.clock.now += 1000
    registry.pulls.flush()
    world.registry().pulls.flush()
    assert since(registry) == begun


def test_pulls_without_room_move_the_time_since_when_they_are_complete(
    registry: Registry, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulls, "MOST", 2)
    registry.pulls.flush()
    digests = [push_image(registry, text, text).digest for text in ("one", "two", "three")]
    world.clock.now += 1000
    for digest in digests[:2]:
        registry.pulls.pulled(NAME, digest)
    assert registry.pulls.wake.is_set()
    registry.pulls.flush()
    assert not registry.pulls.wake.is_set()
    assert since(registry) == world.clock.now - 1000, "nothing was missed"
    monkeypatch.setattr(registry.pulls, "_known", {})
    for digest in digests:
        registry.pulls.pulled(NAME, digest)
    world.clock.now += 5
    registry.pulls.flush()
    assert [pulled_at(registry, digest) for digest in digests][2] is None
    assert since(registry) == world.clock.now


@pytest.mark.tools("initdb", "pg_ctl", "postgres")
def test_no_pull_waits_for_a_push_and_no_push_for_long(tmp_path: Path, cluster: Cluster) -> None:
    """The row of a manifest that a transaction changes is passed over, and written the next time."""
    world = World(tmp_path, "memory", cluster.create_current())
    registry = world.registry()
    held, free = push_image(registry, "one", "v1"), push_image(registry, "two", "v2")
    with registry.backends.database.autocommit() as connection:
        row = repositories.find(connection, NAME).get()
        assert row is not None
        found = manifests.by_digest(connection, row.id, held.digest).get()
        assert found is not None
    has_locked, may_end = Event(), Event()

    def push() -> None:
        with registry.backends.database.transaction() as connection:
            manifests.set_pushed(connection, row.id, [(found.blob_id, 1.0)])
            connection.settle()
            has_locked.set()
            may_end.wait(30)

    pushing = Thread(target=push)
    pushing.start()
    assert has_locked.wait(30)
    for image in (held, free):
        registry.pulls.pulled(NAME, image.digest)
    assert registry.pulls.flush() == 1, "the other is not waited for"
    assert pulled_at(registry, free.digest) == world.clock.now
    assert pulled_at(registry, held.digest) is None
    may_end.set()
    pushing.join()
    assert registry.pulls.flush() == 1
    assert pulled_at(registry, held.digest) == world.clock.now
    world.close()
