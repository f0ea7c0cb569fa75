"""The figures of a repository are what storage has, to the byte: members, trash, what is shared and what is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from registry.database import blobs, memberships, repositories
from registry.database.statement import Statement
from registry.database.transaction import Transaction
from registry.images.registry import Registry
from registry.images.trash.trash_expiry import TrashExpiry
from registry.maintenance.usage.figures import Figures
from registry.maintenance.usage.repository_usage import RepositoryUsage
from registry.oci.digest import Digest
from tests.maintenance.usage.listings import freed_by, on_storage
from tests.support.payloads import Blob, image, index
from tests.support.registry_world import ACTOR, NAME, Pushed, World, make_image, push_blob, push_image, push_manifest

OTHER = "other/app"


def figures(registry: Registry, name: str = NAME) -> Figures:
    found = RepositoryUsage(registry.backends).known(name)
    assert found is not None
    return found


def size_of(made: Pushed) -> int:
    return sum(len(each.data) for each in (made.manifest, made.config, made.layer))


def test_a_repository_without_anything_takes_nothing(registry: Registry) -> None:
    registry.repositories.ensure(NAME)
    assert figures(registry) == Figures()
    assert figures(registry).dedupe is None
    assert RepositoryUsage(registry.backends).known(OTHER) is None


def test_an_image_of_its_own_is_stored_once_and_frees_all(world: World, registry: Registry) -> None:
    size = size_of(push_image(registry, "one", "v1", "v2"))
    registry.fold_waiting()
    assert figures(registry) == Figures(logical=size, stored=size, own=size, frees=size)
    assert on_storage(world) == size


def test_what_manifests_share_counts_for_each_and_is_stored_once(world: World, registry: Registry) -> None:
    first = push_image(registry, "one", "v1")
    second = push_image(registry, "one", "v2", annotations={"another": "manifest"})
    push_manifest(registry, listed := index([first.manifest, second.manifest]), "both")
    registry.fold_waiting()
    found = figures(registry)
    stored = size_of(first) + len(second.manifest.data) + len(listed.data)
    assert found.logical == size_of(first) + size_of(second) + len(listed.data)
    assert (found.stored, found.own, found.frees) == (stored,) * 3
    assert stored == on_storage(world)
    assert found.dedupe == round(found.logical / stored, 3)


def test_what_another_repository_has_is_not_its_own_and_frees_nothing(world: World, registry: Registry) -> None:
    shared = push_image(registry, "one", "v1")
    push_image(registry, "one", "v1", name=OTHER)
    mine = push_image(registry, "two", "v2")
    registry.fold_waiting()
    found = figures(registry)
    assert found.stored == size_of(shared) + size_of(mine) == on_storage(world)
    assert found.own == found.frees == size_of(mine)
    other = figures(registry, OTHER)
    assert (other.stored, other.own, other.frees) == (size_of(shared), 0, 0)
    if world.kind == "local":
        assert freed_by(world, NAME) == found.frees
        assert freed_by(world, OTHER) == 0


def test_what_no_manifest_names_waits(world: World, registry: Registry) -> None:
    push_blob(registry, b"unnamed")
    made = push_image(registry, "one", "v1")
    found = figures(registry)
    assert (found.unreferenced, found.doomed, found.trash) == (7, 0, 0)
    assert found.stored == 7 + size_of(made) == on_storage(world)
    with registry.backends.database.transaction() as connection:
        row = repositories.find(connection, NAME).get()
        assert row is not None
        doom(connection, row.id, Digest.of(b"unnamed"))
    found = figures(registry)
    assert (found.unreferenced, found.doomed, found.trash) == (0, 7, 0)


def test_what_is_deleted_is_in_the_trash_until_it_expires(world: World, registry: Registry) -> None:
    made = push_image(registry, "one", "v1")
    push_image(registry, "one", "v1", name=OTHER)
    registry.manifests.delete(NAME, made.digest, actor=ACTOR)
    for _ in range(2):
        found = figures(registry)
        assert (found.logical, found.stored, found.trash) == (0, size_of(made), size_of(made))
        assert (found.unreferenced, found.doomed, found.frees) == (0, 0, 0)
        assert figures(registry, OTHER).frees == 0, "the trash of the other one needs all of it"
        assert on_storage(world) == size_of(made)
        registry.fold_waiting()
    world.clock.now += registry.backends.policy.undelete_window + 1
    TrashExpiry(registry.backends).run()
    found = figures(registry)
    left = len(made.config.data) + len(made.layer.data)
    assert (found.stored, found.unreferenced, found.trash) == (left, left, 0)


def test_the_trash_of_one_that_has_no_member_left_is_counted(world: World, registry: Registry) -> None:
    made = push_image(registry, "one", "v1")
    second = push_image(registry, "two", "v2")
    for each in (made, second):
        registry.manifests.delete(NAME, each.digest, actor=ACTOR)
    registry.fold_waiting()
    repository = registry.repositories.require(NAME)
    for blob in (made.config, made.layer):
        registry.folding._trash_files.keep(repository, Digest.parse(blob.digest))
        end_membership(registry, repository.id, blob.digest)
        registry.blob_deletion.delete_unheld(repository, Digest.parse(blob.digest))
    found, size = figures(registry), size_of(made) + size_of(second)
    assert (found.stored, found.trash, found.frees) == (size,) * 3
    assert found.own == len(second.config.data) + len(second.layer.data)
    assert on_storage(world) == size


@pytest.mark.parametrize("page", [1, 2, 500])
def test_pages_do_not_change_what_is_found(
    world: World, registry: Registry, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr("registry.database.usage.blobs.PAGE", page)
    base = Blob(b"base layer")
    push_blob(registry, base.data)
    size = len(base.data)
    for number in range(5):
        made = make_image(f"{number}")
        manifest = image(made.config, [base, made.layer])
        for blob in (made.config, made.layer):
            push_blob(registry, blob.data)
        push_manifest(registry, manifest, f"v{number}")
        size += len(manifest.data) + len(made.config.data) + len(made.layer.data)
        if number % 2:
            registry.manifests.delete(NAME, Digest.parse(manifest.digest), actor=ACTOR)
    registry.fold_waiting()
    found = figures(registry)
    assert found.stored == found.frees == size == on_storage(world)
    assert found.logical == size - found.trash + 2 * len(base.data)


@pytest.mark.parametrize("kind", ["local"])
def test_a_backup_with_hard_links_keeps_what_would_be_freed(kind: str, tmp_path: Path) -> None:
    """Check 18, the part of usage: in two repositories and in a backup, then in one repository and no backup."""
    world = World(tmp_path, kind)
    registry = world.registry()
    made = push_image(registry, "one", "v1")
    push_image(registry, "one", "v1", name=OTHER)
    registry.fold_waiting()
    backup = tmp_path / "backup"
    for path in world.root.rglob("blobs/sha256/*"):
        (target := backup / path.relative_to(world.root)).parent.mkdir(parents=True, exist_ok=True)
        os.link(path, target)
    registry.manifests.delete(OTHER, made.digest, actor=ACTOR)
    assert figures(registry).frees == freed_by(world, NAME) == 0
    for path in [*backup.rglob("blobs/sha256/*")]:
        path.unlink()
    assert figures(registry).frees == 0
    (world.root / OTHER / "blobs").rename(tmp_path / "gone")
    for path in [*(tmp_path / "gone").rglob("*")]:
        if path.is_file():
            path.unlink()
    assert figures(registry).frees == size_of(made)
    world.close()


@pytest.mark.parametrize("kind", ["local"])
def test_copies_of_repositories_that_share_nothing_are_each_freed(kind: str, tmp_path: Path) -> None:
    world = World(tmp_path, kind)
    registry = world.registry(dedupe=False)
    made = push_image(registry, "one", "v1")
    push_image(registry, "one", "v1", name=OTHER)
    registry.fold_waiting()
    found = figures(registry)
    assert (found.stored, found.own, found.frees) == (size_of(made), 0, size_of(made))
    assert found.frees == freed_by(world, NAME)
    world.close()


def doom(connection: Transaction, repository_id: int, digest: str) -> None:
    """As a run of the collection writes it down."""
    statement = Statement(
        "INSERT INTO doomed (repository_id, blob_id, since) SELECT :repository, b.id, 1.0 FROM blob b"
        " WHERE b.digest = :digest"
    )
    connection.execute(statement, {"repository": repository_id, "digest": str(digest)})


def end_membership(registry: Registry, repository_id: int, digest: str) -> None:
    """As a run of the collection ends it."""
    with registry.backends.database.transaction() as connection:
        row = blobs.find(connection, digest).get()
        assert row is not None
        memberships.remove(connection, repository_id, row.id)
