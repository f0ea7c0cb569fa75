"""Storage ahead of the database: a database that was lost or is older, and what cannot be read."""

from __future__ import annotations

import itertools
import sqlite3
import tracemalloc
from pathlib import Path

import pytest

from registry.database import repositories
from registry.images.registry import Registry
from registry.maintenance.rebuild import rebuild_registry
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown, ManifestUnknown, NameUnknown, RegistryError, Unavailable
from registry.storage.middleware.faults import Fault, FaultyDriver, When
from tests.support.payloads import image, index
from tests.support.registry_world import (
    ACTOR,
    KINDS,
    NAME,
    REAL_KIND,
    World,
    pull,
    pull_blob,
    push_blob,
    push_image,
    push_manifest,
    read_index,
    tags,
)

local = pytest.mark.parametrize("kind", ["local"])


@pytest.fixture(params=[*KINDS, REAL_KIND])
def kind(request: pytest.FixtureRequest) -> str:
    """SQLite, of which a test can make a copy."""
    return str(request.param)


def copy_of(world: World, target: Path) -> str:
    """A backup of the database as it is now; its URL."""
    source, copy = sqlite3.connect(world.url.removeprefix("sqlite:///")), sqlite3.connect(target)
    source.backup(copy)
    source.close()
    copy.close()
    return f"sqlite:///{target}"


def sequence(registry: Registry) -> int:
    with registry.backends.database.snapshot() as connection:
        row = repositories.find(connection, NAME).get()
    assert row is not None
    return row.sequence


@pytest.mark.parametrize("folded", [True, False])
def test_a_lost_database_is_filled_at_the_first_touch(
    world: World, registry: Registry, tmp_path: Path, folded: bool
) -> None:
    first, child = push_image(registry, "1", "v1", "gone"), push_image(registry, "child", algorithm="sha512")
    push_manifest(registry, index([child.manifest]), "multi")
    registry.manifests.untag(NAME, "gone", actor=ACTOR)
    deleted = push_image(registry, "deleted", "deleted")
    registry.manifests.delete(NAME, deleted.digest, actor=ACTOR)
    if folded:
        registry.fold_waiting()
    other = world.registry(url=f"sqlite:///{tmp_path / 'new.db'}")
    assert tags(other) == ["multi", "v1"]
    assert pull(other, "v1") == first.digest
    assert pull(other, child.manifest.digest) == child.digest
    with pytest.raises(ManifestUnknown):
        other.manifests.find(NAME, deleted.digest)
    assert sequence(other) == sequence(registry)
    push_image(other, "2", "v2")
    assert sequence(other) == sequence(registry) + 1
    other.fold_waiting()
    assert set(read_index(other).tags()) == {"multi", "v1", "v2"}


@pytest.mark.parametrize("folded", [True, False])
def test_an_older_copy_of_the_database_learns_all_that_came_after_it(
    world: World, registry: Registry, tmp_path: Path, folded: bool
) -> None:
    kept, moved = push_image(registry, "kept", "kept", "moves"), push_image(registry, "moved")
    push_image(registry, "gone", "untagged", "deleted")
    old = copy_of(world, tmp_path / "old.db")
    push_manifest(registry, moved.manifest, "moves")
    added = push_image(registry, "added", "added")
    registry.manifests.untag(NAME, "untagged", actor=ACTOR)
    registry.manifests.delete(NAME, registry.manifests.find(NAME, "deleted").digest, actor=ACTOR)
    if folded:
        registry.fold_waiting()

    restored = world.registry(url=old)
    assert tags(restored) == ["added", "kept", "moves"]
    assert pull(restored, "kept") == kept.digest
    assert pull(restored, "moves") == moved.digest
    assert pull(restored, "added") == added.digest
    push_image(restored, "later", "later")
    assert sequence(restored) == sequence(registry) + 1
    world.clock.now += 10
    restored.fold_waiting()
    assert set(read_index(restored).tags()) == {"added", "kept", "later", "moves"}


def test_an_older_copy_that_is_pushed_to_first_is_brought_up_to_date_before(
    world: World, registry: Registry, tmp_path: Path
) -> None:
    push_image(registry, "1", "v1")
    registry.fold_waiting()
    old = copy_of(world, tmp_path / "old.db")
    second = push_image(registry, "2", "v2")
    restored = world.registry(url=old)
    push_image(restored, "3", "v3")
    assert sequence(restored) == 3
    assert pull(restored, "v2") == second.digest
    restored.fold_waiting()
    assert set(read_index(restored).tags()) == {"v1", "v2", "v3"}


def test_a_repository_that_the_copy_does_not_know_is_found(world: World, registry: Registry, tmp_path: Path) -> None:
    old = copy_of(world, tmp_path / "old.db")
    pushed = push_image(registry, "1", "v1")
    assert pull(world.registry(url=old), "v1") == pushed.digest


@local
def test_blobs_that_no_manifest_names_survive_a_lost_database(world: World, registry: Registry, tmp_path: Path) -> None:
    digest = push_blob(registry, b"waiting for its manifest")
    other = world.registry(url=f"sqlite:///{tmp_path / 'new.db'}")
    assert pull_blob(other, digest) == b"waiting for its manifest"


def test_a_blob_that_was_deleted_after_the_copy_stays_unknown(world: World, registry: Registry, tmp_path: Path) -> None:
    push_image(registry, "1", "v1")
    digest = push_blob(registry, b"free")
    old = copy_of(world, tmp_path / "old.db")
    registry.blobs.delete(NAME, digest)
    if registry.backends.layout.per_repository:
        with pytest.raises(BlobUnknown):
            world.registry(url=old).blobs.find(NAME, digest)


@local
def test_a_torn_line_of_the_journal_is_skipped(world: World, registry: Registry, tmp_path: Path) -> None:
    first = push_image(registry, "1", "v1")
    [segment] = (world.root / NAME / ".journal").iterdir()
    whole = segment.read_bytes()
    segment.write_bytes(whole + whole[: len(whole) // 2])
    other = world.registry(url=f"sqlite:///{tmp_path / 'new.db'}")
    assert pull(other, "v1") == first.digest
    second = push_image(other, "2", "v2")
    third = world.registry(url=f"sqlite:///{tmp_path / 'newer.db'}")
    assert (pull(third, "v1"), pull(third, "v2")) == (first.digest, second.digest)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"manifests": 1}', b"\xff\xfe"])
def test_an_index_that_cannot_be_read_is_503_and_nothing_is_written(
    world: World, registry: Registry, tmp_path: Path, damage: bytes
) -> None:
    pushed = push_image(registry, "1", "v1")
    registry.fold_waiting()
    key = registry.backends.layout.index(NAME)
    good = registry.backends.driver.read(key, max_bytes=1 << 20)[0]
    registry.backends.driver.write(key, damage)
    other = world.registry(url=f"sqlite:///{tmp_path / 'new.db'}")
    layer = Digest.parse(pushed.layer.digest)
    for _ in range(2):
        with pytest.raises(Unavailable):
            other.manifests.find(NAME, "v1")
        with pytest.raises(Unavailable):
            other.blobs.find(NAME, layer)
        with pytest.raises(Unavailable):
            push_image(other, "2", "v2")
    assert registry.backends.driver.read(key, max_bytes=1 << 20)[0] == damage
    with other.backends.database.snapshot() as connection:
        assert repositories.names(connection).get() == []
    assert rebuild_registry(other).problems
    registry.backends.driver.write(key, good)
    assert pull(other, "v1") == pushed.digest


def test_one_index_that_cannot_be_read_does_not_keep_the_others_from_being_folded(
    world: World, registry: Registry
) -> None:
    push_image(registry, "1", "v1")
    push_image(registry, "1", "v1", name="other/app")
    registry.backends.driver.write(registry.backends.layout.index(NAME), b"{")
    assert registry.fold_waiting() == 1
    assert set(read_index(registry, "other/app").tags()) == {"v1"}


@pytest.mark.parametrize("change", ["untag", "delete"])
def test_a_deletion_whose_record_is_only_being_written_is_not_undone(
    world: World, registry: Registry, change: str
) -> None:
    kept, gone = push_image(registry, "kept", "kept"), push_image(registry, "gone", "gone")
    registry.fold_waiting()
    other = world.registry()

    def reconcile() -> None:
        other.reconciliation.reconcile(NAME)

    faults = [Fault(operation, "*/.journal/*", effect=reconcile) for operation in ("append", "write")]
    busy = world.registry(driver=FaultyDriver(world.driver(), faults))
    if change == "untag":
        busy.manifests.untag(NAME, "gone", actor=ACTOR)
    else:
        busy.manifests.delete(NAME, gone.digest, actor=ACTOR)
    for process in (busy, other):
        assert tags(process) == ["kept"]
    busy.fold_waiting()
    assert set(read_index(busy).tags()) == {"kept"}
    assert set(read_index(busy).manifests()) == {kept.digest} | ({gone.digest} if change == "untag" else set())
    assert rebuild_registry(other).problems == []
    assert tags(other) == ["kept"]


def test_a_repository_that_is_pushed_to_without_pause_can_be_read_for_the_first_time(
    world: World, registry: Registry
) -> None:
    made, numbers = push_image(registry, "1", "v1"), itertools.count()

    def push() -> None:
        push_manifest(registry, made.manifest, f"t{next(numbers)}")

    faults = [Fault("read", "*/.journal/*", times=None, effect=push, moment=moment) for moment in When]
    other = world.registry(driver=FaultyDriver(world.driver(), faults))
    assert pull(other, "v1") == made.digest
    other.reconciliation.reconcile(NAME)
    assert tags(other) == tags(registry)
    assert next(numbers) > 1


def test_what_is_neither_in_the_database_nor_on_storage_is_unknown(registry: Registry) -> None:
    with pytest.raises(NameUnknown):
        registry.manifests.find(NAME, "v1")


def test_a_rebuild_forgets_repositories_that_storage_does_not_have(world: World, registry: Registry) -> None:
    push_image(registry, "1", "v1")
    push_image(registry, "1", "v1", name="other/app")
    registry.fold_waiting()
    for name, _ in list(registry.backends.driver.list(NAME)):
        registry.backends.driver.delete([name])
    report = rebuild_registry(registry)
    assert (report.repositories, report.removed, report.problems) == (1, 1, [])
    fresh = world.registry()
    assert fresh.repositories.page(last="", count=10) == ["other/app"]
    with pytest.raises(NameUnknown):
        fresh.manifests.find(NAME, "v1")
    pushed = push_image(fresh, "2", "v1")
    assert pull(fresh, "v1") == pushed.digest


@pytest.mark.parametrize("kind", ["memory"])
@pytest.mark.parametrize("folded", [False, True])
def test_a_database_that_was_behind_costs_nothing_that_was_acknowledged(
    world: World, tmp_path: Path, folded: bool
) -> None:
    """As after a failover to a copy that lagged: its processes have looked before the other database went on."""
    before, after = (world.registry(url=f"sqlite:///{tmp_path / name}.db") for name in ("one", "other"))
    made = push_image(before, "1", "v0")
    before.fold_waiting()
    assert tags(after) == ["v0"]
    acknowledged = ["v0", "v1", "v2", "v3"]
    for tag in acknowledged[1:]:
        push_manifest(before, made.manifest, tag)
    if folded:
        before.fold_waiting()
    for tag in ("v4", "v5"):
        for _ in range(10):
            try:
                push_manifest(after, made.manifest, tag)
            except RegistryError:
                continue
            acknowledged.append(tag)
            break
    assert len(acknowledged) == 6
    assert tags(after) == acknowledged
    after.fold_waiting()
    world.clock.now += 100
    after.fold_waiting()
    fresh = world.registry(url=f"sqlite:///{tmp_path / 'fresh'}.db")
    rebuild_registry(fresh)
    assert tags(fresh) == sorted(read_index(fresh).tags()) == acknowledged


@local
def test_manifests_with_many_annotations_are_read_again_in_little_memory(
    world: World, registry: Registry, tmp_path: Path
) -> None:
    config, mib = push_image(registry, "1", "v1").config, 1 << 20
    long = {"long": "x" * mib}
    for number in range(40):
        manifest = image(config, [], annotations={"number": str(number), **long})
        push_manifest(registry, manifest, f"tag-{number}")
    registry.fold_waiting()
    other = world.registry(url=f"sqlite:///{tmp_path / 'new.db'}")
    tracemalloc.start()
    try:
        assert len(tags(other)) == 41
        assert tracemalloc.get_traced_memory()[1] < 28 * mib
    finally:
        tracemalloc.stop()
