"""Files that a killed process left in the directory of a repository which does not have them any more."""

from __future__ import annotations

import pytest

from registry.images.blob_deletion import BlobDeletion
from registry.images.registry import Registry
from tests.support.collection import run, settle
from tests.support.registry_world import ACTOR, NAME, Pushed, World, is_there, pull, push_image


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def kind() -> str:
    return "local"


def delete_and_die(registry: Registry, image: Pushed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Delete an image in a process that is killed after the fold has said that it is done."""

    def die(*_given: object) -> None:
        raise Killed

    registry.manifests.delete(NAME, image.digest, actor=ACTOR)
    with monkeypatch.context() as patched:
        patched.setattr(BlobDeletion, "delete_unheld", die)
        with pytest.raises(Killed):
            registry.fold_waiting()


def file_of(world: World, image: Pushed) -> bool:
    return (world.root / NAME / "blobs" / "sha256" / image.digest.encoded).exists()


def test_such_a_file_goes_and_the_trash_keeps_it(
    world: World, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_image(registry, "kept", "kept")
    image = push_image(registry, "gone", "gone")
    delete_and_die(registry, image, monkeypatch)
    after = world.registry(lease=0, grace=100, undelete_window=1000)
    assert file_of(world, image)
    dry = run(after, dry=True)
    report = run(after)
    assert dry.removed == report.removed
    assert [(each.digest, each.repository, each.bytes) for each in report.removed] == [(image.digest, NAME, 0)]
    assert not file_of(world, image)
    after.restoration.last(NAME, actor=ACTOR)
    assert is_there(after, image.manifest)
    pull(after, "kept")


def test_its_bytes_are_free_where_it_can_be_restored_no_longer(
    world: World, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = push_image(registry, "gone", "gone")
    delete_and_die(registry, image, monkeypatch)
    world.clock.now += 2000
    after = world.registry(lease=0, grace=100, undelete_window=1000)
    assert sum(each.bytes for each in settle(after)) >= len(image.manifest.data)
    world.clock.now += 101
    settle(after)
    assert list((world.root / NAME / "blobs" / "sha256").iterdir()) == []


def test_before_its_deletion_is_in_the_index_it_stays(world: World, registry: Registry) -> None:
    image = push_image(registry, "gone", "gone")
    registry.fold_waiting()
    registry.manifests.delete(NAME, image.digest, actor=ACTOR)
    other = world.registry(lease=0, grace=0, undelete_window=1000)
    run(other)
    assert file_of(world, image), "index.json still names it"
    registry.fold_waiting()
    assert not file_of(world, image)
