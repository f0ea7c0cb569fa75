"""A preview of a purge changes nothing, and the purge after it does exactly what it said."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from registry.images.registry import Registry
from registry.images.trash.purge_grounds import Purged
from registry.oci.digest import Digest
from registry.oci.errors import ManifestUnknown, Unsupported
from tests.images.trash.test_attachments import attach
from tests.images.trash.test_purge import CONFIG, LAYER, LEAKED, OTHER, leak, preview, purge
from tests.maintenance.usage.conftest import WORLDS
from tests.support.payloads import Blob, image, index
from tests.support.registry_world import ACTOR, NAME, World, push_blob, push_image, push_manifest, tags

TABLES = ("blob", "blob_location", "membership", "manifest", "tag", "trash_manifest", "trash_reference", "change")


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    kind, database = request.param
    url = request.getfixturevalue("new_database")() if database == "postgresql" else None
    made = World(tmp_path, kind, url)
    yield made
    made.close()


def state(world: World, registry: Registry) -> dict[str, Any]:
    """What storage and the database have."""
    from registry.database.statement import Statement

    with registry.backends.database.autocommit() as connection:
        rows = {
            table: sorted(map(repr, connection.execute(Statement(f"SELECT * FROM {table}"), {}).all()))  # noqa: S608
            for table in TABLES
        }
    return {**rows, "storage": dict(world.driver().list(""))}


def told(purged: Purged) -> dict[str, Any]:
    """All that it says, in one order."""
    return {
        name: sorted(map(repr, value)) if isinstance(value, list) else value for name, value in asdict(purged).items()
    }


def one(_world: World, registry: Registry) -> None:
    leak(registry, "v1", "latest")
    push_image(registry, "kept", "v2")


def trashed(_world: World, registry: Registry) -> None:
    registry.manifests.delete(NAME, leak(registry, "v1"), actor=ACTOR)


def trashed_and_pushed_again(world: World, registry: Registry) -> None:
    trashed(world, registry)
    registry.fold_waiting()
    leak(registry, "v2")


def signed(_world: World, registry: Registry) -> None:
    leak(registry, "v1")
    for number in range(20):
        attach(registry, LEAKED, f"signature {number}")


def shared_with_another_manifest(_world: World, registry: Registry) -> None:
    leak(registry, "v1")
    push_blob(registry, b"{}")
    push_manifest(registry, image(Blob(b"{}"), [LAYER]), "v2")


def shared_with_the_trash(world: World, registry: Registry) -> None:
    shared_with_another_manifest(world, registry)
    registry.manifests.delete(NAME, Digest.parse(image(Blob(b"{}"), [LAYER]).digest), actor=ACTOR)


def of_two_repositories(_world: World, registry: Registry) -> None:
    leak(registry, "v1")
    leak(registry, "v3", name=OTHER)


def of_the_trash_of_another(_world: World, registry: Registry) -> None:
    leak(registry, "v1")
    registry.manifests.delete(OTHER, leak(registry, "v3", name=OTHER), actor=ACTOR)


def listed_elsewhere(_world: World, registry: Registry) -> None:
    leak(registry, "v1")
    leak(registry, name=OTHER)
    push_manifest(registry, index([LEAKED]), "all", name=OTHER)


def with_a_backup(world: World, registry: Registry) -> None:
    of_two_repositories(world, registry)
    registry.fold_waiting()
    if world.kind == "local":
        path = world.root / NAME / "blobs/sha256" / Digest.parse(LAYER.digest).encoded
        os.link(path, world.root.parent / "backup")


@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize(
    "situation",
    [
        one,
        trashed,
        trashed_and_pushed_again,
        signed,
        shared_with_another_manifest,
        shared_with_the_trash,
        of_two_repositories,
        of_the_trash_of_another,
        listed_elsewhere,
        with_a_backup,
    ],
)
def test_a_purge_does_what_its_preview_said(
    world: World, registry: Registry, situation: Callable[[World, Registry], None], *, everywhere: bool
) -> None:
    situation(world, registry)
    registry.fold_waiting()
    before = state(world, registry)
    previewed = preview(registry, everywhere=everywhere)
    assert state(world, registry) == before
    done = purge(registry, everywhere=everywhere)
    assert told(done) == told(previewed)


def test_it_names_tags_repositories_and_copies(world: World, registry: Registry) -> None:
    of_two_repositories(world, registry)
    registry.fold_waiting()
    previewed = preview(registry, everywhere=True)
    assert previewed.repositories == [OTHER, NAME]
    assert sorted(previewed.tags) == [f"{OTHER}:v3", f"{NAME}:v1"]
    names = (NAME, OTHER) if world.kind == "local" else (NAME,)
    digests = (LEAKED.digest, CONFIG.digest, LAYER.digest)
    keys = {registry.backends.layout.blob(name, Digest.parse(each)) for name in names for each in digests}
    assert set(previewed.objects) == keys
    assert tags(registry) == ["v1"]


def test_what_a_purge_refuses_its_preview_refuses(registry: Registry) -> None:
    digest = leak(registry, "v1")
    push_manifest(registry, listing := index([LEAKED]), "all")
    with pytest.raises(Unsupported, match=digest):
        preview(registry, LAYER.digest)
    with pytest.raises(Unsupported, match=listing.digest):
        preview(registry, digest)
    with pytest.raises(ManifestUnknown):
        preview(registry, Digest.of(b"never pushed"))
