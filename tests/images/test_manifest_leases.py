"""What HEAD says of a manifest holds for a lease: a client that skips its push can name it in an index (I7)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from registry.images.manifests import Manifests
from registry.images.registry import Registry
from registry.maintenance.rebuild import rebuild_registry
from registry.oci.digest import Digest
from registry.oci.errors import ManifestUnknown
from tests.support.collecting import collect, collect_in, end_leases
from tests.support.payloads import index
from tests.support.registry_world import NAME, Pushed, World, at, leased_until, pull, push_image, push_manifest


@pytest.mark.parametrize("by", ["tag", "digest"])
def test_a_lease_is_renewed_only_past_its_half_and_only_for_a_push(world: World, registry: Registry, by: str) -> None:
    start, lease = world.clock.now, world.policy.lease
    digest = push_image(registry, "1", "v1").digest
    reference = digest if by == "digest" else "v1"
    assert leased_until(registry, digest) == at(start + lease)
    world.clock.now = start + lease * 0.49
    assert registry.manifests.find(NAME, reference, for_a_push=True).leased_until == at(start + lease)
    assert leased_until(registry, digest) == at(start + lease)
    world.clock.now = start + lease * 0.51
    assert registry.manifests.find(NAME, reference).leased_until == at(start + lease)
    assert leased_until(registry, digest) == at(start + lease)
    assert registry.manifests.find(NAME, reference, for_a_push=True).leased_until == at(world.clock.now + lease)
    assert leased_until(registry, digest) == at(world.clock.now + lease)


def test_without_leases_nothing_is_written(world: World) -> None:
    registry = world.registry(lease=0.0)
    digest = push_image(registry, "1", "v1").digest
    before = leased_until(registry, digest)
    world.clock.now += 60
    registry.manifests.find(NAME, digest, for_a_push=True)
    assert leased_until(registry, digest) == at(before)


def test_a_lease_is_on_disk_before_the_answer(world: World, registry: Registry) -> None:
    digest = push_image(registry, "1", "v1").digest
    world.clock.now += world.policy.lease
    registry.manifests.find(NAME, digest, for_a_push=True)
    assert leased_until(world.registry(), digest) == at(world.clock.now + world.policy.lease)


def test_what_is_found_on_storage_is_leased(world: World, registry: Registry, tmp_path: Path) -> None:
    digest = push_image(registry, "1", "v1").digest
    registry.fold_waiting()
    world.clock.now += 10 * world.policy.lease
    other = world.registry(url=f"sqlite:///{tmp_path / 'fresh.db'}")
    rebuild_registry(other)
    assert leased_until(other, digest) == at(world.clock.now + world.policy.lease)


def old_child(world: World, registry: Registry) -> Pushed:
    """An image without a tag, whose lease is over."""
    made = push_image(registry, "child")
    world.clock.now += 10 * world.policy.lease
    end_leases(registry)
    return made


def test_a_child_that_head_says_is_there_can_be_named(world: World, registry: Registry) -> None:
    """Check 7: HEAD of an old child, a collection, the index that names it."""
    child = old_child(world, registry)
    registry.manifests.find(NAME, child.digest, for_a_push=True)
    world.clock.now += world.policy.lease / 2 - 1
    assert collect(world.registry(), NAME) == set()
    push_manifest(registry, index([child.manifest]), "multi")
    world.clock.now += 10 * world.policy.lease
    assert collect(world.registry(), NAME) == set()
    assert pull(registry, child.manifest.digest) == child.digest


def test_a_child_that_was_only_read_is_collected_with_what_it_alone_names(world: World, registry: Registry) -> None:
    child = old_child(world, registry)
    registry.manifests.find(NAME, child.digest)
    assert collect(world.registry(), NAME) == {child.manifest.digest, child.config.digest, child.layer.digest}
    with pytest.raises(ManifestUnknown):
        registry.manifests.find(NAME, child.digest, for_a_push=True)


class Place(NamedTuple):
    """Two processes on one database."""

    world: World
    pushing: Registry
    collecting: Registry


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    url = request.getfixturevalue("new_database")() if request.param == "postgresql" else None
    world = World(tmp_path, "memory", url)
    yield Place(world, world.registry(), world.registry())
    world.close()


def test_a_collection_between_look_and_lease_is_seen(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    child = old_child(place.world, place.pushing)
    lease = Manifests._lease

    def late(manifests: Manifests, name: str, digest: Digest) -> float | None:
        assert child.manifest.digest in collect(place.collecting, NAME)
        return lease(manifests, name, digest)

    monkeypatch.setattr(Manifests, "_lease", late)
    with pytest.raises(ManifestUnknown):
        place.pushing.manifests.find(NAME, child.digest, for_a_push=True)


def test_a_tag_that_moves_between_look_and_lease_is_followed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    push_image(place.pushing, "1", "v1")
    place.world.clock.now += 10 * place.world.policy.lease
    end_leases(place.pushing)
    lease = Manifests._lease

    def late(manifests: Manifests, name: str, digest: Digest) -> float | None:
        monkeypatch.setattr(Manifests, "_lease", lease)
        moved.append(push_image(place.collecting, "2", "v1"))
        assert digest in collect(place.collecting, NAME)
        return lease(manifests, name, digest)

    moved: list[Pushed] = []
    monkeypatch.setattr(Manifests, "_lease", late)
    assert place.pushing.manifests.find(NAME, "v1", for_a_push=True).digest == moved[0].digest


def test_of_a_lease_and_a_collection_at_once_the_second_sees_the_first(place: Place) -> None:
    """A collection that has looked, and not committed: HEAD waits for it, and says that the child is gone."""
    child = old_child(place.world, place.pushing)
    with ThreadPoolExecutor(1) as threads:
        with place.collecting.backends.database.transaction() as connection:
            assert child.manifest.digest in collect_in(connection, place.collecting, NAME)
            found = threads.submit(place.pushing.manifests.find, NAME, child.digest, for_a_push=True)
            with pytest.raises(TimeoutError):
                found.result(0.2)
        with pytest.raises(ManifestUnknown):
            found.result(10)
