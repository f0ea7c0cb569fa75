"""Mirrored repositories take manifests before what these name, and naming opens nothing there either (I12)."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.database.transaction import Transaction
from registry.images.registry import Registry
from registry.maintenance.rebuild import rebuild_registry
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown, ManifestBlobUnknown, ManifestUnknown
from tests.support.payloads import index
from tests.support.registry_world import (
    NAME,
    World,
    is_there,
    make_image,
    other,
    pull,
    pull_blob,
    push_blob,
    push_image,
    push_manifest,
    tags,
)

MIRRORED = "hub/library/app"


@pytest.fixture
def registry(world: World) -> Registry:
    return world.registry(mirrored=frozenset({"hub"}))


def test_a_manifest_comes_before_its_blobs_and_an_index_before_its_manifests(registry: Registry) -> None:
    made = make_image("a")
    several = index([made.manifest, make_image("b").manifest])
    push_manifest(registry, several, "v1", name=MIRRORED)
    push_manifest(registry, made.manifest, name=MIRRORED)
    assert registry.manifests.read(registry.manifests.find(MIRRORED, "v1")) == several.data
    assert is_there(registry, made.manifest, MIRRORED)
    for blob in (made.config, made.layer):
        push_blob(registry, blob.data, MIRRORED)
    assert pull(registry, made.manifest.digest, MIRRORED) == made.digest


@pytest.mark.parametrize("name", [NAME, "hub", "hubble/app", "team/hub/app"])
def test_repositories_that_are_not_mirrored_take_none_of_it(registry: Registry, name: str) -> None:
    with pytest.raises(ManifestBlobUnknown):
        push_manifest(registry, make_image("a").manifest, "v1", name=name)
    with pytest.raises(ManifestBlobUnknown):
        push_manifest(registry, index([make_image("a").manifest]), "v1", name=name)


def test_a_name_in_a_manifest_opens_neither_blobs_nor_manifests_of_another_repository(
    world: World, registry: Registry, tmp_path: Path
) -> None:
    private = push_image(registry, "private", "v1", name="team/secret")
    push_manifest(registry, private.manifest, "v1", name=MIRRORED)
    push_manifest(registry, index([private.manifest]), "v2", name="hub/library/other")
    rebuilt = world.registry(url=f"sqlite:///{tmp_path / 'rebuilt.db'}", mirrored=frozenset({"hub"}))
    registry.fold_waiting()
    assert rebuild_registry(rebuilt).problems == []
    for each in (registry, other(registry), rebuilt):
        for name in (MIRRORED, "hub/library/other"):
            for blob in (private.config, private.layer):
                with pytest.raises(BlobUnknown):
                    pull_blob(each, Digest.parse(blob.digest), name)
        with pytest.raises(ManifestUnknown):
            each.manifests.find("hub/library/other", private.digest)
        assert pull_blob(each, Digest.parse(private.layer.digest), "team/secret") == private.layer.data


def test_what_is_written_alongside_is_undone_with_a_put_that_it_refuses(registry: Registry) -> None:
    class Refused(Exception):
        pass

    def refuse(_connection: Transaction, repository: object) -> None:
        raise Refused(repository)

    first = push_image(registry, "first", "v1")
    second = make_image("second")
    for blob in (second.config, second.layer):
        push_blob(registry, blob.data)
    put, made = registry.manifests.put_mirrored, second.manifest
    with pytest.raises(Refused):
        put(NAME, made.data, made.media_type, digest=None, tags=["v1", "v2"], alongside=refuse)
    assert registry.manifests.find(NAME, "v1").digest == first.digest
    assert tags(registry) == ["v1"]
    with pytest.raises(ManifestUnknown):
        registry.manifests.find(NAME, second.digest)


def test_the_record_of_what_came_from_an_upstream_says_so(registry: Registry) -> None:
    made = push_image(registry, "first").manifest
    registry.manifests.put_mirrored(NAME, made.data, made.media_type, digest=None, tags=["v1"])
    registry.fold_waiting()
    records = list(registry.folding._journal.history(NAME, 0, 100))
    assert [(record.actor, record.cause) for record in records] == [("tester", None), ("mirror", "mirror")]
