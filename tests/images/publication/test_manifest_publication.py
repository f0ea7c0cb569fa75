"""Layers that clients may fetch from elsewhere: they need not be pushed, and where they were they are kept (I13)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from registry.images.registry import Registry
from registry.maintenance.rebuild import rebuild_registry
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown, Unsupported
from tests.support.payloads import LAYER, Blob, Manifest, image
from tests.support.registry_world import ACTOR, NAME, World, pull_blob, push_blob, push_manifest

CONFIG, ELSEWHERE = Blob(b"config"), Blob(b"a layer of the base of an operating system")
DIGEST = Digest.parse(ELSEWHERE.digest)
URLS = {"urls": ["https://layers.example.org/base"]}
WAYS: dict[str, dict[str, Any]] = {
    "foreign": ELSEWHERE.descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
    "non-distributable": ELSEWHERE.descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"),
    "urls": ELSEWHERE.descriptor(LAYER) | URLS,
}


@pytest.fixture(params=WAYS)
def made(request: pytest.FixtureRequest) -> Manifest:
    return image(CONFIG, [], elsewhere=[WAYS[request.param]])


def push(registry: Registry, made: Manifest, *blobs: Blob) -> Digest:
    for blob in (CONFIG, *blobs):
        push_blob(registry, blob.data)
    return push_manifest(registry, made, "v1")


def test_they_need_not_be_pushed(registry: Registry, made: Manifest) -> None:
    digest = push(registry, made)
    assert registry.manifests.find(NAME, "v1").digest == digest
    with pytest.raises(BlobUnknown):
        registry.blobs.find(NAME, DIGEST)


@pytest.mark.parametrize("folded", [True, False])
def test_those_that_were_pushed_survive_a_lost_database(
    world: World, registry: Registry, made: Manifest, tmp_path: Path, folded: bool
) -> None:
    push(registry, made, ELSEWHERE)
    if folded:
        registry.fold_waiting()
    touching = world.registry(url=f"sqlite:///{tmp_path / 'touched.db'}")
    assert pull_blob(touching, DIGEST) == ELSEWHERE.data
    rebuilding = world.registry(url=f"sqlite:///{tmp_path / 'rebuilt.db'}")
    assert rebuild_registry(rebuilding).problems == []
    assert pull_blob(rebuilding, DIGEST) == ELSEWHERE.data


def test_those_that_were_pushed_are_not_deleted_under_their_manifest(registry: Registry, made: Manifest) -> None:
    digest = push(registry, made, ELSEWHERE)
    with pytest.raises(Unsupported, match=digest):
        registry.blobs.delete(NAME, DIGEST)
    assert pull_blob(registry, DIGEST) == ELSEWHERE.data
    registry.manifests.delete(NAME, digest, actor=ACTOR)
    registry.blobs.delete(NAME, DIGEST)
    with pytest.raises(BlobUnknown):
        registry.blobs.find(NAME, DIGEST)


def test_those_that_come_after_their_manifest_are_kept_too(registry: Registry, made: Manifest) -> None:
    push(registry, made)
    push_blob(registry, ELSEWHERE.data)
    with pytest.raises(Unsupported):
        registry.blobs.delete(NAME, DIGEST)
