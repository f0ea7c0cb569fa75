"""A purge that is killed among the pages of what is attached is ended by the same again: nothing stays in the trash."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry.images.backends import Backends
from registry.images.registry import Registry
from registry.images.trash import manifest_deletion
from registry.images.trash.purge_grounds import Purged
from registry.maintenance.rebuild import rebuild_registry
from registry.oci.digest import Digest
from registry.oci.errors import ManifestUnknown, RegistryError
from tests.images.trash.test_purge import is_whole, preview, purge, stored_blobs
from tests.images.trash.test_trash_emptying import members, oldest
from tests.support.kills import Doom, DyingDatabase, Killed
from tests.support.registry_world import (
    ACTOR,
    NAME,
    REPLICAS_KIND,
    Pushed,
    World,
    open_world,
    push_image,
    push_manifest,
)

OTHER = "other/app"
ATTACHED = 8
Work = Callable[[Registry, Digest], object]
PAGES = 4
"""Transactions that delete an image with what is attached to it."""


@pytest.fixture(params=["local", "memory", REPLICAS_KIND])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    made = open_world(request, tmp_path, request.param)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_deletion, "AT_ONCE", 3)


def signed(registry: Registry, text: str, *names: str) -> Pushed:
    """An image with more signatures than one transaction deletes, one of them signed as well."""
    for name in names:
        image = push_image(registry, text, "v1", name=name)
        for number in range(ATTACHED - 1):
            made = push_image(registry, f"signature {number} of {text}", subject=image.manifest, name=name)
        push_image(registry, f"signature of a signature of {text}", subject=made.manifest, name=name)
    return image


def is_killed(world: World, at: int | None, work: Work, digest: Digest) -> int:
    """Do that in a process that dies after so many commits, long ago; 0 if it lives, or the number of its commits."""
    doom = Doom(at)
    database = DyingDatabase(world.url, doom, world.clocks())
    dying = Registry(Backends(world.driver(), database, world.policy, clock=database.clocks.wall))
    try:
        work(dying, digest)
    except Killed:
        return 0
    finally:
        dying.close()
        world.clock.now += world.policy.unclear + world.policy.claim + 60
    return doom.steps


def killed(world: World, *names: str, work: Work, ends: bool = True) -> Iterator[Pushed]:
    """An image after each kill, in the pages of what is attached and where manifests leave the trash at the end."""
    last = signed(world.registry(), "whole", *names)
    commits = is_killed(world, None, work, last.digest)
    assert commits >= PAGES
    check_nothing_left(world, world.registry(), *names) if ends else None
    leaving = range(commits - len(names) * (ATTACHED + 1), commits)
    for at in [*range(1, PAGES), *(leaving[:: len(names) ** 2] if ends else ())]:
        registry = world.registry()
        image = signed(registry, f"image {at}", *names)
        registry.fold_waiting()
        assert not is_killed(world, at, work, image.digest)
        yield image
        world.close()


def check_nothing_left(world: World, registry: Registry, *names: str) -> None:
    registry.blob_deletion.finish_abandoned()
    registry.fold_waiting()
    for name in names:
        assert oldest(registry, name) == []
        assert members(registry, name) == set()
    assert stored_blobs(world) == []


def purge_again(registry: Registry, digest: str, *, everywhere: bool = False) -> Purged | None:
    """The same again, which may have nothing to do."""
    with contextlib.suppress(ManifestUnknown):
        return purge(registry, digest, everywhere=everywhere)
    return None


@pytest.mark.parametrize("between", ["preview", "restore"])
def test_killed_the_same_again_purges_what_went_before(world: World, between: str) -> None:
    """What the first pages had put into the trash stayed there."""
    for image in killed(world, NAME, work=purge):
        again = world.registry()
        again.fold_waiting()
        previewed = None
        with contextlib.suppress(ManifestUnknown):
            if between == "restore":
                again.restoration.last(NAME, actor=ACTOR)
            else:
                previewed = preview(again, image.digest)
        done = purge_again(again, image.digest)
        assert done is None or is_whole(done)
        if previewed is not None:
            assert done is not None
            assert sorted(previewed.manifests) == sorted(done.manifests)
            assert sorted(previewed.tags) == sorted(done.tags)
        check_nothing_left(world, again, NAME)


def purge_everywhere(registry: Registry, digest: Digest) -> None:
    purge(registry, digest, everywhere=True)


def test_killed_the_same_again_purges_each_repository(world: World) -> None:
    for image in killed(world, NAME, OTHER, work=purge_everywhere):
        again = world.registry()
        again.fold_waiting()
        done = purge_again(again, image.digest, everywhere=True)
        assert done is None or is_whole(done)
        check_nothing_left(world, again, NAME, OTHER)


def test_two_purges_at_once_leave_nothing(world: World) -> None:
    for image in killed(world, NAME, OTHER, work=purge_everywhere, ends=False):
        processes = [world.registry(), world.registry()]
        barrier = threading.Barrier(len(processes))

        def begin(process: Registry, digest: str = image.digest, barrier: threading.Barrier = barrier) -> None:
            barrier.wait(60)
            with contextlib.suppress(RegistryError):
                purge(process, digest, everywhere=True)

        threads = [threading.Thread(target=begin, args=(process,)) for process in processes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        world.clock.now += world.policy.unclear + world.policy.claim + 60
        again = world.registry()
        again.fold_waiting()
        purge_again(again, image.digest, everywhere=True)
        check_nothing_left(world, again, NAME, OTHER)


def test_a_lost_database_forgets_no_deletion_that_has_begun(world: World) -> None:
    """The records of what went first say because of which manifest."""
    for image in killed(world, NAME, work=purge, ends=False):
        world.registry().fold_waiting()
        world.url = world.another()
        again = world.registry()
        assert rebuild_registry(again).problems == []
        assert is_whole(purge(again, image.digest))
        check_nothing_left(world, again, NAME)


def test_a_lost_database_takes_no_former_deletion_for_one_that_has_begun(world: World) -> None:
    """The image was pushed again after all of it was deleted: what is purged is what is there now."""
    registry = world.registry()
    image = signed(registry, "image", NAME)
    delete(registry, image.digest)
    push_manifest(registry, image.manifest, "v1")
    registry.fold_waiting()
    world.url = world.another()
    again = world.registry()
    assert rebuild_registry(again).problems == []
    assert purge(again, image.digest).manifests == [image.digest]
    assert len(oldest(again)) == ATTACHED


def delete(registry: Registry, digest: Digest) -> None:
    registry.manifests.delete(NAME, digest, actor=ACTOR)


def test_a_client_that_deletes_again_after_a_kill_deletes_one_batch(world: World) -> None:
    """A restore of the image left in the trash what the first pages had deleted."""
    for image in killed(world, NAME, work=delete, ends=False):
        again = world.registry()
        with contextlib.suppress(ManifestUnknown):
            delete(again, image.digest)
        again.fold_waiting()
        assert len(again.restoration.manifest(NAME, image.digest, actor=ACTOR)) == ATTACHED + 1
        purge(again, image.digest)
