"""A whole life of content through the core, on both databases and both layouts of blobs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from registry.database import memberships
from registry.database.transaction import Transaction
from registry.images.referrers import Wanted
from registry.maintenance.rebuild import rebuild_registry
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown, ManifestBlobUnknown, ManifestUnknown, Unsupported
from tests.database.conftest import wait_for_a_lock
from tests.support.payloads import index
from tests.support.postgresql import Cluster
from tests.support.registry_world import (
    ACTOR,
    KINDS,
    NAME,
    World,
    make_image,
    pull,
    pull_blob,
    push_blob,
    push_image,
    push_manifest,
    read_index,
    tags,
)


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest, url: str, tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, str(request.param), url)
    yield made
    made.close()


def test_push_pull_tag_attach_delete_and_collect(world: World) -> None:
    registry = world.registry()
    first, second = push_image(registry, "1", "v1", "latest"), push_image(registry, "2", "v2")
    both = index([first.manifest, second.manifest])
    push_manifest(registry, both, "multi")
    signature = push_image(registry, "signature", subject=first.manifest, artifact_type="application/sig")
    assert tags(registry) == ["latest", "multi", "v1", "v2"]
    assert pull(registry, "latest") == first.digest
    found, _ = registry.manifests.referrers(NAME, first.digest, Wanted("application/sig", "", 10, 1 << 20))
    assert (len(found.descriptors), found.last) == (1, signature.manifest.digest)

    with pytest.raises(Unsupported, match="needed by"):
        registry.blobs.delete(NAME, Digest.parse(first.layer.digest))
    with pytest.raises(Unsupported, match="listed by"):
        registry.manifests.delete(NAME, first.digest, actor=ACTOR)
    registry.manifests.untag(NAME, "latest", actor=ACTOR)
    registry.manifests.delete(NAME, Digest.parse(both.digest), actor=ACTOR)
    registry.manifests.delete(NAME, second.digest, actor=ACTOR)
    registry.blobs.delete(NAME, Digest.parse(second.layer.digest))
    assert registry.fold_waiting()
    assert tags(registry) == ["v1"]
    with pytest.raises(ManifestUnknown):
        registry.manifests.find(NAME, second.digest)
    with pytest.raises(BlobUnknown):
        registry.blobs.find(NAME, Digest.parse(second.layer.digest))
    assert set(read_index(registry).tags()) == {"v1"}

    again = push_image(registry, "2", "v2")
    assert pull(registry, "v2") == again.digest
    registry.fold_waiting()
    assert set(read_index(registry).manifests()) == {first.digest, again.digest, signature.digest}


def test_a_blob_is_mounted_and_each_repository_has_its_own(world: World) -> None:
    registry = world.registry()
    digest = push_blob(registry, b"shared")
    assert registry.blobs.mount("other/app", digest, NAME)
    assert registry.blobs.mount("third/app", digest, None)
    assert not registry.blobs.mount("other/app", Digest.of(b"nowhere"), None)
    registry.blobs.delete(NAME, digest)
    with pytest.raises(BlobUnknown):
        registry.blobs.find(NAME, digest)
    assert pull_blob(registry, digest, "other/app") == b"shared"
    assert pull_blob(registry, digest, "third/app") == b"shared"


def test_everything_comes_back_from_storage_alone(world: World, tmp_path: Path) -> None:
    registry = world.registry()
    pushed = push_image(registry, "1", "v1")
    attached = push_image(registry, "sbom", subject=pushed.manifest)
    registry.fold_waiting()
    moved = push_image(registry, "2", "v1")  # still only in the journal
    other = world.registry(url=f"sqlite:///{tmp_path / 'new.db'}")
    report = rebuild_registry(other)
    assert (report.repositories, report.problems) == (1, [])
    assert pull(other, "v1") == moved.digest
    assert pull(other, pushed.manifest.digest) == pushed.digest
    found, _ = other.manifests.referrers(NAME, pushed.digest, Wanted(None, "", 10, 1 << 20))
    assert (len(found.descriptors), found.last) == (1, attached.manifest.digest)


def test_two_cores_that_push_at_once_lose_nothing(world: World) -> None:
    registries = [world.registry(), world.registry()]

    def push(number: int) -> None:
        push_image(registries[number % 2], str(number % 5), f"v{number}")
        registries[number % 2].fold_waiting()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(push, range(20)))
    for registry in registries:
        assert len(tags(registry)) == 20
    while sum(registry.fold_waiting() for registry in registries):
        pass
    fresh = world.registry()
    for number in range(20):
        assert pull(fresh, f"v{number}") == make_image(str(number % 5)).digest
    assert len(read_index(fresh).tags()) == 20


def test_publishers_of_one_blob_in_many_repositories_end_with_one_inode(world: World) -> None:
    registries, together = [world.registry() for _ in range(4)], threading.Barrier(4)
    digest = Digest.of(b"shared")

    def push(number: int) -> None:
        together.wait(60)
        push_blob(registries[number % 4], b"shared", f"team/app{number}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(push, range(8)))
    driver, layout = registries[0].backends.driver, registries[0].backends.layout
    assert len({driver.stat(layout.blob(f"team/app{number}", digest)).etag for number in range(8)}) == 1


def test_pushes_and_deletions_of_the_same_blob_never_leave_a_manifest_without_it(world: World) -> None:
    registries = [world.registry(), world.registry()]
    made = make_image("contested")
    push_blob(registries[0], made.config.data)

    def push() -> str:
        push_blob(registries[0], made.layer.data)
        try:
            push_manifest(registries[0], made.manifest, "v1")
        except ManifestBlobUnknown:
            return ""  # the deletion came first
        return "" if pull(registries[0], "v1") == made.digest else "another image"

    def delete() -> str:
        with contextlib.suppress(BlobUnknown, Unsupported):
            registries[1].blobs.delete(NAME, Digest.parse(made.layer.digest))
        return ""

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(job) for _ in range(12) for job in (push, delete)]
        problems = [future.result() for future in futures]
    assert [problem for problem in problems if problem] == []
    push_blob(registries[0], made.layer.data)
    push_manifest(registries[0], made.manifest, "v1")
    assert pull(world.registry(), "v1") == made.digest


def test_a_deletion_and_a_push_of_one_blob_do_not_wait_for_each_other(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """A deleter locks a blob before its membership, as a pusher does."""
    world = World(tmp_path, "local", cluster.create_current())
    request.addfinalizer(world.close)
    pushing, deleting = world.registry(), world.registry()
    digest = push_blob(pushing, b"contested")
    left = threading.Event()
    leave = memberships.remove

    def leave_and_let_the_push_come(connection: Transaction, repository: int, blob: int) -> bool:
        done = leave(connection, repository, blob)
        left.set()
        wait_for_a_lock(world.url)
        return done

    monkeypatch.setattr(memberships, "remove", leave_and_let_the_push_come)
    with ThreadPoolExecutor(1) as pool:
        deletion = pool.submit(deleting.blobs.delete, NAME, digest)
        assert left.wait(60)
        assert push_blob(pushing, b"contested") == digest
        deletion.result(10)
    assert pull_blob(pushing, digest) == b"contested"
