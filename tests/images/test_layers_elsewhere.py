"""Layers that clients may fetch from elsewhere: they need not be pushed, and where they were they are kept (I13)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from registry.images.registry import Registry
from registry.maintenance.rebuild import rebuild_core
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown, Unsupported
from tests.images.world import ACTOR, NAME, World, pull_blob, push_blob, push_manifest
from tests.support.payloads import LAYER, Blob, Manifest, image

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


def push(core: Registry, made: Manifest, *blobs: Blob) -> Digest:
    for blob in (CONFIG, *blobs):
        push_blob(core, blob.data)
    return push_manifest(core, made, "v1")


def test_they_need_not_be_pushed(core: Registry, made: Manifest) -> None:
    digest = push(core, made)
    assert core.manifests.find(NAME, "v1").digest == digest
    with pytest.raises(BlobUnknown):
        core.blobs.find(NAME, DIGEST)


@pytest.mark.parametrize("folded", [True, False])
def test_those_that_were_pushed_survive_a_lost_database(
    world: World, core: Registry, made: Manifest, tmp_path: Path, folded: bool
) -> None:
    push(core, made, ELSEWHERE)
    if folded:
        core.fold_waiting()
    touching = world.core(url=f"sqlite:///{tmp_path / 'touched.db'}")
    assert pull_blob(touching, DIGEST) == ELSEWHERE.data
    rebuilding = world.core(url=f"sqlite:///{tmp_path / 'rebuilt.db'}")
    assert rebuild_core(rebuilding).problems == []
    assert pull_blob(rebuilding, DIGEST) == ELSEWHERE.data


def test_those_that_were_pushed_are_not_deleted_under_their_manifest(core: Registry, made: Manifest) -> None:
    digest = push(core, made, ELSEWHERE)
    with pytest.raises(Unsupported, match=digest):
        core.blobs.delete(NAME, DIGEST)
    assert pull_blob(core, DIGEST) == ELSEWHERE.data
    core.manifests.delete(NAME, digest, actor=ACTOR)
    core.blobs.delete(NAME, DIGEST)
    with pytest.raises(BlobUnknown):
        core.blobs.find(NAME, DIGEST)


def test_those_that_come_after_their_manifest_are_kept_too(core: Registry, made: Manifest) -> None:
    push(core, made)
    push_blob(core, ELSEWHERE.data)
    with pytest.raises(Unsupported):
        core.blobs.delete(NAME, DIGEST)
