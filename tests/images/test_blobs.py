"""Blobs of a repository: found, leased, lost, healed, quarantined, mounted, refused to be deleted."""

from __future__ import annotations

import os

import pytest

from registry.database import blobs as blob_rows
from registry.images.registry import Registry
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown, ManifestBlobUnknown, NameUnknown, Unsupported
from registry.storage.middleware.faults import FaultyDriver
from tests.images.world import ACTOR, NAME, World, pull_blob, push_blob, push_image, push_manifest

local = pytest.mark.parametrize("kind", ["local"])
OTHER = "other/app"


def leased_until(core: Registry, digest: Digest) -> float:
    with core.stores.database.read() as connection:
        row = blob_rows.find(connection, digest)
    assert row is not None
    return row.leased_until


def place(core: Registry, digest: Digest, data: bytes, name: str = NAME) -> None:
    """Write a file under a digest as another tool does, whatever its bytes are."""
    core.stores.driver.write(core.stores.layout.blob(name, digest), data)


def inode(core: Registry, digest: Digest, name: str) -> str:
    return core.stores.driver.stat(core.stores.layout.blob(name, digest)).signature


def test_a_lease_is_renewed_only_past_its_half(world: World, core: Registry) -> None:
    start, lease = world.clock.now, world.rules.lease
    digest = push_blob(core, b"leased")
    assert leased_until(core, digest) == start + lease
    world.clock.now = start + lease * 0.49
    assert core.blobs.find(NAME, digest).leased_until == start + lease
    assert leased_until(core, digest) == start + lease
    world.clock.now = start + lease * 0.51
    assert core.blobs.find(NAME, digest).leased_until == world.clock.now + lease
    assert leased_until(core, digest) == world.clock.now + lease


def test_a_mount_leases_the_blob_too(world: World, core: Registry) -> None:
    digest = push_blob(core, b"leased")
    world.clock.now += world.rules.lease
    assert core.blobs.mount(OTHER, digest, NAME)
    assert leased_until(core, digest) == world.clock.now + world.rules.lease


def test_a_blob_is_only_in_the_repositories_that_have_it(core: Registry) -> None:
    digest = push_blob(core, b"private")
    push_blob(core, b"something", OTHER)
    with pytest.raises(BlobUnknown):
        core.blobs.find(OTHER, digest)
    with pytest.raises(BlobUnknown):
        core.blobs.open(OTHER, digest)
    with pytest.raises(NameUnknown):
        core.blobs.find("third/app", digest)
    assert core.blobs.mount(OTHER, digest, NAME)
    core.blobs.delete(OTHER, digest)
    with pytest.raises(BlobUnknown):
        core.blobs.find(OTHER, digest)
    assert pull_blob(core, digest) == b"private"


@local
@pytest.mark.parametrize("damage", [None, b"", b"short"])
def test_a_file_that_vanished_or_shrank_is_unknown_until_it_is_pushed_again(
    core: Registry, damage: bytes | None
) -> None:
    digest = push_blob(core, b"the whole content")
    key = core.stores.layout.blob(NAME, digest)
    if damage is None:
        core.stores.driver.delete([key])
    else:
        place(core, digest, damage)
    with pytest.raises(BlobUnknown):
        core.blobs.find(NAME, digest)
    with pytest.raises(BlobUnknown):
        core.blobs.read(core.blobs.open(NAME, digest))
    push_blob(core, b"the whole content")
    assert pull_blob(core, digest) == b"the whole content"


@pytest.mark.parametrize("kind", ["memory"])
def test_a_loss_that_a_read_found_is_unknown_everywhere_until_the_next_push(core: Registry) -> None:
    digest = push_blob(core, b"content")
    assert core.blobs.mount(OTHER, digest, NAME)
    core.stores.driver.delete([core.stores.layout.blob(NAME, digest)])
    with pytest.raises(BlobUnknown):
        core.blobs.read(core.blobs.open(NAME, digest))
    for name in (NAME, OTHER):
        with pytest.raises(BlobUnknown):
            core.blobs.find(name, digest)
    assert not core.blobs.mount("third/app", digest, None)
    push_blob(core, b"content", OTHER)
    assert pull_blob(core, digest) == b"content"


@local
def test_a_manifest_whose_blob_vanished_is_refused(core: Registry) -> None:
    pushed = push_image(core, "1")
    core.stores.driver.delete([core.stores.layout.blob(NAME, Digest.parse(pushed.layer.digest))])
    with pytest.raises(ManifestBlobUnknown, match=pushed.layer.digest):
        push_manifest(core, pushed.manifest, "v1")


@local
def test_a_blob_that_another_tool_placed_is_hashed_once_and_served(world: World, core: Registry) -> None:
    push_blob(core, b"so that the repository exists")
    digest = Digest.of(b"placed")
    place(core, digest, b"placed")
    assert pull_blob(core, digest) == b"placed"
    storage = FaultyDriver(world.driver())
    other = world.core(driver=storage)
    assert other.blobs.find(NAME, digest).size == 6
    other.blobs.open(NAME, digest)
    assert storage.calls["open"] == 0


@local
def test_a_file_with_other_bytes_than_its_name_says_is_not_served(core: Registry) -> None:
    push_blob(core, b"so that the repository exists")
    digest = Digest.of(b"right")
    place(core, digest, b"wrong")
    for _ in range(2):
        with pytest.raises(BlobUnknown):
            core.blobs.find(NAME, digest)
        with pytest.raises(BlobUnknown):
            core.blobs.open(NAME, digest)
    push_blob(core, b"right")
    assert pull_blob(core, digest) == b"right"


@local
def test_wrong_bytes_that_were_adopted_after_a_loss_are_quarantined_at_the_first_read(
    world: World, core: Registry, tmp_path: os.PathLike[str]
) -> None:
    pushed = push_image(core, "1", "v1")
    core.fold_waiting()
    digest = Digest.parse(pushed.layer.digest)
    place(core, digest, b"x" * len(pushed.layer.data))
    other = world.core(url=f"sqlite:///{tmp_path}/new.db")
    with pytest.raises(BlobUnknown):
        other.blobs.open(NAME, digest)
    with pytest.raises(BlobUnknown):
        other.blobs.find(NAME, digest)
    assert not other.blobs.mount(OTHER, digest, NAME)
    push_blob(other, pushed.layer.data)
    assert pull_blob(other, digest) == pushed.layer.data


@local
def test_a_push_does_not_spread_bytes_that_nobody_has_hashed(world: World, core: Registry, tmp_path: object) -> None:
    digest = push_blob(core, b"right")
    place(core, digest, b"wrong")
    other = world.core(url=f"sqlite:///{tmp_path}/new.db")
    assert other.repositories.touch(NAME) is not None
    push_blob(other, b"right", OTHER)
    assert pull_blob(other, digest, OTHER) == b"right"


@local
def test_one_blob_is_one_inode_in_all_repositories(core: Registry) -> None:
    digest = push_blob(core, b"shared")
    push_blob(core, b"shared", OTHER)
    core.blobs.mount("third/app", digest, OTHER)
    assert len({inode(core, digest, name) for name in (NAME, OTHER, "third/app")}) == 1


@local
def test_without_dedupe_each_push_keeps_its_own_bytes(world: World) -> None:
    core = world.core(dedupe=False)
    digest = push_blob(core, b"shared")
    push_blob(core, b"shared", OTHER)
    assert inode(core, digest, NAME) != inode(core, digest, OTHER)


def test_what_a_manifest_needs_is_not_deleted_and_the_answer_names_who_needs_it(core: Registry) -> None:
    pushed = push_image(core, "1", "v1")
    for digest in (pushed.config.digest, pushed.layer.digest, pushed.manifest.digest):
        with pytest.raises(Unsupported) as refusal:
            core.blobs.delete(NAME, Digest.parse(digest))
        assert refusal.value.detail == {"manifests": [pushed.manifest.digest]}
    core.manifests.delete(NAME, pushed.digest, actor=ACTOR)
    core.blobs.delete(NAME, Digest.parse(pushed.layer.digest))
    with pytest.raises(BlobUnknown):
        core.blobs.delete(NAME, Digest.parse(pushed.layer.digest))


def test_nothing_is_deleted_where_deleting_is_disabled(world: World) -> None:
    core = world.core(delete=False)
    pushed = push_image(core, "1", "v1")
    digest = push_blob(core, b"free")
    with pytest.raises(Unsupported):
        core.blobs.delete(NAME, digest)
    with pytest.raises(Unsupported):
        core.manifests.delete(NAME, pushed.digest, actor=ACTOR)
    with pytest.raises(Unsupported):
        core.manifests.untag(NAME, "v1", actor=ACTOR)
    assert pull_blob(core, digest) == b"free"
