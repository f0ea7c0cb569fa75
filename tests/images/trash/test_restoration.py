"""What was deleted comes back, with everything that it named, also without the database that knew of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.images.registry import Registry
from registry.images.trash import restoration
from registry.images.trash.restoration import PAGE, Restoration, Restored
from registry.images.trash.stored_parts import StoredParts
from registry.images.trash.trash_files import TrashFiles
from registry.maintenance.rebuild import rebuild_registry
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown, ManifestUnknown, RequestInvalid, Unavailable
from registry.storage.errors import PathNotFound, StorageUnavailable
from registry.storage.middleware.faults import Fault, FaultyDriver, When
from tests.maintenance.scrub.place import flip, key_of, scrub
from tests.support.collecting import end_leases
from tests.support.collection import run as collect
from tests.support.payloads import Blob, Manifest, index
from tests.support.payloads import image as image_of
from tests.support.registry_world import (
    ACTOR,
    NAME,
    Pushed,
    World,
    is_there,
    make_image,
    pull,
    push_blob,
    push_image,
    push_manifest,
    read_index,
    tags,
)

WINDOW = 1000.0


@pytest.fixture
def registry(world: World) -> Registry:
    return world.registry(undelete_window=WINDOW)


def rebuilt(world: World, tmp_path: Path) -> Registry:
    """The same storage with a database that was empty."""
    registry = world.registry(url=world.another(), undelete_window=WINDOW)
    assert rebuild_registry(registry).problems == []
    return registry


def before_each_put(patch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Have ``act`` happen whenever a restore is about to put a manifest."""
    put = Restoration._put

    def put_later(restoration: Restoration, *put_of: Any) -> None:
        act()
        put(restoration, *put_of)

    patch.setattr(Restoration, "_put", put_later)


def delete(registry: Registry, manifest: Manifest) -> None:
    registry.manifests.delete(NAME, Digest.parse(manifest.digest), actor=ACTOR)
    registry.fold_waiting()


def forget_blobs(registry: Registry, image: Pushed) -> None:
    """As a collection does with what no manifest names."""
    for blob in (image.config, image.layer):
        registry.blobs.delete(NAME, Digest.parse(blob.digest))


def test_a_deleted_image_is_unknown_and_comes_back_by_its_digest(registry: Registry) -> None:
    image = push_image(registry, "one", "v1")
    delete(registry, image.manifest)
    with pytest.raises(ManifestUnknown):
        pull(registry, image.digest)
    with pytest.raises(BlobUnknown):
        registry.blobs.find(NAME, image.digest)
    assert registry.restoration.manifest(NAME, image.digest, actor=ACTOR) == [Restored(image.digest, ())]
    assert pull(registry, image.digest) == image.digest
    assert tags(registry) == []
    registry.fold_waiting()
    assert list(read_index(registry).manifests()) == [image.digest]
    assert registry.restoration.manifest(NAME, image.digest, actor=ACTOR) == []


def test_what_was_deleted_last_comes_back_with_its_tags(registry: Registry) -> None:
    first, second = push_image(registry, "one", "v1", "latest"), push_image(registry, "two", "v2")
    delete(registry, second.manifest)
    delete(registry, first.manifest)
    push_image(registry, "three", "latest")
    assert registry.restoration.last(NAME, actor=ACTOR) == [Restored(first.digest, ("v1",))]
    assert pull(registry, "v1") == first.digest
    assert registry.restoration.last(NAME, actor=ACTOR) == [Restored(second.digest, ("v2",))]
    assert tags(registry) == ["latest", "v1", "v2"]
    with pytest.raises(ManifestUnknown, match="holds nothing"):
        registry.restoration.last(NAME, actor=ACTOR)


@pytest.mark.parametrize("kept", [restoration.KEPT_BYTES, 0])
def test_a_chain_comes_back_whole(registry: Registry, monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    """Check 9, the half of undelete; also where there is no room for all of its manifests."""
    monkeypatch.setattr(restoration, "KEPT_BYTES", kept)
    image = push_image(registry, "image", "v1").manifest
    made: list[Manifest] = []
    for text, subject in (("sbom", image), ("signature", None)):
        each = make_image(text, subject=subject or made[0])
        for blob in (each.config, each.layer):
            push_blob(registry, blob.data)
        push_manifest(registry, each.manifest)
        made.append(each.manifest)
    fallback = image.digest.replace(":", "-")
    push_manifest(registry, listed := index([made[0]]), fallback)
    push_image(registry, "cosign", f"{fallback}.sig")
    delete(registry, image)
    assert tags(registry) == []
    restored = registry.restoration.manifest(NAME, Digest.parse(image.digest), actor=ACTOR)
    assert len(restored) == 5
    assert [is_there(registry, each) for each in (image, *made, listed)] == [True] * 4
    assert tags(registry) == [fallback, f"{fallback}.sig"]


def test_a_tag_becomes_what_it_was(registry: Registry) -> None:
    images = [push_image(registry, text, "latest") for text in ("one", "two", "three")]
    for image in images[:2]:
        delete(registry, image.manifest)
    registry.restoration.tag(NAME, "latest", actor=ACTOR)
    assert pull(registry, "latest") == images[1].digest
    registry.restoration.tag(NAME, "latest", sequence=1, actor=ACTOR)
    assert pull(registry, "latest") == images[0].digest
    registry.manifests.untag(NAME, "latest", actor=ACTOR)
    registry.restoration.tag(NAME, "latest", actor=ACTOR)
    assert pull(registry, "latest") == images[0].digest
    for tag, sequence in (("latest", 0), ("other", None)):
        with pytest.raises(ManifestUnknown):
            registry.restoration.tag(NAME, tag, sequence=sequence, actor=ACTOR)


def test_a_child_that_was_deleted_by_itself_comes_back_with_its_index(registry: Registry) -> None:
    children = [push_image(registry, text) for text in ("one", "two")]
    push_manifest(registry, listed := index([child.manifest for child in children]), "v1")
    delete(registry, listed)
    for child in children:
        delete(registry, child.manifest)
    registry.restoration.tag(NAME, "v1", actor=ACTOR)
    assert [is_there(registry, each) for each in (listed, children[0].manifest, children[1].manifest)] == [True] * 3


def test_what_is_attached_to_a_child_that_was_deleted_by_itself_comes_back_with_its_index(registry: Registry) -> None:
    """As after a collection that was killed between an index and what it lists."""
    children = [push_image(registry, text) for text in ("one", "two")]
    signatures = [push_image(registry, f"of {child.digest}", subject=child.manifest) for child in children]
    push_manifest(registry, listed := index([child.manifest for child in children]), "v1")
    other = push_image(registry, "other")
    for each in (listed, *(child.manifest for child in children), other.manifest):
        delete(registry, each)
    assert not any(is_there(registry, each.manifest) for each in signatures)
    registry.restoration.manifest(NAME, Digest.parse(listed.digest), actor=ACTOR)
    assert is_there(registry, listed)
    assert all(is_there(registry, each.manifest) for each in (*children, *signatures))
    assert not is_there(registry, other.manifest)


def test_an_index_that_went_with_a_child_of_another_stays_where_that_comes_back(
    world: World, registry: Registry
) -> None:
    child = push_image(registry, "one")
    push_manifest(registry, first := index([child.manifest], annotations={"number": "1"}), "v1")
    push_manifest(registry, second := index([child.manifest], annotations={"number": "2"}))
    delete(registry, first)
    collect(registry, untagged_after=10.0)
    end_leases(registry)
    world.clock.now += 11
    collect(registry, untagged_after=10.0)
    assert not is_there(registry, second)
    assert not is_there(registry, child.manifest)
    registry.restoration.tag(NAME, "v1", actor=ACTOR)
    assert pull(registry, child.manifest.digest) == child.digest
    assert is_there(registry, first)
    assert not is_there(registry, second)


def test_blobs_that_their_repository_has_lost_come_back_from_where_the_trash_or_another_has_them(
    world: World, registry: Registry
) -> None:
    image = push_image(registry, "one", "v1")
    delete(registry, image.manifest)
    files = registry.folding._trash_files
    row = registry.repositories.require(NAME)
    for blob in (image.config, image.layer):
        files.keep(row, Digest.parse(blob.digest))
    forget_blobs(registry, image)
    with pytest.raises(BlobUnknown):
        registry.blobs.find(NAME, Digest.parse(image.layer.digest))
    registry.restoration.last(NAME, actor=ACTOR)
    assert pull(registry, "v1") == image.digest
    assert pull(world.registry(), "v1") == image.digest


def test_nothing_is_written_where_bytes_are_gone(registry: Registry) -> None:
    image = push_image(registry, "one", "v1")
    delete(registry, image.manifest)
    forget_blobs(registry, image)
    driver, layout = registry.backends.driver, registry.backends.layout
    digest = Digest.parse(image.layer.digest)
    driver.delete([layout.trash(NAME, digest) if layout.per_repository else layout.blob(NAME, digest)])
    with pytest.raises(ManifestUnknown, match="storage does not have"):
        registry.restoration.last(NAME, actor=ACTOR)
    with pytest.raises(BlobUnknown):
        registry.blobs.find(NAME, Digest.parse(image.config.digest))
    assert not is_there(registry, image.manifest)


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_nothing_is_written_where_bytes_are_gone_that_the_repository_still_has(
    world: World, registry: Registry, damage: str
) -> None:
    """A restore would answer that all is well, and the first pull would find out."""
    kept, image = push_image(registry, "kept", "v2"), push_image(registry, "one", "v1")
    delete(registry, image.manifest)
    driver, digests = world.driver(), {image.config.digest, image.layer.digest}
    for digest in digests:
        key = key_of(registry, digest)
        driver.delete([key])
        if damage == "cut":
            driver.write(key, b"{")
    with pytest.raises(ManifestUnknown, match="push them again") as refused:
        registry.restoration.last(NAME, actor=ACTOR)
    assert refused.value.detail == {"missing": sorted(digests)}
    assert all(digest in refused.value.message for digest in digests)
    assert not is_there(registry, image.manifest)
    assert pull(registry, "v2") == kept.digest
    for blob in (image.config, image.layer):
        push_blob(registry, blob.data)
    registry.restoration.last(NAME, actor=ACTOR)
    assert pull(world.registry(), "v1") == image.digest


def test_sizes_are_compared_also_where_the_database_was_lost(world: World, registry: Registry, tmp_path: Path) -> None:
    image = push_image(registry, "one", "v1")
    delete(registry, image.manifest)
    forget_blobs(registry, image)
    layout, digest = registry.backends.layout, Digest.parse(image.layer.digest)
    key = layout.trash(NAME, digest) if layout.per_repository else layout.blob(NAME, digest)
    world.driver().delete([key])
    world.driver().write(key, b"{")
    with pytest.raises(ManifestUnknown, match=str(digest)):
        rebuilt(world, tmp_path).restoration.last(NAME, actor=ACTOR)


def test_a_manifest_whose_own_bytes_are_damaged_is_not_restored(world: World, registry: Registry) -> None:
    image = push_image(registry, "one", "v1")
    delete(registry, image.manifest)
    layout = registry.backends.layout
    flip(world, layout.trash(NAME, image.digest) if layout.per_repository else layout.blob(NAME, image.digest))
    with pytest.raises(ManifestUnknown, match="push it again") as refused:
        registry.restoration.last(NAME, actor=ACTOR)
    assert refused.value.detail == {"missing": [image.digest]}
    assert not is_there(registry, image.manifest)


def test_after_the_window_it_is_too_late(world: World, registry: Registry) -> None:
    image = push_image(registry, "one", "v1")
    delete(registry, image.manifest)
    world.clock.now += WINDOW - 1
    assert registry.restoration._batch_of(registry.repositories.require(NAME), image.digest)
    world.clock.now += 2
    with pytest.raises(ManifestUnknown, match="trash"):
        registry.restoration.manifest(NAME, image.digest, actor=ACTOR)
    with pytest.raises(ManifestUnknown, match="trash"):
        registry.restoration.last(NAME, actor=ACTOR)
    with pytest.raises(ManifestUnknown):
        registry.restoration.tag(NAME, "v1", actor=ACTOR)


@pytest.mark.parametrize("folded", [True, False])
def test_a_lost_database_loses_no_trash(world: World, registry: Registry, tmp_path: Path, *, folded: bool) -> None:
    """Check 17, without the collection."""
    kept, image = push_image(registry, "kept", "v1"), push_image(registry, "one", "v2", "latest")
    again = push_image(registry, "again", "v3")
    for each in (image, again):
        registry.manifests.delete(NAME, each.digest, actor=ACTOR)
        if folded:
            registry.fold_waiting()
    push_manifest(registry, again.manifest, "v3")
    if folded:
        registry.fold_waiting()
    fresh = rebuilt(world, tmp_path)
    assert tags(fresh) == ["v1", "v3"]
    with pytest.raises(ManifestUnknown):
        pull(fresh, image.digest)
    assert fresh.restoration.last(NAME, actor=ACTOR) == [Restored(image.digest, ("latest", "v2"))]
    assert pull(fresh, "v2") == image.digest
    assert pull(fresh, "v1") == kept.digest
    fresh.fold_waiting()
    assert image.digest in read_index(fresh).manifests()


def test_no_reference_that_was_withheld_comes_back(world: World, tmp_path: Path) -> None:
    """I12: what the repository did not have when the manifest was deleted it does not get by a restore."""
    registry = world.registry(undelete_window=WINDOW, accept_missing_blobs=True)
    secret = push_blob(registry, b"secret", "private/app")
    layer = make_image("stranger")
    manifest = image_of(layer.config, [Blob(b"secret")])
    push_blob(registry, layer.config.data)
    push_manifest(registry, manifest, "v1")
    delete(registry, manifest)
    registry.restoration.last(NAME, actor=ACTOR)
    fresh = world.registry(url=world.another(), undelete_window=WINDOW, accept_missing_blobs=True)
    assert rebuild_registry(fresh).problems == []
    fresh.manifests.delete(NAME, Digest.parse(manifest.digest), actor=ACTOR)
    fresh.restoration.last(NAME, actor=ACTOR)
    for process in (registry, fresh):
        with pytest.raises(BlobUnknown):
            process.blobs.find(NAME, secret)


def test_the_file_of_a_deleted_manifest_leaves_the_layout(world: World, registry: Registry) -> None:
    image = push_image(registry, "one", "v1")
    delete(registry, image.manifest)
    driver, layout = registry.backends.driver, registry.backends.layout
    if not layout.per_repository:
        assert driver.stat(layout.blob(NAME, image.digest))
        return
    assert driver.stat(layout.trash(NAME, image.digest))
    with pytest.raises(PathNotFound):
        driver.stat(layout.blob(NAME, image.digest))
    del world


def test_no_tombstone_is_pruned_of_what_the_trash_has(world: World) -> None:
    """Where each repository has its own blobs, the last location of a deleted manifest is gone with it."""
    registry = world.registry(undelete_window=WINDOW, tombstone=WINDOW / 10)
    image = push_image(registry, "one", "v1")
    delete(registry, image.manifest)
    world.clock.now += WINDOW / 5
    registry.blob_deletion.prune()
    assert registry.restoration.last(NAME, actor=ACTOR) == [Restored(image.digest, ("v1",))]
    assert pull(registry, "v1") == image.digest


def test_what_was_deleted_last_is_found_behind_whatever_was_pushed_again(registry: Registry) -> None:
    old = push_image(registry, "old", "old")
    images = [push_image(registry, f"image {number}") for number in range(PAGE + 1)]
    for image in (old, *images):
        registry.manifests.delete(NAME, image.digest, actor=ACTOR)
    for image in images:
        push_manifest(registry, image.manifest)
    assert registry.restoration.last(NAME, actor=ACTOR) == [Restored(old.digest, ("old",))]


@pytest.mark.parametrize("kind", ["memory"])
def test_indexes_of_indexes_come_back_however_deep_they_are(registry: Registry) -> None:
    made = [push_image(registry, "leaf").manifest]
    for number in range(400):
        made.append(index([made[-1]], annotations={"number": str(number)}))
        push_manifest(registry, made[-1])
    for each in reversed(made):
        registry.manifests.delete(NAME, Digest.parse(each.digest), actor=ACTOR)
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(500)
    try:
        restored = registry.restoration.manifest(NAME, Digest.parse(made[-1].digest), actor=ACTOR)
    finally:
        sys.setrecursionlimit(before)
    assert [each.digest for each in restored] == [each.digest for each in made]


@pytest.mark.parametrize("kind", ["memory"])
def test_bytes_that_were_found_wrong_do_not_come_back(world: World, registry: Registry) -> None:
    """The row of the object says so, and would say that it is right; a push of the right bytes heals."""
    image = push_image(registry, "one", "v1")
    delete(registry, image.manifest)
    digest = Digest.parse(image.layer.digest)
    forget_blobs(registry, image)
    flip(world, key_of(registry, digest))
    assert not scrub(registry).is_clean
    with pytest.raises(ManifestUnknown, match="storage does not have"):
        registry.restoration.last(NAME, actor=ACTOR)
    with pytest.raises(BlobUnknown):
        registry.blobs.find(NAME, digest)
    push_blob(registry, image.layer.data)
    registry.restoration.last(NAME, actor=ACTOR)
    assert pull(registry, "v1") == image.digest


@pytest.mark.parametrize("accept", [False, True])
def test_a_collection_between_the_look_and_the_put_of_a_restore_takes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, *, accept: bool
) -> None:
    """What the repository still has is leased first: else it would be withheld, or the put be refused."""
    registry = world.registry(undelete_window=WINDOW, grace=10, lease=100, accept_missing_blobs=accept)
    image = push_image(registry, "one", "v1")
    delete(registry, image.manifest)
    collect(registry)
    world.clock.now += 101
    before_each_put(monkeypatch, lambda: collect(registry))
    registry.restoration.last(NAME, actor=ACTOR)
    assert pull(registry, "v1") == image.digest


@pytest.mark.parametrize("times", [1, 2])
def test_a_restore_that_takes_longer_than_a_lease_takes_what_it_needs_again(
    world: World, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    registry = world.registry(undelete_window=WINDOW, grace=0, lease=10)
    image = push_image(registry, "one", "v1")
    delete(registry, image.manifest)
    late, taken = iter(range(times)), set[str]()

    def collect_late() -> None:
        for _ in range(2 if next(late, None) is not None else 0):
            world.clock.now += 11
            taken.update(collect(registry).digests)

    before_each_put(monkeypatch, collect_late)
    registry.restoration.last(NAME, actor=ACTOR)
    assert taken == {image.config.digest, image.layer.digest}
    assert pull(registry, "v1") == image.digest


def test_a_restore_that_ends_after_the_window_brings_nothing_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = world.registry(undelete_window=WINDOW, grace=0, lease=10)
    image = push_image(registry, "one", "v1")
    delete(registry, image.manifest)

    def collect_late() -> None:
        for _ in range(2):
            world.clock.now += WINDOW + 1
            collect(registry)

    before_each_put(monkeypatch, collect_late)
    with pytest.raises(ManifestUnknown, match=f"does not hold {image.digest} any more"):
        registry.restoration.last(NAME, actor=ACTOR)
    assert tags(registry) == []


def test_a_restore_that_takes_longer_than_a_lease_again_and_again_says_what_is_lacking(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = world.registry(undelete_window=WINDOW, grace=0, lease=10)
    image = push_image(registry, "one", "v1")
    delete(registry, image.manifest)

    def collect_late() -> None:
        for _ in range(2):
            world.clock.now += 11
            collect(registry)

    with monkeypatch.context() as patch:
        before_each_put(patch, collect_late)
        with pytest.raises(ManifestUnknown, match=f"cannot be restored: .* {image.config.digest}"):
            registry.restoration.last(NAME, actor=ACTOR)
    assert tags(registry) == []
    registry.restoration.last(NAME, actor=ACTOR)
    assert pull(registry, "v1") == image.digest


@pytest.mark.parametrize("window", [WINDOW, 0.0])
def test_a_tag_comes_back_to_a_manifest_that_a_collection_takes_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch, window: float
) -> None:
    registry = world.registry(undelete_window=window, grace=0, lease=10)
    image = push_image(registry, "one", "v1")
    registry.manifests.untag(NAME, "v1", actor=ACTOR)
    late = iter(range(4))

    def collect_late() -> None:
        for _ in late:
            world.clock.now += 21
            collect(registry, untagged_after=20.0)
        world.clock.now += 1

    before_each_put(monkeypatch, collect_late)
    if window:
        registry.restoration.tag(NAME, "v1", actor=ACTOR)
        assert pull(registry, "v1") == image.digest
    else:
        with pytest.raises(ManifestUnknown, match=f"does not hold {image.digest}"):
            registry.restoration.tag(NAME, "v1", actor=ACTOR)


@pytest.mark.parametrize("kind", ["local"])
def test_files_that_a_collection_moves_meanwhile_come_back_from_the_trash(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = world.registry(undelete_window=WINDOW, grace=0, lease=0)
    image = push_image(registry, "one", "v1")
    delete(registry, image.manifest)
    collect(registry)
    world.clock.now += 1
    found = StoredParts.find

    def collect_then(stored: StoredParts, *wanted: Any) -> Any:
        part = found(stored, *wanted)
        collect(registry)
        return part

    monkeypatch.setattr(Restoration, "_kept", lambda *_: set())
    monkeypatch.setattr(StoredParts, "find", collect_then)
    registry.restoration.last(NAME, actor=ACTOR)
    assert pull(registry, "v1") == image.digest


def test_blobs_that_a_client_deletes_after_their_manifest_come_back_with_it(registry: Registry) -> None:
    """Where each repository has its own files the trash has to have them before they go."""
    image = push_image(registry, "one", "v1")
    delete(registry, image.manifest)
    forget_blobs(registry, image)
    for blob in (image.config, image.layer):
        with pytest.raises(BlobUnknown):
            registry.blobs.find(NAME, Digest.parse(blob.digest))
    registry.restoration.last(NAME, actor=ACTOR)
    assert pull(registry, "v1") == image.digest


@pytest.mark.parametrize("kind", ["local"])
def test_a_blob_whose_manifest_is_deleted_while_it_is_stays_for_the_next_request(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = push_image(registry, "one", "v1")
    digest = Digest.parse(image.layer.digest)
    is_wanted = TrashFiles.is_wanted
    looks: list[bool] = []

    def delete_after(files: TrashFiles, *asked: Any) -> bool:
        wanted = is_wanted(files, *asked)
        looks.append(wanted)
        if len(looks) == 1:
            delete(registry, image.manifest)
        return wanted

    monkeypatch.setattr(TrashFiles, "is_wanted", delete_after)
    with pytest.raises(Unavailable):
        registry.blobs.delete(NAME, digest)
    registry.blobs.delete(NAME, digest)
    registry.restoration.last(NAME, actor=ACTOR)
    assert pull(registry, "v1") == image.digest


def test_a_tag_is_looked_for_in_a_bounded_time_and_found_by_its_change(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = push_image(registry, "one", "old")
    push_image(registry, "two", "old")
    push_image(registry, "three", "latest")
    monkeypatch.setattr(restoration, "SECONDS", 0.0)
    with pytest.raises(RequestInvalid, match=f"registry history {NAME}:old"):
        registry.restoration.tag(NAME, "old", actor=ACTOR)
    registry.restoration.tag(NAME, "old", sequence=1, actor=ACTOR)
    assert pull(registry, "old") == image.digest


@pytest.mark.parametrize(("number", "moment"), [(1, When.BEFORE), (1, When.AFTER), (2, When.BEFORE)])
def test_the_same_again_ends_a_restore_of_which_storage_took_no_record(
    world: World, registry: Registry, number: int, moment: When
) -> None:
    """The rows had it: the same again brought back what was deleted before it."""
    old, image = push_image(registry, "old", "old"), push_image(registry, "image", "v1")
    signature = push_image(registry, "signature", subject=image.manifest)
    for each in (old, image):
        delete(registry, each.manifest)
    faults = [Fault("[aw]*", "*/.journal/*", first=number, moment=moment)]  # append or write
    failing = world.registry(driver=FaultyDriver(world.driver(), faults), undelete_window=WINDOW)
    with pytest.raises(StorageUnavailable):
        failing.restoration.last(NAME, actor=ACTOR)
    back = world.registry(undelete_window=WINDOW).restoration.last(NAME, actor=ACTOR)
    assert Restored(image.digest, ("v1",)) in back
    assert [is_there(registry, each.manifest) for each in (old, image, signature)] == [False, True, True]
    assert pull(registry, "v1") == image.digest
    assert registry.restoration.last(NAME, actor=ACTOR) == [Restored(old.digest, ("old",))]
