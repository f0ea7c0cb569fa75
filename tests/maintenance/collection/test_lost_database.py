"""A collection after the database was lost, and while one is filled again."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from registry.images.records.blob_discovery import BlobDiscovery
from registry.images.registry import Registry
from registry.maintenance.rebuild import rebuild_registry
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown
from tests.support.collection import run, settle
from tests.support.payloads import image as image_of
from tests.support.registry_world import (
    ACTOR,
    NAME,
    World,
    make_image,
    pull,
    push_blob,
    push_image,
    push_manifest,
    read_index,
)

WINDOW = 1000.0


def rebuilt(world: World, tmp_path: Path, **policy: Any) -> Registry:
    """A process with a new database that has read all that storage has."""
    registry = world.registry(url=world.another(), undelete_window=WINDOW, **policy)
    assert rebuild_registry(registry).problems == []
    return registry


def test_the_trash_outlives_the_database_and_a_collection(world: World, registry: Registry, tmp_path: Path) -> None:
    """Check 17 of lifecycle.md, section 7."""
    image = push_image(registry, "gone", "gone")
    push_image(registry, "kept", "kept")
    registry.manifests.delete(NAME, image.digest, actor=ACTOR)
    registry.fold_waiting()
    read_index(registry)
    fresh = rebuilt(world, tmp_path, lease=0, grace=0)
    world.clock.now += 1
    settle(fresh, with_found=True)
    read_index(fresh)
    for blob in (image.config, image.layer):
        with pytest.raises(BlobUnknown):
            fresh.blobs.find(NAME, Digest.parse(blob.digest))
    fresh.restoration.last(NAME, actor=ACTOR)
    fresh.fold_waiting()
    assert pull(fresh, "gone") == image.digest
    read_index(fresh)


@pytest.mark.parametrize("kind", ["local"])
@pytest.mark.tools("skopeo")
def test_other_tools_see_a_whole_layout_at_each_step(world: World, registry: Registry, tmp_path: Path) -> None:
    """Check 17 of lifecycle.md, section 7, for a tool that reads the directory."""

    def copied() -> int:
        target = tmp_path / f"copy-{len(list(tmp_path.iterdir()))}"
        command = ["skopeo", "copy", "--insecure-policy", f"oci:{world.root / NAME}:kept", f"dir:{target}"]
        return subprocess.run(command, check=False, capture_output=True, timeout=60).returncode

    image = push_image(registry, "gone", "gone")
    push_image(registry, "kept", "kept")
    registry.fold_waiting()
    assert copied() == 0
    registry.manifests.delete(NAME, image.digest, actor=ACTOR)
    registry.fold_waiting()
    assert copied() == 0
    run(registry)
    world.clock.now += 101
    settle(registry)
    assert copied() == 0
    registry.restoration.last(NAME, actor=ACTOR)
    registry.fold_waiting()
    assert copied() == 0
    read_index(registry)


def test_a_collection_in_the_middle_of_a_reconciliation_takes_nothing(
    world: World, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check 20 of lifecycle.md, section 7: between the adoption of blobs and the rows of manifests."""
    images = [push_image(registry, text, text) for text in ("one", "two", "three")]
    registry.fold_waiting()
    url = world.another()
    fresh = world.registry(url=url, lease=0, grace=0)
    other = world.registry(url=url, lease=0, grace=0, undelete_window=0)
    adopt, collecting = BlobDiscovery._adopt, list[int]()

    def adopt_then_collect(discovery: BlobDiscovery, *given: Any, **more: Any) -> Any:
        adopted = adopt(discovery, *given, **more)
        monkeypatch.undo()
        for _ in range(3):
            world.clock.now += 1
            collecting.append(len(run(other, with_found=True).removed))
        return adopted

    monkeypatch.setattr(BlobDiscovery, "_adopt", adopt_then_collect)
    assert rebuild_registry(fresh).problems == []
    assert collecting == [0, 0, 0]
    for image, text in zip(images, ("one", "two", "three"), strict=True):
        assert pull(fresh, text) == image.digest


def test_what_a_repository_names_and_does_not_have_stays_unknown_to_it(
    world: World, registry: Registry, tmp_path: Path
) -> None:
    """Check 26 of lifecycle.md, section 7."""
    accepting = world.registry(accept_missing_blobs=True, lease=0, grace=0)
    secret = push_image(registry, "secret", "v1", name="private/app")
    evil = make_image("evil")
    layer = Digest.parse(secret.layer.digest)
    push_blob(accepting, evil.config.data, "evil/app")
    push_manifest(accepting, image_of(evil.config, [secret.layer]), "v1", name="evil/app")
    accepting.fold_waiting()
    fresh = rebuilt(world, tmp_path, accept_missing_blobs=True, lease=0, grace=0)
    world.clock.now += 1
    settle(fresh, with_found=True)
    for each in (accepting, fresh):
        with pytest.raises(BlobUnknown):
            each.blobs.find("evil/app", layer)
    pull(fresh, "v1", "private/app")
