"""Consolidating: each blob becomes an object of ours with the right bytes, whatever happens meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from registry.database import blob_locations, migration_queries
from registry.images.migration_journal.documents import Phase
from registry.images.migration_journal.reader import MigrationJournalReader
from registry.migration.consolidate.consolidate import consolidate, plan_consolidation
from registry.migration.consolidate.copier import Copier
from registry.migration.progress import Progress
from registry.migration.report import ProblemKind, Refused
from registry.oci.digest import Digest
from registry.storage.driver import ObjectStat, StorageDriver
from registry.storage.errors import StorageError, StorageUnavailable, Throttled
from registry.storage.middleware.base import DriverDecorator
from registry.storage.middleware.faults import Fault, FaultyDriver, When
from tests.support.kills import kill_after_steps, rows
from tests.support.migrated_bucket import MAKE, Bucket, check_served, consolidated, opened, reading
from tests.support.registry_world import push_blob
from tests.support.source_world import BLOBS, MANIFESTS, SHARED, path, repositories

T = TypeVar("T")

CONTENT = {blob.digest: blob.data for blob in BLOBS} | {manifest.digest: manifest.data for manifest in MANIFESTS}
COPIES = {f"storage/blobs/{path(digest)}": data for digest, data in CONTENT.items()}


@pytest.fixture(params=MAKE)
def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bucket]:
    with opened(tmp_path, request.param, Bucket.adopt) as made:
        yield made


@pytest.fixture
def zot(tmp_path: Path) -> Iterator[Bucket]:
    """One of them is enough where the layout makes no difference."""
    with opened(tmp_path, "zot", Bucket.adopt) as made:
        yield made


class Meanwhile(DriverDecorator):
    """Does something else, once, before one of the operations on objects of a digest: the one with this number."""

    def __init__(self, inner: StorageDriver, digest: str, at: int, work: Callable[[], object]) -> None:
        super().__init__(inner)
        self._hexadecimal = digest.partition(":")[2]
        self._left = at
        self._work = work
        self.is_on = False

    @property
    def is_done(self) -> bool:
        return self._left <= 0

    def around(self, operation: str, key: str, call: Callable[[], T]) -> T:
        if self.is_on and self._hexadecimal in key:
            self._left -= 1
            if self._left == 0:
                self._work()
        return call()


def interleaved(make: Callable[[int], Bucket], digest: str, work: Callable[[Bucket], object]) -> Iterator[Bucket]:
    """A bucket for each moment of the copy of a blob, in which that work was done then."""
    for at in range(1, 100):
        bucket = make(at)
        driver = Meanwhile(bucket.driver, digest, at, partial(work, bucket))
        with reading(bucket, bucket.registry(driver=driver)) as context:
            driver.is_on = True
            assert consolidate(context).problems == []
        if not driver.is_done:
            assert at > 4, "a copy has more steps"
            bucket.world.close()
            return
        yield bucket
        bucket.world.close()


def place(bucket: Bucket, digest: str) -> str:
    """The key of the object of the source that has the bytes."""
    tree = bucket.source
    hexadecimal = digest.partition(":")[2]
    return next(key for key, data in sorted(tree.items()) if hexadecimal in key and Digest.of(data) == digest)


def source_objects_are_untouched(bucket: Bucket) -> bool:
    own = {f"{repository.name}/{name}" for repository in repositories() for name in ("index.json", "oci-layout")}
    there = bucket.objects()
    return all(there.get(key) == data for key, data in bucket.source.items() if key not in own)


def test_every_blob_is_copied_once_and_served_from_its_copy(bucket: Bucket) -> None:
    driver = FaultyDriver(bucket.driver)
    found = consolidated(bucket, bucket.registry(driver=driver))
    assert (found.state, found.problems) == (Phase.CONSOLIDATED, [])
    assert found.counts == {"copied": len(CONTENT), "copied_bytes": sum(map(len, CONTENT.values()))}
    assert driver.calls["copy"] == len(CONTENT)
    assert bucket.objects("storage/blobs") == COPIES
    assert source_objects_are_untouched(bucket)
    registry = bucket.registry()
    for repository in repositories():
        for blob in repository.blobs:
            assert registry.blobs.find(repository.name, Digest.parse(blob.digest)).key in COPIES
    check_served(registry, repositories())


def test_what_was_hashed_by_the_pass_is_read_once_and_everything_else_twice(bucket: Bucket) -> None:
    driver = FaultyDriver(bucket.driver)
    with reading(bucket, bucket.registry(driver=driver)) as context:
        before = driver.calls["open"]
        consolidate(context)
    assert driver.calls["open"] - before == len(MANIFESTS) + 2 * len(BLOBS)


def test_a_second_time_there_is_nothing_to_do(bucket: Bucket) -> None:
    consolidated(bucket)
    before = bucket.objects()
    driver = FaultyDriver(bucket.driver)
    found = consolidated(bucket, bucket.registry(driver=driver))
    assert found.counts == {"copied": 0, "copied_bytes": 0}
    assert (driver.calls["copy"], driver.calls["write"]) == (0, 0)
    assert bucket.objects() == before


def test_the_journal_says_what_is_copied_so_that_a_new_database_knows(bucket: Bucket) -> None:
    consolidated(bucket)
    lines = [line for _, shard in MigrationJournalReader(bucket.driver).shards("0001") for line in shard]
    assert {str(line.digest) for line in lines} == set(CONTENT)
    for line in lines:
        assert line.copy == bucket.driver.stat(f"storage/blobs/{path(line.digest)}").etag
        assert any(at.verified for at in line.locations)
    expected = rows(bucket)
    bucket.world.url = bucket.world.url.replace("cache.db", "new.db")
    bucket.adopt()
    found = consolidated(bucket)
    assert found.counts["copied"] == 0
    assert rows(bucket)["places"] == expected["places"]


def test_nothing_is_copied_before_all_is_adopted(tmp_path: Path) -> None:
    bucket = Bucket(tmp_path, "zot")
    bucket.adopt()
    with reading(bucket) as context:
        context.journal.move(Phase.ADOPTING)
        with pytest.raises(Refused, match="adopting"):
            consolidate(context)
    assert bucket.objects("storage/blobs") == {}
    bucket.world.close()


def test_the_plan_counts_and_writes_nothing(zot: Bucket) -> None:
    before = zot.objects()
    with reading(zot) as context:
        plan = plan_consolidation(context)
    assert (plan.blobs, plan.bytes) == (len(CONTENT), sum(map(len, CONTENT.values())))
    assert zot.objects() == before


def test_many_threads_copy_the_same(bucket: Bucket) -> None:
    consolidated(bucket, parallel=8)
    assert bucket.objects("storage/blobs") == COPIES
    check_served(bucket.registry(), repositories())


def test_progress_goes_to_the_end(zot: Bucket) -> None:
    heard: list[Progress] = []
    consolidated(zot, on_progress=heard.append)
    copying = [moment for moment in heard if moment.phase == "copying"]
    assert [moment.objects for moment in copying] == list(range(1, len(CONTENT) + 1))
    assert copying[-1].bytes == copying[-1].of_bytes == sum(map(len, CONTENT.values()))
    assert {moment.of for moment in copying} == {len(CONTENT)}
    assert copying[-1].seconds_left == 0.0


# ---- wrong bytes


def corrupt(bucket: Bucket, digest: str) -> str:
    """Other bytes of the same size, as a disk makes them; noted with the etag that they have."""
    key = place(bucket, digest)
    bucket.driver.write(key, b"?" * len(CONTENT[digest]))
    bucket.adopt()
    return key


def test_of_wrong_bytes_a_problem_is_told_and_everything_else_is_copied(bucket: Bucket) -> None:
    key = corrupt(bucket, SHARED.digest)
    for _ in range(2):
        found = consolidated(bucket)
        assert found.state == Phase.CONSOLIDATED
        assert [(problem.kind, problem.key, problem.digest) for problem in found.problems] == [
            (ProblemKind.WRONG_DIGEST, key, SHARED.digest)
        ]
        assert bucket.objects("storage/blobs") == {at: data for at, data in COPIES.items() if data != SHARED.data}
    registry = bucket.registry()
    push_blob(registry, SHARED.data, "app")
    held = registry.blobs.find("app", Digest.parse(SHARED.digest))
    assert held.key == f"storage/blobs/{path(SHARED.digest)}"


def test_where_one_location_is_wrong_or_gone_another_is_copied(tmp_path: Path) -> None:
    tree = MAKE["zot"](repositories())
    stubs = [key for key, data in tree.items() if not data and SHARED.digest.partition(":")[2] in key]
    assert len(stubs) == 2
    bucket = Bucket(tmp_path, "zot", tree | dict.fromkeys(stubs, SHARED.data))
    bucket.adopt()
    places = sorted(key for key, data in bucket.source.items() if data == SHARED.data)
    registry = bucket.registry()
    bucket.driver.write(places[0], b"?" * len(SHARED.data))
    bucket.driver.delete([places[1]])
    found = consolidated(bucket, registry)
    assert found.problems == []
    assert bucket.objects("storage/blobs") == COPIES
    with registry.backends.database.snapshot() as connection:
        placed = migration_queries.placed(connection, store="memory", low=SHARED.digest, high=f"{SHARED.digest}~").get()
    assert {row.key: row.state for _, row in placed} == {
        places[0]: "lost", places[1]: "lost", places[2]: "original",
        f"storage/blobs/{path(SHARED.digest)}": "current",
    }  # fmt: skip
    bucket.world.close()


@pytest.fixture
def make(tmp_path: Path) -> Callable[[int], Bucket]:
    """Adopted buckets."""

    def do(number: int) -> Bucket:
        directory = tmp_path / str(number)
        directory.mkdir()
        bucket = Bucket(directory, "zot")
        bucket.adopt()
        return bucket

    return do


def test_a_source_object_that_is_replaced_meanwhile_is_hashed_again(make: Callable[[int], Bucket]) -> None:
    """By the same bytes: another version, which was not hashed yet."""

    def replace(bucket: Bucket) -> None:
        bucket.driver.write(place(bucket, SHARED.digest), SHARED.data)

    for bucket in interleaved(make, SHARED.digest, replace):
        assert bucket.objects("storage/blobs") == COPIES
        check_served(bucket.registry(), repositories())


def test_a_push_of_the_same_blob_at_any_moment_stays(make: Callable[[int], Bucket]) -> None:
    def push(bucket: Bucket) -> None:
        push_blob(bucket.registry(), SHARED.data, "app")

    for bucket in interleaved(make, SHARED.digest, push):
        assert bucket.objects("storage/blobs") == COPIES
        check_served(bucket.registry(), repositories())


def test_a_corrupt_source_object_never_comes_over_what_a_client_pushes(make: Callable[[int], Bucket]) -> None:
    """At whatever moment of the copy the client pushes the same digest."""
    shared = f"storage/blobs/{path(SHARED.digest)}"

    def make_corrupt(number: int) -> Bucket:
        bucket = make(number)
        corrupt(bucket, SHARED.digest)
        return bucket

    def push(bucket: Bucket) -> None:
        push_blob(bucket.registry(), SHARED.data, "app")

    moments = 0
    for at in range(1, 10):
        bucket = make_corrupt(at)
        driver = Meanwhile(bucket.driver, SHARED.digest, at, partial(push, bucket))
        with reading(bucket, bucket.registry(driver=driver)) as context:
            driver.is_on = True
            found = consolidate(context)
        if driver.is_done:
            moments += 1
            assert found.problems == []
            assert bucket.objects("storage/blobs")[shared] == SHARED.data
            check_served(bucket.registry(), repositories())
        else:
            assert len(found.problems) == 1
        bucket.world.close()
    assert moments >= 2


def test_a_copy_that_has_other_bytes_does_not_count(zot: Bucket) -> None:
    """A store that ignores the condition, while the source object is replaced and put back."""
    key = place(zot, SHARED.digest)

    class Careless(DriverDecorator):
        def around(self, operation: str, key: str, call: Callable[[], T]) -> T:
            return call()

        def copy(self, source: str, target: str, *, size: int, if_etag: str) -> ObjectStat:
            if source != key:
                return super().copy(source, target, size=size, if_etag=if_etag)
            return self.inner.write(target, b"?" * size)

    with pytest.raises(StorageUnavailable, match="other bytes"):
        consolidated(zot, zot.registry(driver=Careless(zot.driver)))
    check_served(zot.registry(), repositories())
    assert consolidated(zot).problems == []
    assert zot.objects("storage/blobs") == COPIES


def test_a_source_object_that_changes_all_the_time_is_left_for_another_run(zot: Bucket) -> None:
    key = place(zot, SHARED.digest)

    class Restless(DriverDecorator):
        def around(self, operation: str, at: str, call: Callable[[], T]) -> T:
            if operation == "copy" and SHARED.digest.partition(":")[2] in at:
                self.inner.write(key, SHARED.data)
            return call()

    with pytest.raises(StorageUnavailable, match="again and again"):
        consolidated(zot, zot.registry(driver=Restless(zot.driver)))
    assert consolidated(zot).problems == []


# ---- what is deleted meanwhile


def test_a_copy_that_was_deleted_before_it_was_noted_does_not_count(zot: Bucket) -> None:
    """Else a row would say that an object is there which is not, and finalize would believe it."""
    registry = zot.registry()
    copying = Copier(registry)
    with registry.backends.database.snapshot() as connection:
        (row,) = migration_queries.uncopied(connection, store="memory", after="", count=1).get()
    copy = copying.copy(row)
    assert copy.copied is not None
    key = copy.copied.key
    with registry.backends.database.transaction() as connection:  # a push, and then a client that deletes the blob
        noted = {"store": "memory", "key": key}
        blob_locations.adopt(connection, row.id, size=row.size, etag="1", **noted)
        claim = registry.blob_deletion.claim(connection, row.id, key)
    assert claim is not None
    assert copying.commit([copy]) == 0, "it is about to be deleted"
    registry.blob_deletion.delete(claim)
    assert copying.commit([copy]) == 0, "it is gone"
    assert key not in zot.objects()
    with registry.backends.database.snapshot() as connection:
        assert blob_locations.find(connection, "memory", key).get() is None
    assert consolidated(zot).counts["copied"] == len(CONTENT)


def test_while_a_client_deletes_our_object_nothing_is_copied_over_it(
    zot: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its deletion would take the copy too, and no later run is told of it."""
    monkeypatch.setattr("registry.migration.consolidate.copier.LOOKS", 2)
    registry = zot.registry()
    with registry.backends.database.snapshot() as connection:
        (row,) = migration_queries.uncopied(connection, store="memory", after="", count=1).get()
    key = f"storage/blobs/{path(row.digest)}"
    with registry.backends.database.transaction() as connection:
        blob_locations.adopt(connection, row.id, store="memory", key=key, size=row.size, etag="1")
        claim = registry.blob_deletion.claim(connection, row.id, key)
    assert claim is not None
    copying = Copier(registry)
    copy = copying.copy(row)
    assert copy.copied is None
    assert key not in zot.objects()
    registry.blob_deletion.delete(claim)
    assert copying.commit([copying.copy(row)]) == 1
    assert zot.objects()[key] == CONTENT[row.digest]


# ---- failures


@pytest.mark.parametrize(
    ("operation", "moment", "error"),
    [
        *((operation, moment, StorageUnavailable) for operation in ("open", "copy", "write") for moment in When),
        ("reader.read", When.BEFORE, StorageUnavailable),
        ("read", When.BEFORE, StorageUnavailable),
        ("copy", When.AFTER, Throttled),
    ],
)
def test_a_store_that_fails_is_told_and_the_next_run_goes_on(
    zot: Bucket, operation: str, moment: When, error: type[StorageError]
) -> None:
    plan = [Fault(operation, key="*sha256*", first=7, times=None, moment=moment, effect=error)]
    driver = FaultyDriver(zot.driver, plan)
    with pytest.raises(error):
        consolidated(zot, zot.registry(driver=driver))
    again = FaultyDriver(zot.driver)
    assert consolidated(zot, zot.registry(driver=again)).problems == []
    assert zot.objects("storage/blobs") == COPIES
    check_served(zot.registry(), repositories())


def test_what_was_made_before_a_failure_is_not_made_again(zot: Bucket) -> None:
    plan = [Fault("copy", first=9, times=None)]
    with pytest.raises(StorageUnavailable):
        consolidated(zot, zot.registry(driver=FaultyDriver(zot.driver, plan)))
    assert consolidated(zot).counts["copied"] == len(CONTENT) - 8


@pytest.mark.parametrize(("layout", "step"), [("distribution", 13), pytest.param("zot", 1, marks=pytest.mark.stores)])
def test_a_consolidation_ends_as_if_it_had_not_been_killed(
    step: int, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.migration.consolidate.consolidate.MOST_BLOBS", 3)
    kill_after_steps(
        tmp_path,
        layout,
        adopted,
        consolidated,
        step=step,
        state=Phase.CONSOLIDATED,
        check=served,
        when_lost=Bucket.adopt,
        at_least=4,
    )


def adopted(bucket: Bucket) -> None:
    bucket.adopt()


def served(bucket: Bucket) -> None:
    check_served(bucket.registry(), repositories())
