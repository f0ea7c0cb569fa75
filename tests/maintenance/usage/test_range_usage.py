"""The figures of several repositories together are what storage has of them, to the byte."""

from __future__ import annotations

import os

import pytest

from registry.images.registry import Registry
from registry.maintenance.usage.figures import Figures
from registry.maintenance.usage.range_usage import ALL, RangeUsage, below
from registry.maintenance.usage.repository_usage import RepositoryUsage
from registry.oci.digest import Digest
from tests.maintenance.usage.conftest import WORLDS
from tests.maintenance.usage.listings import freed_by, on_storage
from tests.maintenance.usage.test_repository_usage import doom, end_membership, size_of
from tests.support.registry_world import ACTOR, World, push_blob, push_image

NAMES = ["other/app", "team/app", "team/lib", "team0/app"]


def measure(registry: Registry, prefix: str | None = None) -> Figures:
    return RangeUsage(registry.backends).measure(ALL if prefix is None else below(prefix))


def test_the_names_of_a_range_are_those_below_its_prefix(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.maintenance.usage.range_usage.NAMES", 2)
    for name in [*NAMES, "team", "te/am"]:
        registry.repositories.ensure(name)
    usage = RangeUsage(registry.backends)
    assert list(usage.names(below("team"))) == ["team/app", "team/lib"]
    assert list(usage.names(below("team"), "team/app")) == ["team/lib"]
    assert list(usage.names(ALL)) == ["other/app", "te/am", "team", "team/app", "team/lib", "team0/app"]
    assert list(usage.names(below("nothing"))) == []


@pytest.mark.parametrize("page", [1, 3, 500])
def test_what_repositories_share_is_counted_once(
    world: World, registry: Registry, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr("registry.database.usage.blobs.PAGE", page)
    sizes = {}
    for name in NAMES:
        shared = push_image(registry, "shared", "v1", name=name)
        sizes[name] = size_of(push_image(registry, name, "v2", name=name))
    common = size_of(push_image(registry, "of the team", "v3", name="team/app"))
    push_image(registry, "of the team", "v3", name="team/lib")
    registry.fold_waiting()
    everything, team = measure(registry), measure(registry, "team")
    assert everything.stored == everything.own == everything.frees == on_storage(world)
    assert everything.stored == size_of(shared) + sum(sizes.values()) + common
    assert everything.logical == 4 * size_of(shared) + sum(sizes.values()) + 2 * common
    assert team.stored == size_of(shared) + sizes["team/app"] + sizes["team/lib"] + common
    assert team.own == team.frees == team.stored - size_of(shared)
    assert team.logical == 2 * size_of(shared) + sizes["team/app"] + sizes["team/lib"] + 2 * common
    assert measure(registry, "nothing") == Figures()
    if world.kind == "local":
        assert team.stored == on_storage(world, "team/app", "team/lib")
        assert team.frees == freed_by(world, "team/app", "team/lib")


def test_what_waits_is_told_apart(world: World, registry: Registry) -> None:
    push_blob(registry, b"unnamed", "team/app")
    push_blob(registry, b"unnamed", "team/lib")
    push_blob(registry, b"doomed", "team/lib")
    push_blob(registry, b"of no repository", "team/lib")
    push_blob(registry, b"named in one alone", "team/app")
    deleted = push_image(registry, "deleted", "v1", name="team/app")
    registry.manifests.delete("team/app", deleted.digest, actor=ACTOR)
    registry.fold_waiting()
    row = registry.repositories.require("team/lib")
    end_membership(registry, row.id, Digest.of(b"of no repository"))
    with registry.backends.database.transaction() as connection:
        doom(connection, row.id, Digest.of(b"doomed"))
        doom(connection, 0, Digest.of(b"of no repository"))
    everything, team = measure(registry), measure(registry, "team")
    assert everything.trash == team.trash == size_of(deleted)
    assert team.doomed == len(b"doomed")
    assert everything.doomed == len(b"doomed") + len(b"of no repository")
    assert everything.unreferenced == team.unreferenced == len(b"unnamed") + len(b"named in one alone")
    assert everything.stored == on_storage(world)


def test_without_asking_what_would_go_all_else_is_the_same(registry: Registry) -> None:
    push_image(registry, "one", "v1", name="team/app")
    push_image(registry, "one", "v1", name="team/lib")
    whole = measure(registry)
    found = RangeUsage(registry.backends, counts_freed=False).measure(ALL)
    assert whole.frees > found.frees == 0
    found.frees = whole.frees
    assert found == whole


def test_every_repository_and_all_together_agree_with_a_story(world: World, registry: Registry) -> None:
    """Images that share layers come, are deleted and come again in several repositories."""
    for number in range(12):
        name = NAMES[number % 3]
        made = push_image(registry, f"{number % 5}", f"v{number}", name=name, annotations={"n": f"{number % 7}"})
        if number % 4 == 3:
            registry.manifests.delete(name, made.digest, actor=ACTOR)
        if number % 3 == 0:
            registry.fold_waiting()
    registry.fold_waiting()
    everything, alone = measure(registry), RepositoryUsage(registry.backends)
    assert everything.stored == on_storage(world)
    assert everything.frees == everything.stored
    for name in NAMES[:3]:
        found = alone.known(name)
        assert found is not None
        if world.kind == "local":
            assert found.stored == on_storage(world, name)
            assert found.frees == freed_by(world, name)
        assert found.frees <= found.stored


@pytest.mark.parametrize("world", WORLDS[:1], indirect=True)
def test_a_backup_keeps_what_a_range_would_free(world: World, registry: Registry) -> None:
    """Check 18, the part of usage."""
    made = push_image(registry, "one", "v1", name="team/app")
    registry.fold_waiting()
    assert measure(registry).frees == size_of(made)
    path = world.root / "team/app/blobs/sha256" / made.digest.encoded
    os.link(path, world.root.parent / "backup")
    assert measure(registry).frees == size_of(made) - len(made.manifest.data)
