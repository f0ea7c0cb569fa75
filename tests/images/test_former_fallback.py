"""Indexes that clients kept referrers in, under the tag ``sha256-<hex>``: once they lose it, they protect nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.database import manifests as manifest_rows
from registry.database import repositories as repository_rows
from registry.images.registry import Registry
from registry.maintenance.rebuild import rebuild_core
from registry.oci.digest import Digest
from registry.oci.errors import ManifestUnknown, Unsupported
from tests.images.world import ACTOR, NAME, World, make_image, push_blob, push_image, push_manifest, read_index, tags
from tests.support.payloads import Manifest, index


def attach(core: Registry, subject: Manifest, *texts: str) -> list[Manifest]:
    """Push attachments, each with the fallback index that a client without the referrers API then writes."""
    attached: list[Manifest] = []
    for text in texts:
        made = make_image(text, subject=subject)
        for blob in (made.config, made.layer):
            push_blob(core, blob.data)
        push_manifest(core, made.manifest)
        attached.append(made.manifest)
        push_manifest(core, index(attached), fallback(subject))
    return attached


def fallback(subject: Manifest) -> str:
    return subject.digest.replace(":", "-")


def delete(core: Registry, manifest: Manifest) -> None:
    core.manifests.delete(NAME, Digest.parse(manifest.digest), actor=ACTOR)


def is_there(core: Registry, manifest: Manifest) -> bool:
    try:
        return bool(core.manifests.find(NAME, Digest.parse(manifest.digest)))
    except ManifestUnknown:
        return False


def test_an_attachment_that_only_former_ones_list_is_deleted_with_them(
    world: World, core: Registry, tmp_path: Path
) -> None:
    subject = push_image(core, "subject", "v1").manifest
    first, second = attach(core, subject, "one", "two")
    former, current = index([first]), index([first, second])
    with pytest.raises(Unsupported, match=current.digest) as raised:
        delete(core, first)
    assert former.digest not in str(raised.value)
    push_manifest(core, left := index([second]), fallback(subject))
    delete(core, first)
    core.fold_waiting()
    for process in (core, world.core(), rebuilt(world, tmp_path)):
        assert [is_there(process, made) for made in (first, former, current)] == [False] * 3
        assert [is_there(process, made) for made in (second, left, subject)] == [True] * 3
        assert tags(process) == [fallback(subject), "v1"]
    assert Digest.parse(first.digest) not in read_index(core).manifests()


def rebuilt(world: World, tmp_path: Path) -> Registry:
    core = world.core(url=f"sqlite:///{tmp_path / 'rebuilt.db'}")
    assert rebuild_core(core).problems == []
    return core


def test_the_fallback_tag_may_be_deleted_instead(core: Registry) -> None:
    subject = push_image(core, "subject", "v1").manifest
    (attached,) = attach(core, subject, "one")
    with pytest.raises(Unsupported):
        delete(core, attached)
    core.manifests.untag(NAME, fallback(subject), actor=ACTOR)
    delete(core, attached)
    assert not is_there(core, attached)


def test_an_index_of_platforms_that_was_tagged_by_a_hash_is_no_former_one(core: Registry) -> None:
    """Only a list of the referrers of what the tag names is garbage once it has lost that tag."""
    subject = push_image(core, "subject", "v1").manifest
    platform = push_image(core, "platform").manifest
    (attached,) = attach(core, subject, "one")
    for listed in ([platform], [platform, attached]):
        push_manifest(core, by_hash := index(listed), fallback(platform))
        core.manifests.untag(NAME, fallback(platform), actor=ACTOR)
        with pytest.raises(Unsupported, match=by_hash.digest):
            delete(core, platform)
        assert is_there(core, by_hash)


@pytest.mark.parametrize(
    "how", ["another tag", "tagged again", "tagged by another tool", "pushed again", "listed", "never a fallback"]
)
def test_an_index_that_is_more_than_a_former_one_protects(core: Registry, how: str) -> None:
    subject = push_image(core, "subject", "v1").manifest
    (attached,) = attach(core, subject, "one")
    former = index([attached])
    if how == "another tag":
        push_manifest(core, former, "kept")
    if how == "listed":
        push_manifest(core, index([former]), "many")
    if how == "never a fallback":
        push_manifest(core, former, "release-1")
        core.manifests.untag(NAME, fallback(subject), actor=ACTOR)
        core.manifests.untag(NAME, "release-1", actor=ACTOR)
    else:
        core.manifests.untag(NAME, fallback(subject), actor=ACTOR)
    if how == "tagged again":
        push_manifest(core, former, "kept")
    if how == "tagged by another tool":
        with core.stores.database.write() as connection:
            repository = repository_rows.find(connection, NAME)
            assert repository is not None
            row = manifest_rows.by_digest(connection, repository.id, former.digest)
            assert row is not None
            manifest_rows.put_tag(connection, repository.id, "theirs", row.blob_id, sequence=9, now=0.0)
    if how == "pushed again":
        push_manifest(core, former)
    with pytest.raises(Unsupported, match=former.digest):
        delete(core, attached)
    assert is_there(core, attached)
    assert is_there(core, former)
