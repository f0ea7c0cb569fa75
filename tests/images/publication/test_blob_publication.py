"""Publishing and deleting the same blob at once: no lock across storage, and an acknowledged push is never lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from registry.database import blobs
from registry.images.publication import blob_publication
from registry.images.registry import Registry
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown, Unavailable
from registry.storage.errors import PathNotFound
from registry.storage.middleware.faults import Fault, FaultyDriver, When
from tests.support.registry_world import ACTOR, NAME, World, pull_blob, push_blob, push_image

pytestmark = pytest.mark.parametrize("kind", ["local"])
DATA = b"contested"
DIGEST = Digest.of(DATA)
OTHER = "other/app"


class Killed(BaseException):
    """The process ends."""


def faulty(
    world: World, operation: str, effect: Callable[[], None], *, key: str = "*", after: bool = False
) -> Registry:
    """A process for which something happens at an operation."""
    moment = When.AFTER if after else When.BEFORE
    fault = Fault(operation=operation, key=key, moment=moment, effect=effect)
    return world.registry(driver=FaultyDriver(world.driver(), [fault]))


def struck(registry: Registry) -> bool:
    """Whether what was to happen has happened."""
    driver = registry.backends.driver
    assert isinstance(driver, FaultyDriver)
    return driver.struck[0] == 1


def exists(registry: Registry, name: str = NAME) -> bool:
    try:
        registry.backends.driver.stat(registry.backends.layout.blob(name, DIGEST))
    except PathNotFound:
        return False
    return True


def abandon_a_deletion(world: World) -> None:
    """A deleter claims and is killed before it deletes."""

    def die() -> None:
        raise Killed

    broken = FaultyDriver(world.driver(), [Fault(operation="delete_once", effect=die)])
    with pytest.raises(Killed):
        world.registry(driver=broken).blobs.delete(NAME, DIGEST)


def test_a_deletion_between_the_bytes_and_the_rows_makes_the_publisher_do_it_again(
    world: World, registry: Registry
) -> None:
    push_blob(registry, DATA)
    deleter = world.registry()
    publisher = faulty(world, "stat", lambda: deleter.blobs.delete(NAME, DIGEST), key=f"*{DIGEST.encoded}", after=True)
    push_blob(publisher, DATA)
    assert struck(publisher)
    assert pull_blob(registry, DIGEST) == DATA


def test_a_deletion_after_the_bytes_were_put_makes_the_publisher_put_them_again(
    world: World, registry: Registry
) -> None:
    push_blob(registry, DATA)
    key = registry.backends.layout.blob(NAME, DIGEST)
    registry.backends.driver.delete([key])  # so that the publisher needs its upload
    deleter = world.registry()

    def delete() -> None:
        with deleter.backends.database.transaction() as connection:
            row = blobs.find(connection, DIGEST).get()
            assert row is not None
            claim = deleter.blob_deletion.claim(connection, row.id, key)
        assert claim is not None
        deleter.blob_deletion.delete(claim)

    publisher = faulty(world, "writer.publish", delete, after=True)
    push_blob(publisher, DATA)
    assert struck(publisher)
    assert pull_blob(registry, DIGEST) == DATA


def test_a_source_that_is_deleted_before_it_is_linked_is_replaced_by_the_upload(
    world: World, registry: Registry
) -> None:
    push_blob(registry, DATA)
    deleter = world.registry()
    publisher = faulty(world, "link", lambda: deleter.blobs.delete(NAME, DIGEST))
    push_blob(publisher, DATA, OTHER)
    assert struck(publisher)
    assert pull_blob(registry, DIGEST, OTHER) == DATA
    assert not exists(registry)


def test_a_mount_whose_source_is_deleted_meanwhile_says_no(world: World, registry: Registry) -> None:
    push_blob(registry, DATA)
    deleter = world.registry()
    assert not faulty(world, "link", lambda: deleter.blobs.delete(NAME, DIGEST)).blobs.mount(OTHER, DIGEST, NAME)
    with pytest.raises(BlobUnknown):
        registry.blobs.find(OTHER, DIGEST)


def test_a_publisher_waits_while_the_bytes_are_being_deleted(world: World, registry: Registry) -> None:
    push_blob(registry, DATA)
    inside, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        inside.set()
        assert go_on.wait(60)

    deleter = faulty(world, "delete_once", slow)
    with ThreadPoolExecutor(2) as pool:
        deletion = pool.submit(deleter.blobs.delete, NAME, DIGEST)
        assert inside.wait(60)
        with pytest.raises(BlobUnknown):
            registry.blobs.find(NAME, DIGEST)
        assert not registry.blobs.mount(OTHER, DIGEST, NAME)
        push = pool.submit(push_blob, registry, DATA)
        with pytest.raises(TimeoutError):
            push.result(0.1)
        go_on.set()
        deletion.result(10)
        push.result(10)
    assert pull_blob(registry, DIGEST) == DATA


def test_a_publisher_does_not_wait_for_ever(world: World, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_publication, "POLL", 0.001)
    push_blob(registry, DATA)
    abandon_a_deletion(world)
    with pytest.raises(Unavailable) as refusal:
        push_blob(registry, DATA)
    assert refusal.value.headers["Retry-After"] == "1"


def test_a_publisher_takes_over_from_a_deleter_that_was_killed(world: World, registry: Registry) -> None:
    push_blob(registry, DATA)
    abandon_a_deletion(world)
    world.clock.now += world.policy.claim + 1
    push_blob(registry, DATA)
    assert registry.blob_deletion.finish_abandoned() == 0
    assert pull_blob(registry, DIGEST) == DATA


def test_an_abandoned_deletion_is_finished_after_its_deadline(world: World, registry: Registry) -> None:
    push_blob(registry, DATA)
    abandon_a_deletion(world)
    assert registry.blob_deletion.finish_abandoned() == 0
    assert exists(registry)
    world.clock.now += world.policy.claim + 1
    assert registry.blob_deletion.finish_abandoned() == 1
    assert not exists(registry)
    assert registry.blob_deletion.finish_abandoned() == 0
    push_blob(registry, DATA)
    assert pull_blob(registry, DIGEST) == DATA


def test_a_deleter_that_slept_too_long_does_not_delete(world: World, registry: Registry) -> None:
    push_blob(registry, DATA)
    key = registry.backends.layout.blob(NAME, DIGEST)
    with registry.backends.database.transaction() as connection:
        row = blobs.find(connection, DIGEST).get()
        assert row is not None
        claim = registry.blob_deletion.claim(connection, row.id, key)
    assert claim is not None
    world.clock.now += world.policy.claim / 2 + 1
    assert not registry.blob_deletion.delete(claim)
    assert exists(registry)


def test_a_manifest_that_comes_back_before_the_fold_keeps_its_bytes(registry: Registry) -> None:
    pushed = push_image(registry, "1", "v1")
    registry.fold_waiting()
    registry.manifests.delete(NAME, pushed.digest, actor=ACTOR)
    push_image(registry, "1", "v2")
    registry.fold_waiting()
    assert registry.manifests.read(registry.manifests.find(NAME, "v2")) == pushed.manifest.data
