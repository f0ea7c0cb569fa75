"""Indexes that clients kept referrers in, under the tag ``sha256-<hex>``: once they lose it, they protect nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.database import manifests, repositories
from registry.database import tags as tag_rows
from registry.images.registry import Registry
from registry.maintenance.rebuild import rebuild_registry
from registry.oci.digest import Digest
from registry.oci.errors import Unsupported
from tests.support.payloads import Manifest, index
from tests.support.registry_world import (
    ACTOR,
    NAME,
    World,
    is_there,
    make_image,
    push_blob,
    push_image,
    push_manifest,
    read_index,
    tags,
)


def attach(registry: Registry, subject: Manifest, *texts: str) -> list[Manifest]:
    """Push attachments, each with the fallback index that a client without the referrers API then writes."""
    attached: list[Manifest] = []
    for text in texts:
        made = make_image(text, subject=subject)
        for blob in (made.config, made.layer):
            push_blob(registry, blob.data)
        push_manifest(registry, made.manifest)
        attached.append(made.manifest)
        push_manifest(registry, index(attached), fallback(subject))
    return attached


def fallback(subject: Manifest) -> str:
    return subject.digest.replace(":", "-")


def delete(registry: Registry, manifest: Manifest) -> None:
    registry.manifests.delete(NAME, Digest.parse(manifest.digest), actor=ACTOR)


def test_an_attachment_that_only_former_ones_list_is_deleted_with_them(
    world: World, registry: Registry, tmp_path: Path
) -> None:
    subject = push_image(registry, "subject", "v1").manifest
    first, second = attach(registry, subject, "one", "two")
    former, current = index([first]), index([first, second])
    with pytest.raises(Unsupported, match=current.digest) as raised:
        delete(registry, first)
    assert former.digest not in str(raised.value)
    push_manifest(registry, left := index([second]), fallback(subject))
    delete(registry, first)
    registry.fold_waiting()
    for process in (registry, world.registry(), rebuilt(world, tmp_path)):
        assert [is_there(process, made) for made in (first, former, current)] == [False] * 3
        assert [is_there(process, made) for made in (second, left, subject)] == [True] * 3
        assert tags(process) == [fallback(subject), "v1"]
    assert Digest.parse(first.digest) not in read_index(registry).manifests()


def rebuilt(world: World, tmp_path: Path) -> Registry:
    registry = world.registry(url=f"sqlite:///{tmp_path / 'rebuilt.db'}")
    assert rebuild_registry(registry).problems == []
    return registry


def test_the_fallback_tag_may_be_deleted_instead(registry: Registry) -> None:
    subject = push_image(registry, "subject", "v1").manifest
    (attached,) = attach(registry, subject, "one")
    with pytest.raises(Unsupported):
        delete(registry, attached)
    registry.manifests.untag(NAME, fallback(subject), actor=ACTOR)
    delete(registry, attached)
    assert not is_there(registry, attached)


def test_an_index_of_platforms_that_was_tagged_by_a_hash_is_no_former_one(registry: Registry) -> None:
    """Only a list of the referrers of what the tag names is garbage once it has lost that tag."""
    subject = push_image(registry, "subject", "v1").manifest
    platform = push_image(registry, "platform").manifest
    (attached,) = attach(registry, subject, "one")
    for listed in ([platform], [platform, attached]):
        push_manifest(registry, by_hash := index(listed), fallback(platform))
        registry.manifests.untag(NAME, fallback(platform), actor=ACTOR)
        with pytest.raises(Unsupported, match=by_hash.digest):
            delete(registry, platform)
        assert is_there(registry, by_hash)


@pytest.mark.parametrize(
    "how", ["another tag", "tagged again", "tagged by another tool", "pushed again", "listed", "never a fallback"]
)
def test_an_index_that_is_more_than_a_former_one_protects(registry: Registry, how: str) -> None:
    subject = push_image(registry, "subject", "v1").manifest
    (attached,) = attach(registry, subject, "one")
    former = index([attached])
    if how == "another tag":
        push_manifest(registry, former, "kept")
    if how == "listed":
        push_manifest(registry, index([former]), "many")
    if how == "never a fallback":
        push_manifest(registry, former, "release-1")
        registry.manifests.untag(NAME, fallback(subject), actor=ACTOR)
        registry.manifests.untag(NAME, "release-1", actor=ACTOR)
    else:
        registry.manifests.untag(NAME, fallback(subject), actor=ACTOR)
    if how == "tagged again":
        push_manifest(registry, former, "kept")
    if how == "tagged by another tool":
        with registry.backends.database.transaction() as connection:
            repository = repositories.find(connection, NAME).get()
            assert repository is not None
            row = manifests.by_digest(connection, repository.id, former.digest).get()
            assert row is not None
            tag_rows.put(connection, repository.id, "theirs", row.blob_id, sequence=9, now=0.0)
    if how == "pushed again":
        push_manifest(registry, former)
    with pytest.raises(Unsupported, match=former.digest):
        delete(registry, attached)
    assert is_there(registry, attached)
    assert is_there(registry, former)
