"""Beside another registry: its indexes are no repositories of ours, and nothing of it changes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.images.migration_journal import reader as journal
from registry.images.records.folding import FOREIGN_SECONDS
from registry.images.registry import Registry
from registry.maintenance.rebuild import rebuild_registry
from registry.maintenance.rescan import Rescan
from registry.oci.errors import NameUnknown, Unavailable
from registry.oci.index import LAYOUT_FILE, Index, Owner
from registry.storage.driver import StorageDriver
from tests.support import adopted_bucket
from tests.support import source_world as trees
from tests.support.registry_world import NAME, World, make_image, pull, push_image, read_index, tags

INDEX = f"{NAME}/index.json"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, "memory")
    yield made
    made.close()


@pytest.fixture
def driver(world: World) -> StorageDriver:
    """With an index that another registry wrote at the key of ours."""
    driver = world.driver()
    made = make_image("theirs")
    for blob in (made.config, made.layer, made.manifest):
        digest = blob.digest
        driver.write(f"{NAME}/blobs/{digest.replace(':', '/')}", blob.data)
    driver.write(INDEX, adopted_bucket.foreign_index(made))
    return driver


def settle(registry: Registry, world: World) -> None:
    for _ in range(3):
        registry.fold_waiting()
        world.clock.now += 10


def test_an_index_of_another_registry_is_no_repository(world: World, driver: StorageDriver) -> None:
    registry = world.registry()
    with pytest.raises(NameUnknown):
        registry.manifests.find(NAME, "v1")
    report = rebuild_registry(registry)
    assert (report.repositories, report.problems) == (0, [])
    assert Rescan(registry).run() == 0
    assert registry.repositories.page(last="", count=10) == []
    assert driver.stat(INDEX)


def test_pushes_beside_it_are_served_and_nothing_of_it_changes(world: World, driver: StorageDriver) -> None:
    before = adopted_bucket.content(driver)
    registry = world.registry()
    first = push_image(registry, "one", "v1")
    second = push_image(registry, "two", "v2")
    settle(registry, world)
    registry.manifests.untag(NAME, "v2", actor="tester")
    settle(registry, world)
    assert tags(registry) == ["v1"]
    assert pull(registry, "v1") == first.digest
    assert pull(registry, str(second.digest)) == second.digest
    after = adopted_bucket.content(driver)
    assert {key: after[key] for key in before} == before
    ours = {key.split("/")[2] for key in after.keys() - before if key.startswith(NAME)}
    assert ours == {".journal"}


def test_another_process_and_another_database_serve_them_too(world: World, driver: StorageDriver) -> None:
    first = push_image(world.registry(), "one", "v1")
    settle(world.registry(), world)
    for registry in (world.registry(), world.registry(url=f"{world.url}-new")):
        assert tags(registry) == ["v1"]
        assert pull(registry, "v1") == first.digest
        report = rebuild_registry(registry)
        assert (report.repositories, report.removed, report.problems) == (1, 0, [])
        assert tags(registry) == ["v1"]
    assert Index.parse(driver.read(INDEX, max_bytes=1000)[0]).owner is Owner.FOREIGN


def test_a_fold_that_waits_is_tried_when_something_is_pushed_and_each_minute(
    world: World, driver: StorageDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = world.registry()
    push_image(registry, "one", "v1")
    registry.fold_waiting()
    world.clock.now += 10
    assert registry.folding.abandoned() == []
    asked: list[str] = []

    def fold(name: str) -> int:
        asked.append(name)
        return 0

    monkeypatch.setattr(registry.folding, "fold", fold)
    push_image(registry, "two", "v2")
    registry.fold_waiting()
    assert asked == [NAME]
    now = time.monotonic()
    monkeypatch.setattr("registry.images.records.folding.time.monotonic", lambda: now + FOREIGN_SECONDS + 1)
    assert registry.folding.abandoned() == [NAME]
    assert driver.stat(INDEX)


def test_what_was_pushed_before_a_migration_is_merged_with_what_it_takes(world: World, driver: StorageDriver) -> None:
    registry = world.registry()
    ours = push_image(registry, "one", "new")
    settle(registry, world)
    taken = make_image("theirs")
    adopted_bucket.adopt_image(driver, taken, "old")
    registry.source_locations.ensure(again=True)
    registry.reconciliation.reconcile(NAME)
    assert tags(registry) == ["new", "old"]
    assert [pull(registry, tag) for tag in ("new", "old")] == [ours.digest, taken.digest]
    world.clock.now += 10
    assert registry.folding.fold(NAME) == 1
    with registry.backends.memory.of(NAME) as notes:
        assert notes.met_foreign is None
    index = Index.parse(driver.read(INDEX, max_bytes=10_000)[0])
    assert sorted(index.tags()) == ["new", "old"]
    assert adopted_bucket.TAKEN in driver.read(INDEX, max_bytes=10_000)[0].decode()


def test_an_index_that_was_given_back_leaves_what_we_had(world: World, driver: StorageDriver) -> None:
    """The end of a rollback: the source has its key again, and what we served is beside the journal."""
    made = make_image("theirs")
    adopted_bucket.adopt_image(driver, made, "old")
    registry = world.registry()
    later = push_image(registry, "later", "new")
    settle(registry, world)
    ours, _ = driver.read(INDEX, max_bytes=10_000)
    driver.write(journal.ours_key("0001", NAME), ours)
    driver.write(INDEX, adopted_bucket.foreign_index(later, "new"))
    for each in (registry, world.registry(), world.registry(url=f"{world.url}-new")):
        each.reconciliation.reconcile(NAME)
        assert tags(each) == ["new", "old"]
        assert [pull(each, tag) for tag in ("new", "old")] == [later.digest, made.digest]
        settle(each, world)
    assert driver.read(INDEX, max_bytes=10_000)[0] == adopted_bucket.foreign_index(later, "new")


def test_an_empty_repository_that_was_given_back_is_still_one(world: World, driver: StorageDriver) -> None:
    driver.write(journal.ours_key("0001", NAME), Index.empty().serialise())
    assert tags(world.registry()) == []


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"{}"])
def test_an_index_that_cannot_be_read_is_foreign(world: World, driver: StorageDriver, damage: bytes) -> None:
    driver.write(INDEX, damage)
    registry = world.registry()
    with pytest.raises(Unavailable):
        registry.manifests.find(NAME, "v1")
    with pytest.raises(Unavailable):
        push_image(registry, "one", "v1")
    assert driver.read(INDEX, max_bytes=100)[0] == damage


def test_an_empty_index_as_we_write_it_is_ours(world: World) -> None:
    world.driver().write(f"{NAME}/oci-layout", LAYOUT_FILE)
    world.driver().write(INDEX, Index.empty().serialise())
    registry = world.registry()
    assert tags(registry) == []
    push_image(registry, "one", "v1")
    registry.fold_waiting()
    assert sorted(read_index(registry).tags()) == ["v1"]


@pytest.mark.parametrize("single", [True, False])
def test_a_whole_tree_of_another_registry_is_harmless(world: World, single: bool) -> None:
    driver = world.driver()
    tree = {
        (key if single else f"zot/{key}"): data
        for repository in trees.repositories()
        for key, data in _zot(repository).items()
    }
    for key, data in tree.items():
        driver.write(key, data)
    registry = world.registry()
    names = [repository.name for repository in trees.repositories()]
    for name in names:
        with pytest.raises(NameUnknown):
            registry.manifests.tags(name, last="", count=10)
        push_image(registry, f"ours {name}", "ours", name=name)
    settle(registry, world)
    rebuild_registry(registry)
    Rescan(registry).run_once()
    assert sorted(registry.repositories.page(last="", count=100)) == sorted(names)
    assert {key: data for key, data in adopted_bucket.content(driver).items() if key in tree} == tree


def _zot(repository: trees.Repository) -> trees.Tree:
    index = Index.empty()
    tree: trees.Tree = {f"{repository.name}/oci-layout": b"{}"}
    for blob in repository.blobs:
        tree[f"{repository.name}/blobs/{blob.digest.replace(':', '/')}"] = blob.data
    document = index.serialise().replace(b'"manifests":[]', b'"manifests":[],"annotations":{"of":"zot"}')
    return tree | {f"{repository.name}/index.json": document}


def test_a_tree_by_digests_is_walked_past(world: World) -> None:
    """Distribution's: no directory of it is taken for a repository, and a registry of ours lives beside it."""
    driver = world.driver()
    root = "docker/registry/v2"
    driver.write(f"{root}/blobs/sha256/aa/{'a' * 64}/data", b"bytes")
    driver.write(f"{root}/repositories/app/_layers/sha256/{'a' * 64}/link", b"sha256:" + b"a" * 64)
    driver.write(f"{root}/repositories/app/_manifests/tags/v1/current/link", b"sha256:" + b"a" * 64)
    registry = world.registry()
    push_image(registry, "one", "v1", name="docker/other")
    settle(registry, world)
    assert list(registry.storage_walk.repositories()) == ["docker/other"]
    report = rebuild_registry(registry)
    assert (report.repositories, report.problems) == (1, [])


def test_below_a_prefix_nothing_is_walked(world: World) -> None:
    driver = world.driver()
    adopted_bucket.adopt_image(driver, make_image("theirs"), "old")
    driver.write("zot/app/index.json", b"not an index at all")
    registry = world.registry()
    assert list(registry.storage_walk.repositories()) == [NAME]
    assert rebuild_registry(registry).problems == []
