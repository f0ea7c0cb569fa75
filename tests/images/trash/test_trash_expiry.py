"""What is older than the window leaves the trash, and nothing else does."""

from __future__ import annotations

from typing import Any

import pytest

from registry.images.registry import Registry
from registry.images.trash.trash_expiry import TrashExpiry
from registry.images.trash.trash_files import TrashFiles
from registry.oci.digest import Digest
from registry.oci.errors import ManifestUnknown
from tests.support.registry_world import ACTOR, NAME, World, pull, push_image, push_manifest

WINDOW = 1000.0


def trash_files(registry: Registry) -> set[str]:
    return {key.rpartition("/")[2] for key, _ in registry.backends.driver.list(".trash")}


@pytest.mark.parametrize("pages", [1, 100])
def test_the_old_leave_and_the_young_stay(world: World, monkeypatch: pytest.MonkeyPatch, pages: int) -> None:
    monkeypatch.setattr("registry.images.trash.trash_expiry.PAGE", pages)
    registry = world.registry(undelete_window=WINDOW)
    expiry = TrashExpiry(registry.backends)
    images = [push_image(registry, text, text) for text in ("one", "two", "three")]
    for image in images:
        registry.manifests.delete(NAME, image.digest, actor=ACTOR)
        registry.fold_waiting()
        world.clock.now += WINDOW * 0.4
    assert expiry.run() == 1
    assert expiry.run() == 0
    if registry.backends.layout.per_repository:
        assert trash_files(registry) == {image.digest.encoded for image in images[1:]}
    with pytest.raises(ManifestUnknown):
        registry.restoration.manifest(NAME, images[0].digest, actor=ACTOR)
    registry.restoration.last(NAME, actor=ACTOR)
    assert pull(registry, "three") == images[2].digest


def test_what_another_manifest_of_the_trash_needs_stays(world: World) -> None:
    registry = world.registry(undelete_window=WINDOW)
    files = registry.folding._trash_files
    first = push_image(registry, "one", "one")
    second = push_image(registry, "one", "two", annotations={"another": "manifest"})
    repository = registry.repositories.require(NAME)
    for image in (first, second):
        registry.manifests.delete(NAME, image.digest, actor=ACTOR)
        registry.fold_waiting()
        for blob in (image.config, image.layer):
            files.keep(repository, Digest.parse(blob.digest))
        world.clock.now += WINDOW / 2
    world.clock.now += 1
    assert TrashExpiry(registry.backends).run() == 1
    for blob in (second.config, second.layer):
        registry.blobs.delete(NAME, Digest.parse(blob.digest))
    registry.restoration.last(NAME, actor=ACTOR)
    assert pull(registry, "two") == second.digest


def test_a_manifest_that_was_deleted_again_stays(world: World) -> None:
    registry = world.registry(undelete_window=WINDOW)
    image = push_image(registry, "one", "v1")
    registry.manifests.delete(NAME, image.digest, actor=ACTOR)
    world.clock.now += WINDOW * 2
    push_image(registry, "one", "v1")
    registry.manifests.delete(NAME, image.digest, actor=ACTOR)
    registry.fold_waiting()
    assert TrashExpiry(registry.backends).run() == 0
    registry.restoration.last(NAME, actor=ACTOR)
    assert pull(registry, "v1") == image.digest


@pytest.mark.parametrize("kind", ["local"])
def test_a_manifest_that_is_deleted_while_an_older_one_leaves_keeps_its_files(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the trash anew between the look that nothing needs a file and its deletion."""
    registry = world.registry(undelete_window=WINDOW)
    image = push_image(registry, "one", "v1")
    registry.manifests.delete(NAME, image.digest, actor=ACTOR)
    registry.fold_waiting()
    world.clock.now += WINDOW + 1
    expiry = TrashExpiry(registry.backends)
    unneeded = TrashFiles._unneeded
    looks: list[list[Digest]] = []

    def delete_after(files: TrashFiles, *asked: Any) -> list[Digest]:
        looks.append(unneeded(files, *asked))
        if len(looks) == 1:
            push_manifest(registry, image.manifest, "v1")
            registry.manifests.delete(NAME, image.digest, actor=ACTOR)
            registry.fold_waiting()
        return looks[-1]

    monkeypatch.setattr(TrashFiles, "_unneeded", delete_after)
    assert expiry.run() == 1
    assert len(looks[0]) > len(looks[1])
    assert trash_files(registry) == {image.digest.encoded}
    registry.restoration.last(NAME, actor=ACTOR)
    assert pull(registry, "v1") == image.digest
