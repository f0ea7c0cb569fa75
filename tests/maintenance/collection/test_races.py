"""What happens between the look of a collection and its transaction: what came into use meanwhile stays."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import TypeVar

import pytest

from registry.database.collection import doomed
from registry.images.publication import blob_publication
from registry.images.registry import Registry
from registry.maintenance.collection.finding import Removed
from registry.oci.digest import Digest
from registry.oci.errors import Unavailable
from registry.storage.middleware.base import DriverDecorator
from tests.support.collection import run, settle
from tests.support.postgresql import Cluster
from tests.support.registry_world import (
    ACTOR,
    NAME,
    World,
    is_there,
    make_image,
    pull,
    pull_blob,
    push_blob,
    push_image,
    push_manifest,
)

T = TypeVar("T")

GRACE = 100.0
DATA = b"nothing names it"


@pytest.fixture
def other(world: World) -> Registry:
    """Another replica."""
    return world.registry(lease=0, grace=GRACE, undelete_window=1000)


def once(action: Callable[[], object]) -> Callable[[], None]:
    """Does ``action`` the first time that it is called."""
    left = [action]

    def act() -> None:
        while left:
            left.pop()()

    return act


def test_a_blob_that_is_named_meanwhile_stays(world: World, registry: Registry, other: Registry) -> None:
    image = make_image("one")
    for blob in (image.config, image.layer):
        push_blob(registry, blob.data)
    run(registry)
    world.clock.now += GRACE + 1
    report = run(registry, before_each=once(lambda: push_manifest(other, image.manifest, "v1")))
    assert report.removed == []
    settle(registry)
    pull(registry, "v1")


def test_a_blob_that_is_uploaded_again_meanwhile_stays(world: World, registry: Registry) -> None:
    push_blob(registry, DATA)
    run(registry)
    world.clock.now += GRACE + 1
    leasing = world.registry(lease=50, grace=GRACE)
    report = run(registry, before_each=once(lambda: push_blob(leasing, DATA)))
    assert report.removed == []
    assert pull_blob(registry, Digest.of(DATA)) == DATA


@pytest.mark.parametrize("kind", ["memory", "prompt"])
def test_bytes_that_a_repository_takes_again_meanwhile_stay(world: World, registry: Registry, other: Registry) -> None:
    digest = push_blob(registry, DATA)
    run(registry)
    world.clock.now += GRACE + 1
    assert [str(each.kind) for each in run(registry).removed] == ["membership"]
    report = run(registry, before_each=once(lambda: push_blob(other, DATA)))
    assert report.removed == []
    assert pull_blob(registry, digest) == DATA


def test_a_manifest_that_is_tagged_again_meanwhile_stays(world: World, registry: Registry, other: Registry) -> None:
    image = push_image(registry, "one", "v1")
    push_image(registry, "two", "v1")
    run(registry, untagged_after=50.0)
    world.clock.now += 51
    report = run(registry, untagged_after=50.0, before_each=once(lambda: push_manifest(other, image.manifest, "again")))
    assert report.removed == []
    assert is_there(registry, image.manifest)


def test_what_is_deleted_meanwhile_is_left_to_the_trash(world: World, registry: Registry, other: Registry) -> None:
    image = push_image(registry, "one", "v1")
    push_image(registry, "two", "v1")
    run(registry, untagged_after=50.0)
    world.clock.now += 51

    def delete() -> None:
        other.manifests.delete(NAME, image.digest, actor=ACTOR)

    assert run(registry, untagged_after=50.0, before_each=once(delete)).removed == []
    registry.fold_waiting()
    registry.restoration.last(NAME, actor=ACTOR)
    assert is_there(registry, image.manifest)


def test_two_runs_at_once_do_it_once(world: World, registry: Registry, other: Registry) -> None:
    push_image(registry, "kept", "v1")
    for number in range(5):
        push_blob(registry, f"{number}".encode())
    gone = push_image(registry, "gone", "gone")
    registry.manifests.delete(NAME, gone.digest, actor=ACTOR)
    run(registry)
    world.clock.now += 2000
    removed: list[Removed] = []

    def run_too() -> None:
        removed.extend(run(other).removed)

    for _ in range(4):
        removed.extend(run(registry, before_each=run_too).removed)
        world.clock.now += GRACE + 1
    freed = [each.digest for each in removed if each.bytes]
    assert len(freed) == len(set(freed)) == 8
    pull(registry, "v1")


class _Pushing(DriverDecorator):
    """Calls ``during`` while an object is being deleted."""

    def __init__(self, world: World) -> None:
        super().__init__(world.driver())
        self.during: Callable[[], None] = lambda: None

    def around(self, operation: str, key: str, call: Callable[[], T]) -> T:
        if operation in {"delete_once", "delete_several"}:
            self.during()
        return call()


def test_a_push_during_the_delete_waits_and_is_there_afterwards(
    world: World, other: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blob_publication, "ATTEMPTS", 3)
    driver = _Pushing(world)
    registry = world.registry(driver=driver, lease=0, grace=GRACE, undelete_window=1000)
    push_blob(registry, DATA)
    run(registry)
    world.clock.now += GRACE + 1
    refused = []

    def push() -> None:
        try:
            push_blob(other, DATA)
        except Unavailable as error:
            refused.append(error.headers.get("Retry-After"))

    driver.during = once(push)
    settle(registry)
    assert len(refused) == 1
    assert refused[0]
    push_blob(other, DATA)
    assert pull_blob(registry, Digest.of(DATA)) == DATA


@pytest.mark.tools("initdb", "pg_ctl", "postgres")
def test_a_delete_and_a_run_that_forgets_its_rows_never_wait_for_each_other(cluster: Cluster, tmp_path: Path) -> None:
    """The triggers of the delete remove the rows in the order of its references, a run in that of the table."""
    world = World(tmp_path, "memory", cluster.create_current())
    registry, other = (world.registry(lease=0, grace=GRACE) for _ in range(2))
    image = make_image("one")
    first, second = sorted((push_blob(registry, image.config.data), push_blob(registry, image.layer.data)))
    run(registry)
    push_manifest(registry, image.manifest, "v1")
    repository = registry.repositories.require(NAME)
    with registry.backends.database.autocommit() as connection:
        ids = {row.digest: row.blob_id for row in doomed.members(connection, after=doomed.START, count=10).get()}
    for held, wanted in ((first, second), (second, first)):
        with ThreadPoolExecutor() as pool:
            with other.backends.database.transaction() as connection:
                doomed.forget(connection, repository.id, [ids[held]])
                connection.settle()
                deleting = pool.submit(registry.manifests.delete, NAME, image.digest, actor=ACTOR)
                wait([deleting], timeout=0.5)
                doomed.forget(connection, repository.id, [ids[wanted]])
                connection.settle()
            assert deleting.result(timeout=30) is not None
        run(registry)
        push_manifest(registry, image.manifest, "v1")
    world.close()
