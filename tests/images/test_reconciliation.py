"""Storage ahead of the database: a database that was lost or is older, and what cannot be read."""

from __future__ import annotations

import itertools
import sqlite3
import tracemalloc
from pathlib import Path

import pytest

from registry.database import repositories as repository_rows
from registry.images.registry import Registry
from registry.maintenance.rebuild import rebuild_core
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown, ManifestUnknown, NameUnknown, RegistryError, Unavailable
from registry.storage.middleware.faults import Fault, FaultyDriver, When
from tests.images.world import (
    ACTOR,
    NAME,
    World,
    pull,
    pull_blob,
    push_blob,
    push_image,
    push_manifest,
    read_index,
    tags,
)
from tests.support.payloads import image, index

local = pytest.mark.parametrize("kind", ["local"])


def copy_of(world: World, target: Path) -> str:
    """A backup of the database as it is now; its URL."""
    source, copy = sqlite3.connect(world.url.removeprefix("sqlite:///")), sqlite3.connect(target)
    source.backup(copy)
    source.close()
    copy.close()
    return f"sqlite:///{target}"


def sequence(core: Registry) -> int:
    with core.stores.database.read() as connection:
        row = repository_rows.find(connection, NAME)
    assert row is not None
    return row.sequence


@pytest.mark.parametrize("folded", [True, False])
def test_a_lost_database_is_filled_at_the_first_touch(
    world: World, core: Registry, tmp_path: Path, folded: bool
) -> None:
    first, child = push_image(core, "1", "v1", "gone"), push_image(core, "child", algorithm="sha512")
    push_manifest(core, index([child.manifest]), "multi")
    core.manifests.untag(NAME, "gone", actor=ACTOR)
    deleted = push_image(core, "deleted", "deleted")
    core.manifests.delete(NAME, deleted.digest, actor=ACTOR)
    if folded:
        core.fold_waiting()
    other = world.core(url=f"sqlite:///{tmp_path / 'new.db'}")
    assert tags(other) == ["multi", "v1"]
    assert pull(other, "v1") == first.digest
    assert pull(other, child.manifest.digest) == child.digest
    with pytest.raises(ManifestUnknown):
        other.manifests.find(NAME, deleted.digest)
    assert sequence(other) == sequence(core)
    push_image(other, "2", "v2")
    assert sequence(other) == sequence(core) + 1
    other.fold_waiting()
    assert set(read_index(other).tags()) == {"multi", "v1", "v2"}


@pytest.mark.parametrize("folded", [True, False])
def test_an_older_copy_of_the_database_learns_all_that_came_after_it(
    world: World, core: Registry, tmp_path: Path, folded: bool
) -> None:
    kept, moved = push_image(core, "kept", "kept", "moves"), push_image(core, "moved")
    push_image(core, "gone", "untagged", "deleted")
    old = copy_of(world, tmp_path / "old.db")
    push_manifest(core, moved.manifest, "moves")
    added = push_image(core, "added", "added")
    core.manifests.untag(NAME, "untagged", actor=ACTOR)
    core.manifests.delete(NAME, core.manifests.find(NAME, "deleted").digest, actor=ACTOR)
    if folded:
        core.fold_waiting()

    restored = world.core(url=old)
    assert tags(restored) == ["added", "kept", "moves"]
    assert pull(restored, "kept") == kept.digest
    assert pull(restored, "moves") == moved.digest
    assert pull(restored, "added") == added.digest
    push_image(restored, "later", "later")
    assert sequence(restored) == sequence(core) + 1
    world.clock.now += 10
    restored.fold_waiting()
    assert set(read_index(restored).tags()) == {"added", "kept", "later", "moves"}


def test_an_older_copy_that_is_pushed_to_first_is_brought_up_to_date_before(
    world: World, core: Registry, tmp_path: Path
) -> None:
    push_image(core, "1", "v1")
    core.fold_waiting()
    old = copy_of(world, tmp_path / "old.db")
    second = push_image(core, "2", "v2")
    restored = world.core(url=old)
    push_image(restored, "3", "v3")
    assert sequence(restored) == 3
    assert pull(restored, "v2") == second.digest
    restored.fold_waiting()
    assert set(read_index(restored).tags()) == {"v1", "v2", "v3"}


def test_a_repository_that_the_copy_does_not_know_is_found(world: World, core: Registry, tmp_path: Path) -> None:
    old = copy_of(world, tmp_path / "old.db")
    pushed = push_image(core, "1", "v1")
    assert pull(world.core(url=old), "v1") == pushed.digest


@local
def test_blobs_that_no_manifest_names_survive_a_lost_database(world: World, core: Registry, tmp_path: Path) -> None:
    digest = push_blob(core, b"waiting for its manifest")
    other = world.core(url=f"sqlite:///{tmp_path / 'new.db'}")
    assert pull_blob(other, digest) == b"waiting for its manifest"


def test_a_blob_that_was_deleted_after_the_copy_stays_unknown(world: World, core: Registry, tmp_path: Path) -> None:
    push_image(core, "1", "v1")
    digest = push_blob(core, b"free")
    old = copy_of(world, tmp_path / "old.db")
    core.blobs.delete(NAME, digest)
    if core.stores.layout.per_repository:
        with pytest.raises(BlobUnknown):
            world.core(url=old).blobs.find(NAME, digest)


@local
def test_a_torn_line_of_the_journal_is_skipped(world: World, core: Registry, tmp_path: Path) -> None:
    first = push_image(core, "1", "v1")
    [segment] = (world.root / NAME / ".journal").iterdir()
    whole = segment.read_bytes()
    segment.write_bytes(whole + whole[: len(whole) // 2])
    other = world.core(url=f"sqlite:///{tmp_path / 'new.db'}")
    assert pull(other, "v1") == first.digest
    second = push_image(other, "2", "v2")
    third = world.core(url=f"sqlite:///{tmp_path / 'newer.db'}")
    assert (pull(third, "v1"), pull(third, "v2")) == (first.digest, second.digest)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"manifests": 1}', b"\xff\xfe"])
def test_an_index_that_cannot_be_read_is_503_and_nothing_is_written(
    world: World, core: Registry, tmp_path: Path, damage: bytes
) -> None:
    pushed = push_image(core, "1", "v1")
    core.fold_waiting()
    key = core.stores.layout.index(NAME)
    good = core.stores.driver.read(key, max_bytes=1 << 20)[0]
    core.stores.driver.write(key, damage)
    other = world.core(url=f"sqlite:///{tmp_path / 'new.db'}")
    layer = Digest.parse(pushed.layer.digest)
    for _ in range(2):
        with pytest.raises(Unavailable):
            other.manifests.find(NAME, "v1")
        with pytest.raises(Unavailable):
            other.blobs.find(NAME, layer)
        with pytest.raises(Unavailable):
            push_image(other, "2", "v2")
    assert core.stores.driver.read(key, max_bytes=1 << 20)[0] == damage
    with other.stores.database.read() as connection:
        assert repository_rows.names(connection) == []
    assert rebuild_core(other).problems
    core.stores.driver.write(key, good)
    assert pull(other, "v1") == pushed.digest


def test_one_index_that_cannot_be_read_does_not_keep_the_others_from_being_folded(world: World, core: Registry) -> None:
    push_image(core, "1", "v1")
    push_image(core, "1", "v1", name="other/app")
    core.stores.driver.write(core.stores.layout.index(NAME), b"{")
    assert core.fold_waiting() == 1
    assert set(read_index(core, "other/app").tags()) == {"v1"}


@pytest.mark.parametrize("change", ["untag", "delete"])
def test_a_deletion_whose_record_is_only_being_written_is_not_undone(world: World, core: Registry, change: str) -> None:
    kept, gone = push_image(core, "kept", "kept"), push_image(core, "gone", "gone")
    core.fold_waiting()
    other = world.core()

    def reconcile() -> None:
        other.reconciliation.reconcile(NAME)

    faults = [Fault(operation, "*/.journal/*", effect=reconcile) for operation in ("append", "write")]
    busy = world.core(driver=FaultyDriver(world.driver(), faults))
    if change == "untag":
        busy.manifests.untag(NAME, "gone", actor=ACTOR)
    else:
        busy.manifests.delete(NAME, gone.digest, actor=ACTOR)
    for process in (busy, other):
        assert tags(process) == ["kept"]
    busy.fold_waiting()
    assert set(read_index(busy).tags()) == {"kept"}
    assert set(read_index(busy).manifests()) == {kept.digest} | ({gone.digest} if change == "untag" else set())
    assert rebuild_core(other).problems == []
    assert tags(other) == ["kept"]


def test_a_repository_that_is_pushed_to_without_pause_can_be_read_for_the_first_time(
    world: World, core: Registry
) -> None:
    made, numbers = push_image(core, "1", "v1"), itertools.count()

    def push() -> None:
        push_manifest(core, made.manifest, f"t{next(numbers)}")

    faults = [Fault("read", "*/.journal/*", times=None, effect=push, moment=moment) for moment in When]
    other = world.core(driver=FaultyDriver(world.driver(), faults))
    assert pull(other, "v1") == made.digest
    other.reconciliation.reconcile(NAME)
    assert tags(other) == tags(core)
    assert next(numbers) > 1


def test_what_is_neither_in_the_database_nor_on_storage_is_unknown(core: Registry) -> None:
    with pytest.raises(NameUnknown):
        core.manifests.find(NAME, "v1")


def test_a_rebuild_forgets_repositories_that_storage_does_not_have(world: World, core: Registry) -> None:
    push_image(core, "1", "v1")
    push_image(core, "1", "v1", name="other/app")
    core.fold_waiting()
    for name, _ in list(core.stores.driver.list(NAME)):
        core.stores.driver.delete([name])
    report = rebuild_core(core)
    assert (report.repositories, report.removed, report.problems) == (1, 1, [])
    fresh = world.core()
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
    before, after = (world.core(url=f"sqlite:///{tmp_path / name}.db") for name in ("one", "other"))
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
    fresh = world.core(url=f"sqlite:///{tmp_path / 'fresh'}.db")
    rebuild_core(fresh)
    assert tags(fresh) == sorted(read_index(fresh).tags()) == acknowledged


@local
def test_manifests_with_many_annotations_are_read_again_in_little_memory(
    world: World, core: Registry, tmp_path: Path
) -> None:
    config, mib = push_image(core, "1", "v1").config, 1 << 20
    long = {"long": "x" * mib}
    for number in range(40):
        manifest = image(config, [], annotations={"number": str(number), **long})
        push_manifest(core, manifest, f"tag-{number}")
    core.fold_waiting()
    other = world.core(url=f"sqlite:///{tmp_path / 'new.db'}")
    tracemalloc.start()
    try:
        assert len(tags(other)) == 41
        assert tracemalloc.get_traced_memory()[1] < 28 * mib
    finally:
        tracemalloc.stop()
