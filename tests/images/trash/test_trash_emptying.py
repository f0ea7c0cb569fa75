"""The trash is emptied before its time: what nothing needs goes at once, what a push may be about to name stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.database import memberships, repositories
from registry.database.collection import emptying
from registry.database.collection.trash import ExpiredRow
from registry.images.registry import Registry
from registry.images.trash.trash_emptying import Emptied, TrashEmptying
from registry.oci.digest import Digest
from registry.oci.errors import ManifestUnknown
from tests.database.collection.test_emptying import group_of
from tests.images.trash.test_trash_expiry import trash_files
from tests.support.collecting import end_leases
from tests.support.payloads import image
from tests.support.registry_world import (
    ACTOR,
    NAME,
    Pushed,
    World,
    make_image,
    pull,
    push_blob,
    push_image,
    push_manifest,
)

OTHER = "other/app"


def oldest(registry: Registry, name: str = NAME) -> list[ExpiredRow]:
    with registry.backends.database.autocommit() as connection:
        return emptying.oldest(connection, group_of(name), count=10).get()


def empty(registry: Registry, name: str = NAME) -> list[Emptied]:
    work = TrashEmptying(registry.backends, registry.write_gate)
    rows, gone = oldest(registry, name), set[tuple[int, str]]()
    previews = [work.preview(row, gone) for row in rows]
    done = [work.remove(row) for row in rows]
    assert [each._replace(files=()) for each in previews] == done, "a preview says what is done"
    return done


def members(registry: Registry, name: str = NAME) -> set[str]:
    with registry.backends.database.autocommit() as connection:
        row = repositories.find(connection, name).get()
        assert row is not None
        return {member.digest for member in memberships.of_repository(connection, row.id).get()}


def delete(registry: Registry, made: Pushed, name: str = NAME) -> None:
    registry.manifests.delete(name, made.digest, actor=ACTOR)
    registry.fold_waiting()


def files(world: World) -> set[str]:
    """The names of blobs on the disk."""
    return {path.name for path in world.root.rglob("*") if path.is_file() and "/blobs/" in str(path)}


@pytest.fixture
def registry(world: World) -> Iterator[Registry]:
    made = world.registry()
    yield made
    assert trash_files(made) == set() or oldest(made), "no file is left that no row names"


def test_what_nothing_needs_goes_at_once(world: World, registry: Registry) -> None:
    made = push_image(registry, "one", "v1")
    kept = push_image(registry, "two", "v2")
    delete(registry, made)
    end_leases(registry)
    [emptied] = empty(registry)
    gone = {made.manifest.digest, made.config.digest, made.layer.digest}
    assert set(emptied.digests) == gone
    size = sum(len(each.data) for each in (made.manifest, made.config, made.layer))
    assert (emptied.bytes, emptied.leased) == (size, 0)
    assert members(registry) == {kept.manifest.digest, kept.config.digest, kept.layer.digest}
    if world.kind == "local":
        assert files(world) == {Digest.parse(each).encoded for each in members(registry)}
    with pytest.raises(ManifestUnknown):
        registry.restoration.manifest(NAME, made.digest, actor=ACTOR)
    assert pull(registry, "v2") == kept.digest
    push_image(registry, "one", "v1")
    assert pull(registry, "v1") == made.digest


def test_what_a_push_may_be_about_to_name_stays(registry: Registry) -> None:
    made = push_image(registry, "one", "v1")
    delete(registry, made)
    [emptied] = empty(registry)
    leased = len(made.config.data) + len(made.layer.data)
    assert emptied == Emptied((made.manifest.digest,), len(made.manifest.data), leased)
    push_manifest(registry, made.manifest, "v1")
    assert pull(registry, "v1") == made.digest


def test_what_another_manifest_of_the_trash_or_of_the_repository_names_stays(registry: Registry) -> None:
    first, second, third = (make_image(text) for text in ("one", "two", "three"))
    layers = [first.layer, third.layer]
    manifests = [image(made.config, layers[:count]) for made, count in ((first, 2), (second, 1), (third, 2))]
    for blob in (first.config, second.config, third.config, first.layer, third.layer):
        push_blob(registry, blob.data)
    for number, manifest in enumerate(manifests):
        push_manifest(registry, manifest, f"v{number}")
    for manifest in manifests[:2]:
        registry.manifests.delete(NAME, Digest.parse(manifest.digest), actor=ACTOR)
    registry.fold_waiting()
    end_leases(registry)
    rows = oldest(registry)
    assert [row.digest for row in rows] == [manifest.digest for manifest in manifests[:2]]
    work = TrashEmptying(registry.backends, registry.write_gate)
    assert set(work.remove(rows[0]).digests) == {manifests[0].digest, first.config.digest}
    registry.restoration.manifest(NAME, Digest.parse(manifests[1].digest), actor=ACTOR)
    assert pull(registry, manifests[1].digest)
    assert pull(registry, "v2")
    assert work.remove(rows[1]).bytes == 0, "it was restored"
    assert pull(registry, manifests[1].digest)
    assert [work.remove(row) for row in rows] == [Emptied(gone=True)] * 2


def test_other_repositories_keep_what_they_have(registry: Registry) -> None:
    made = push_image(registry, "one", "v1")
    push_image(registry, "one", "v1", name=OTHER)
    delete(registry, made)
    end_leases(registry)
    assert empty(registry)[0].bytes
    assert pull(registry, "v1", OTHER) == made.digest


@pytest.mark.parametrize("ends", [False, True])
def test_a_repository_with_a_push_that_takes_long_keeps_its_members(
    world: World, registry: Registry, *, ends: bool
) -> None:
    made = push_image(registry, "one", "v1")
    delete(registry, made)
    session = registry.uploads.start(NAME)
    with registry.uploads.open(NAME, session, 0) as writer:
        writer.write(b"some")
        writer.commit()
    world.clock.now += registry.backends.policy.lease * 0.6
    with registry.uploads.open(NAME, session, 4) as writer:
        writer.write(b"more")
        if ends:
            registry.uploads.finish(writer, Digest.of(b"somemore"))
        else:
            writer.commit()
    end_leases(registry)
    assert empty(registry)[0].digests == (made.manifest.digest,)
    push_manifest(registry, made.manifest, "v1")
    assert pull(registry, "v1") == made.digest


def test_an_upload_that_is_young_keeps_nothing(registry: Registry) -> None:
    made = push_image(registry, "one", "v1")
    delete(registry, made)
    end_leases(registry)
    registry.uploads.start(NAME)
    assert len(empty(registry)[0].digests) == 3


@pytest.mark.parametrize("kind", ["local"])
def test_a_fold_that_comes_after_it_leaves_no_file(kind: str, tmp_path: Path) -> None:
    world = World(tmp_path, kind)
    registry = world.registry()
    made = push_image(registry, "one", "v1")
    registry.fold_waiting()
    registry.manifests.delete(NAME, made.digest, actor=ACTOR)
    end_leases(registry)
    driver = registry.backends.driver
    link, rows = driver.link, oldest(registry)

    def meanwhile(source: str, target: str) -> object:
        TrashEmptying(registry.backends, registry.write_gate).remove(rows[0])
        return link(source, target)

    driver.link = meanwhile  # type: ignore[method-assign,assignment]
    registry.fold_waiting()
    assert not oldest(registry)
    assert files(world) == set()
    world.close()
