"""A restore of many that is killed is ended by the same again: what it was asked for comes back last."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.images.registry import Registry
from registry.maintenance.rebuild import rebuild_registry
from registry.oci.change_reference import ChangeReference
from registry.oci.digest import Digest
from registry.oci.errors import ManifestUnknown
from registry.storage.errors import StorageUnavailable
from registry.storage.middleware.faults import Fault, FaultyDriver, When
from tests.images.trash.test_purge_again import ATTACHED, delete, is_killed, signed
from tests.images.trash.test_trash_emptying import members
from tests.support.registry_world import ACTOR, NAME, REPLICAS_KIND, World, open_world, pull, push_image, push_manifest

STEP = 3
"""One of so many commits is the last."""


@pytest.fixture(params=["local", "memory", REPLICAS_KIND])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    made = open_world(request, tmp_path, request.param)
    yield made
    made.close()


@pytest.mark.parametrize("form", ["last", "digest", "tag", "change"])
def test_killed_after_any_commit_the_same_again_brings_back_the_rest(world: World, form: str) -> None:
    """By a digest or a tag nothing more came back, since the manifest was there, and a tag became another one."""
    commits, at = STEP, 1
    while at <= commits:
        registry = world.registry()
        image, tag = signed(registry, f"image {at}", NAME), f"tag-{at}"
        push_manifest(registry, image.manifest, tag)
        number = registry.repositories.require(NAME).sequence
        everything = members(registry)
        delete(registry, image.digest)
        registry.fold_waiting()
        wanted = {
            "last": ChangeReference(NAME),
            "digest": ChangeReference(NAME, digest=image.digest),
            "tag": ChangeReference(NAME, tag),
            "change": ChangeReference(NAME, tag, number),
        }[form]

        def restore(process: Registry, _: Digest, wanted: ChangeReference = wanted) -> None:
            process.restoration.restore(wanted, actor=ACTOR)

        ended = is_killed(world, None if at == 1 else at, restore, image.digest)
        commits, at = ended or commits, at + STEP
        again = world.registry()
        again.fold_waiting()
        if not ended:
            with contextlib.suppress(ManifestUnknown):
                restore(again, image.digest)
        assert members(again) == everything, at
        assert pull(again, image.digest) == image.digest
        if form != "digest":
            assert pull(again, tag) == image.digest
        world.close()
    assert commits > 2 * STEP


@pytest.mark.parametrize("form", ["last", "digest", "tag"])
@pytest.mark.parametrize("number", [1, ATTACHED // 2, ATTACHED + 1])
def test_the_same_again_writes_each_record_that_storage_did_not_take(world: World, form: str, number: int) -> None:
    """By a digest it answered that all was there, and a lost database took it again."""
    registry = world.registry()
    image = signed(registry, "image", NAME)
    everything = members(registry)
    delete(registry, image.digest)
    registry.fold_waiting()
    wanted = {
        "last": ChangeReference(NAME),
        "digest": ChangeReference(NAME, digest=image.digest),
        "tag": ChangeReference(NAME, "v1"),
    }[form]
    faults = [Fault("[aw]*", "*/.journal/*", first=number, moment=When.BEFORE)]  # append or write
    with pytest.raises(StorageUnavailable):
        world.registry(driver=FaultyDriver(world.driver(), faults)).restoration.restore(wanted, actor=ACTOR)
    world.registry().restoration.restore(wanted, actor=ACTOR)
    fresh = world.registry(url=world.another())
    assert rebuild_registry(fresh).problems == []
    assert members(fresh) == everything


def test_a_push_of_what_was_deleted_before_is_no_restore_to_go_on_with(world: World) -> None:
    """What had gone with the pushed manifest came back, and what was deleted last did not."""
    registry = world.registry()
    former, last = signed(registry, "former", NAME), push_image(registry, "last", "v2")
    delete(registry, former.digest)
    registry.fold_waiting()
    delete(registry, last.digest)
    registry.fold_waiting()
    faults = [Fault("[aw]*", "*/.journal/*", first=1, moment=When.BEFORE)]  # append or write
    with pytest.raises(StorageUnavailable):
        push_image(world.registry(driver=FaultyDriver(world.driver(), faults)), "former")
    registry.restoration.last(NAME, actor=ACTOR)
    assert pull(registry, "v2") == last.digest
    with pytest.raises(ManifestUnknown):
        pull(registry, "v1")
