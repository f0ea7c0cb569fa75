"""HEAD of a blob that a client may build upon: a lease, or 404, also where a collection comes between (I7)."""

from __future__ import annotations

from typing import Any

import pytest

from registry.images.blobs import Blobs
from registry.images.registry import Registry
from registry.oci.errors import BlobUnknown
from tests.support.collecting import collect
from tests.support.registry_world import NAME, World, push_blob


def test_a_collection_between_look_and_lease_is_seen(
    world: World, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = push_blob(registry, b"old")
    world.clock.now += 10 * world.policy.lease
    lease, collecting = Blobs._lease, world.registry()

    def late(blobs: Blobs, *given: Any) -> float:
        assert collect(collecting, NAME) == {digest}
        return lease(blobs, *given)

    monkeypatch.setattr(Blobs, "_lease", late)
    with pytest.raises(BlobUnknown):
        registry.blobs.find(NAME, digest)


def test_a_lease_before_a_collection_holds(world: World, registry: Registry) -> None:
    digest = push_blob(registry, b"old")
    world.clock.now += 10 * world.policy.lease
    registry.blobs.find(NAME, digest)
    assert collect(world.registry(), NAME) == set()
