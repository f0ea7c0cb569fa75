"""Pushes beside the removal of empty repositories: none is lost, and no number is given twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Self

import pytest

from registry.database import blobs, memberships, repositories
from registry.images.records.journal import Journal
from registry.images.registry import Registry
from registry.oci.digest import Digest
from tests.maintenance.collection.steps.emptying import (
    GRACE,
    NAMES_NOTHING,
    SHARED,
    TIMES,
    empty_unused,
    empty_used,
    has_row,
    listed,
    once,
    repositories_of,
)
from tests.support.collection import run
from tests.support.payloads import index
from tests.support.postgresql import Cluster
from tests.support.registry_world import (
    ACTOR,
    KINDS,
    NAME,
    REAL_KIND,
    World,
    make_image,
    pull,
    pull_blob,
    push_blob,
    push_image,
    push_manifest,
    tags,
)


@pytest.fixture
def registry(world: World) -> Registry:
    return world.registry(**TIMES)


@pytest.mark.parametrize("prepare", [empty_used, empty_unused])
def test_a_push_between_the_look_and_the_removal_keeps_it(
    world: World, registry: Registry, prepare: Callable[[World, Registry], None]
) -> None:
    prepare(world, registry)
    run(registry)
    world.clock.now += GRACE + 1
    other = world.registry(**TIMES)
    digest = make_image("one").digest
    report = run(registry, before_each=once(lambda: push_image(other, "one", "v1")))
    assert repositories_of(report) == []
    registry.fold_waiting()
    other.fold_waiting()
    for process in (registry, other, world.registry(**TIMES)):
        assert pull(process, "v1") == digest
        assert listed(process) == [NAME]


IMAGE = make_image("source")
LAYER = Digest.parse(IMAGE.layer.digest)


def mount(registry: Registry) -> None:
    assert registry.blobs.mount(NAME, LAYER, "team/source")


def upload(registry: Registry) -> None:
    push_blob(registry, IMAGE.layer.data)


def put_manifest(registry: Registry) -> None:
    push_manifest(registry, NAMES_NOTHING, "empty")


@pytest.mark.parametrize("kind", SHARED)
@pytest.mark.parametrize("push", [mount, upload, put_manifest])
def test_a_push_that_has_found_it_before_its_removal_makes_it_again(
    world: World, push: Callable[[Registry], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client hears nothing of it."""
    pusher, other = (world.registry(**TIMES) for _ in range(2))
    push_image(other, "source", "v1", name="team/source")
    empty_unused(world, other)
    removed = pusher.repositories.require(NAME)
    commit = pusher.blob_publication._commit

    def remove_first(*given: Any) -> Any:
        with other.backends.database.transaction() as connection:
            repositories.remove(connection, removed.id)
        return commit(*given)

    monkeypatch.setattr(pusher.blob_publication, "_commit", remove_first)
    push(pusher)
    pusher.fold_waiting()
    for process in (pusher, other, world.registry(**TIMES)):
        assert process.repositories.require(NAME).id != removed.id
        assert NAME in listed(process)
        if push is put_manifest:
            assert tags(process) == ["empty"]
        else:
            assert pull_blob(process, LAYER) == IMAGE.layer.data


@pytest.mark.tools("initdb", "pg_ctl", "postgres")
@pytest.mark.stores
@pytest.mark.parametrize("kind", ["memory"])
def test_a_removal_waits_for_a_push_that_is_about_to_commit(kind: str, cluster: Cluster, tmp_path: Path) -> None:
    world = World(tmp_path, kind, cluster.create_current())
    collector, pusher = (world.registry(lease=0, grace=0.0) for _ in range(2))
    digest = push_blob(pusher, b"elsewhere", "team/source")
    push_blob(pusher, b"given up")
    pusher.blobs.delete(NAME, Digest.of(b"given up"))
    world.clock.now += 1
    run(collector)
    repository = pusher.repositories.require(NAME)
    with ThreadPoolExecutor() as pool:
        with pusher.backends.database.transaction() as connection:
            repositories.lock_shared(connection, repository.id)
            blob = blobs.find(connection, digest).get()
            assert blob is not None
            memberships.add(connection, repository.id, blob.id, now=world.clock.now)
            connection.settle()
            collecting = pool.submit(run, collector)
            wait([collecting], timeout=0.5)
        assert repositories_of(collecting.result(timeout=30)) == []
    assert pull_blob(pusher, digest) == b"elsewhere"
    world.close()


class Replicas:
    """Two that collect all the while, with no grace, and two that push. A context manager, which ends the former."""

    def __init__(self, world: World) -> None:
        times: dict[str, Any] = {"lease": 3600.0, "grace": 0.0, "undelete_window": 0.0}
        collectors, self.pushers = ([world.registry(**times) for _ in range(2)] for _ in range(2))
        self._ending = threading.Event()
        self._pool = ThreadPoolExecutor()
        self._collecting = [self._pool.submit(self._collect, registry) for registry in collectors]

    def at_once(self, act: Callable[[Registry, str], None]) -> None:
        """Have both pushers do it; each with a name of its own."""
        for each in [self._pool.submit(act, registry, f"p{at}") for at, registry in enumerate(self.pushers)]:
            each.result(timeout=60)

    def wait_until(self, holds: Callable[[Registry], bool]) -> None:
        deadline = time.monotonic() + 60
        while not holds(self.pushers[0]):
            assert time.monotonic() < deadline
            assert not any(each.done() for each in self._collecting)
            for registry in self.pushers:  # what waited for a record of the other one, as each server does
                registry.fold_waiting()
            time.sleep(0.005)

    def _collect(self, registry: Registry) -> None:
        while not self._ending.is_set():
            run(registry)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._ending.set()
        for each in self._collecting:
            each.result(timeout=60)
        self._pool.shutdown()


@pytest.mark.tools("initdb", "pg_ctl", "postgres")
@pytest.mark.stores
@pytest.mark.parametrize("kind", ["memory", REAL_KIND])
def test_a_repository_that_is_removed_again_and_again_loses_no_push(
    kind: str, cluster: Cluster, tmp_path: Path
) -> None:
    world = World(tmp_path, kind, cluster.create_current())
    source = push_image(world.registry(), "source", "v1", name="team/source")
    mounted = {"p0": Digest.parse(source.config.digest), "p1": Digest.parse(source.layer.digest)}

    def push(registry: Registry, name: str) -> None:
        assert registry.blobs.mount(NAME, mounted[name], "team/source")

    def pull_all(registry: Registry, _name: str) -> None:
        for digest in mounted.values():
            pull_blob(registry, digest)

    def delete(registry: Registry, name: str) -> None:
        registry.blobs.delete(NAME, mounted[name])

    with Replicas(world) as replicas:
        for number in range(40):
            replicas.at_once(push)
            replicas.at_once(pull_all)
            replicas.at_once(delete)
            if number % 2:
                replicas.wait_until(lambda registry: not has_row(registry))
        replicas.at_once(push)
        replicas.at_once(pull_all)
    world.close()


@pytest.mark.tools("initdb", "pg_ctl", "postgres")
@pytest.mark.stores
@pytest.mark.parametrize("kind", [*KINDS, REAL_KIND])
def test_a_repository_that_is_hidden_again_and_again_loses_no_push(kind: str, cluster: Cluster, tmp_path: Path) -> None:
    world = World(tmp_path, kind, cluster.create_current())
    rounds = 10

    def push(registry: Registry, name: str) -> None:
        push_manifest(registry, index([], annotations={"of": name}), name)
        registry.fold_waiting()

    def pull_all(registry: Registry, _name: str) -> None:
        assert tags(registry) == ["p0", "p1"]
        for tag in ("p0", "p1"):
            registry.manifests.read(registry.manifests.find(NAME, tag))
        assert listed(registry) == [NAME]

    def delete(registry: Registry, name: str) -> None:
        registry.manifests.delete(NAME, registry.manifests.find(NAME, name).digest, actor=ACTOR)
        registry.fold_waiting()

    with Replicas(world) as replicas:
        for _ in range(rounds):
            replicas.at_once(push)
            replicas.at_once(pull_all)
            replicas.at_once(delete)
            replicas.wait_until(lambda registry: not listed(registry))
        records = Journal(replicas.pushers[0].backends).history(NAME, 0, rounds * 4)
        assert [record.sequence for record in records] == [*range(1, rounds * 4 + 1)], "a number was given twice"
    world.close()
