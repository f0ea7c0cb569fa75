"""Blobs of a repository: found, leased, lost, healed, quarantined, mounted, refused to be deleted."""

from __future__ import annotations

import os

import pytest

from registry.images.registry import Registry
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown, ManifestBlobUnknown, NameUnknown, Unsupported
from registry.storage.middleware.faults import FaultyDriver
from tests.support.registry_world import (
    ACTOR,
    NAME,
    World,
    at,
    leased_until,
    pull_blob,
    push_blob,
    push_image,
    push_manifest,
)

local = pytest.mark.parametrize("kind", ["local"])
OTHER = "other/app"


def place(registry: Registry, digest: Digest, data: bytes, name: str = NAME) -> None:
    """Write a file under a digest as another tool does, whatever its bytes are."""
    registry.backends.driver.write(registry.backends.layout.blob(name, digest), data)


def inode(registry: Registry, digest: Digest, name: str) -> str:
    return registry.backends.driver.stat(registry.backends.layout.blob(name, digest)).etag


def test_a_lease_is_renewed_only_past_its_half(world: World, registry: Registry) -> None:
    start, lease = world.clock.now, world.policy.lease
    digest = push_blob(registry, b"leased")
    assert leased_until(registry, digest) == at(start + lease)
    world.clock.now = start + lease * 0.49
    assert registry.blobs.find(NAME, digest).leased_until == at(start + lease)
    assert leased_until(registry, digest) == at(start + lease)
    world.clock.now = start + lease * 0.51
    assert registry.blobs.find(NAME, digest).leased_until == at(world.clock.now + lease)
    assert leased_until(registry, digest) == at(world.clock.now + lease)


def test_a_mount_leases_the_blob_too(world: World, registry: Registry) -> None:
    digest = push_blob(registry, b"leased")
    world.clock.now += world.policy.lease
    assert registry.blobs.mount(OTHER, digest, NAME)
    assert leased_until(registry, digest) == at(world.clock.now + world.policy.lease)


def test_a_blob_is_only_in_the_repositories_that_have_it(registry: Registry) -> None:
    digest = push_blob(registry, b"private")
    push_blob(registry, b"something", OTHER)
    with pytest.raises(BlobUnknown):
        registry.blobs.find(OTHER, digest)
    with pytest.raises(BlobUnknown):
        registry.blobs.open(OTHER, digest)
    with pytest.raises(NameUnknown):
        registry.blobs.find("third/app", digest)
    assert registry.blobs.mount(OTHER, digest, NAME)
    registry.blobs.delete(OTHER, digest)
    with pytest.raises(BlobUnknown):
        registry.blobs.find(OTHER, digest)
    assert pull_blob(registry, digest) == b"private"


@local
@pytest.mark.parametrize("damage", [None, b"", b"short"])
def test_a_file_that_vanished_or_shrank_is_unknown_until_it_is_pushed_again(
    registry: Registry, damage: bytes | None
) -> None:
    digest = push_blob(registry, b"the whole content")
    key = registry.backends.layout.blob(NAME, digest)
    if damage is None:
        registry.backends.driver.delete([key])
    else:
        place(registry, digest, damage)
    with pytest.raises(BlobUnknown):
        registry.blobs.find(NAME, digest)
    with pytest.raises(BlobUnknown):
        registry.blobs.read(registry.blobs.open(NAME, digest))
    push_blob(registry, b"the whole content")
    assert pull_blob(registry, digest) == b"the whole content"


@pytest.mark.parametrize("kind", ["memory"])
def test_a_loss_that_a_read_found_is_unknown_everywhere_until_the_next_push(registry: Registry) -> None:
    digest = push_blob(registry, b"content")
    assert registry.blobs.mount(OTHER, digest, NAME)
    registry.backends.driver.delete([registry.backends.layout.blob(NAME, digest)])
    with pytest.raises(BlobUnknown):
        registry.blobs.read(registry.blobs.open(NAME, digest))
    for name in (NAME, OTHER):
        with pytest.raises(BlobUnknown):
            registry.blobs.find(name, digest)
    assert not registry.blobs.mount("third/app", digest, None)
    push_blob(registry, b"content", OTHER)
    assert pull_blob(registry, digest) == b"content"


@local
def test_a_manifest_whose_blob_vanished_is_refused(registry: Registry) -> None:
    pushed = push_image(registry, "1")
    registry.backends.driver.delete([registry.backends.layout.blob(NAME, Digest.parse(pushed.layer.digest))])
    with pytest.raises(ManifestBlobUnknown, match=pushed.layer.digest):
        push_manifest(registry, pushed.manifest, "v1")


@local
def test_a_blob_that_another_tool_placed_is_hashed_once_and_served(world: World, registry: Registry) -> None:
    push_blob(registry, b"so that the repository exists")
    digest = Digest.of(b"placed")
    place(registry, digest, b"placed")
    assert pull_blob(registry, digest) == b"placed"
    storage = FaultyDriver(world.driver())
    other = world.registry(driver=storage)
    assert other.blobs.find(NAME, digest).size == 6
    other.blobs.open(NAME, digest)
    assert storage.calls["open"] == 0


@local
def test_a_file_with_other_bytes_than_its_name_says_is_not_served(registry: Registry) -> None:
    push_blob(registry, b"so that the repository exists")
    digest = Digest.of(b"right")
    place(registry, digest, b"wrong")
    for _ in range(2):
        with pytest.raises(BlobUnknown):
            registry.blobs.find(NAME, digest)
        with pytest.raises(BlobUnknown):
            registry.blobs.open(NAME, digest)
    push_blob(registry, b"right")
    assert pull_blob(registry, digest) == b"right"


@local
def test_wrong_bytes_that_were_adopted_after_a_loss_are_quarantined_at_the_first_read(
    world: World, registry: Registry, tmp_path: os.PathLike[str]
) -> None:
    pushed = push_image(registry, "1", "v1")
    registry.fold_waiting()
    digest = Digest.parse(pushed.layer.digest)
    place(registry, digest, b"x" * len(pushed.layer.data))
    other = world.registry(url=f"sqlite:///{tmp_path}/new.db")
    with pytest.raises(BlobUnknown):
        other.blobs.open(NAME, digest)
    with pytest.raises(BlobUnknown):
        other.blobs.find(NAME, digest)
    assert not other.blobs.mount(OTHER, digest, NAME)
    push_blob(other, pushed.layer.data)
    assert pull_blob(other, digest) == pushed.layer.data


@local
def test_a_push_does_not_spread_unverified_bytes(world: World, registry: Registry, tmp_path: object) -> None:
    digest = push_blob(registry, b"right")
    place(registry, digest, b"wrong")
    other = world.registry(url=f"sqlite:///{tmp_path}/new.db")
    assert other.repositories.touch(NAME) is not None
    push_blob(other, b"right", OTHER)
    assert pull_blob(other, digest, OTHER) == b"right"


@local
def test_one_blob_is_one_inode_in_all_repositories(registry: Registry) -> None:
    digest = push_blob(registry, b"shared")
    push_blob(registry, b"shared", OTHER)
    registry.blobs.mount("third/app", digest, OTHER)
    assert len({inode(registry, digest, name) for name in (NAME, OTHER, "third/app")}) == 1


@local
def test_without_dedupe_each_push_keeps_its_own_bytes(world: World) -> None:
    registry = world.registry(dedupe=False)
    digest = push_blob(registry, b"shared")
    push_blob(registry, b"shared", OTHER)
    assert inode(registry, digest, NAME) != inode(registry, digest, OTHER)


def test_what_a_manifest_needs_is_not_deleted_and_the_answer_names_who_needs_it(registry: Registry) -> None:
    pushed = push_image(registry, "1", "v1")
    for digest in (pushed.config.digest, pushed.layer.digest, pushed.manifest.digest):
        with pytest.raises(Unsupported) as refusal:
            registry.blobs.delete(NAME, Digest.parse(digest))
        assert refusal.value.detail == {"manifests": [pushed.manifest.digest]}
    registry.manifests.delete(NAME, pushed.digest, actor=ACTOR)
    registry.blobs.delete(NAME, Digest.parse(pushed.layer.digest))
    with pytest.raises(BlobUnknown):
        registry.blobs.delete(NAME, Digest.parse(pushed.layer.digest))


def test_nothing_is_deleted_where_deleting_is_disabled(world: World) -> None:
    registry = world.registry(delete=False)
    pushed = push_image(registry, "1", "v1")
    digest = push_blob(registry, b"free")
    with pytest.raises(Unsupported):
        registry.blobs.delete(NAME, digest)
    with pytest.raises(Unsupported):
        registry.manifests.delete(NAME, pushed.digest, actor=ACTOR)
    with pytest.raises(Unsupported):
        registry.manifests.untag(NAME, "v1", actor=ACTOR)
    assert pull_blob(registry, digest) == b"free"
