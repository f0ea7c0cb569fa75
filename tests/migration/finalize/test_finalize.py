"""Finalizing: source objects with a verified copy go, and nothing that Stowage serves goes with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from registry.database import blobs
from registry.images.migration_journal.documents import Phase
from registry.maintenance.rebuild import rebuild_registry
from registry.migration.context import RunOptions
from registry.migration.finalize.finalize import finalize, plan_finalize
from registry.migration.finalize.plan import Finalization
from registry.migration.report import Refused, Unfinished
from registry.oci.digest import Digest
from registry.storage.driver import StorageDriver
from registry.storage.errors import StorageUnavailable
from registry.storage.middleware.base import DriverDecorator
from registry.storage.middleware.faults import Fault, FaultyDriver
from tests.support.kills import kill_after_steps, rows
from tests.support.migrated_bucket import MAKE, Bucket, check_served, finalizing, opened, reading
from tests.support.payloads import Blob, image
from tests.support.source_world import ARM, OTHER, SHARED, Repository, path, repositories

T = TypeVar("T")

STATE = "storage/migrations/0001/state.json"
PROBLEMS = "storage/migrations/0001/problems.jsonl"
COPY_OF_SHARED = f"storage/blobs/{path(SHARED.digest)}"


@pytest.fixture(params=MAKE)
def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bucket]:
    with opened(tmp_path, request.param, Bucket.run) as made:
        yield made


@pytest.fixture
def zot(tmp_path: Path) -> Iterator[Bucket]:
    """One of them is enough where the layout makes no difference."""
    with opened(tmp_path, "zot", Bucket.run) as made:
        yield made


def planned(bucket: Bucket) -> Finalization:
    with reading(bucket) as context:
        return plan_finalize(context)


def of_ours(bucket: Bucket) -> set[str]:
    """The keys of which the source has none."""
    served = {f"{repository.name}/{name}" for repository in repositories() for name in ("index.json", "oci-layout")}
    return {key for key in bucket.objects() if key.startswith("storage/blobs/")} | served


def test_source_objects_go_and_everything_is_served_from_the_copies(bucket: Bucket) -> None:
    ours = of_ours(bucket)
    plan = planned(bucket)
    found = finalizing(bucket)
    assert (found.state, found.problems, found.notes) == (Phase.FINALIZED, [], [])
    assert found.counts["deleted"] == plan.objects == len(bucket.source.keys() - ours)
    assert set(bucket.objects()) == ours | {STATE}
    check_served(bucket.registry(), repositories())
    assert {row[-1] for row in rows(bucket)["places"]} == {""}
    assert finalizing(bucket).state == Phase.FINALIZED


def test_a_new_database_serves_what_is_left(bucket: Bucket) -> None:
    finalizing(bucket)
    bucket.world.url = bucket.world.url.replace("cache.db", "new.db")
    registry = bucket.registry()
    rebuild_registry(registry)
    check_served(registry, repositories())
    assert bucket.run(registry).state == Phase.FINALIZED


def test_the_plan_says_what_goes_and_writes_nothing(bucket: Bucket) -> None:
    before = bucket.objects()
    plan = planned(bucket)
    gone = bucket.source.keys() - of_ours(bucket)
    assert (plan.objects, plan.stays, plan.not_before) == (len(gone), [], None)
    assert plan.bytes == sum(len(bucket.source[key]) for key in gone)
    assert bucket.objects() == before


def test_nothing_goes_before_everything_is_copied(tmp_path: Path) -> None:
    bucket = Bucket(tmp_path, "zot")
    bucket.adopt()
    before = bucket.objects("zot")
    for attempt in (planned, finalizing):
        with pytest.raises(Refused, match="adopted"):
            attempt(bucket)
    assert bucket.objects("zot") == before
    bucket.world.close()


def test_what_the_source_took_since_has_to_be_copied_first(zot: Bucket) -> None:
    changed = repositories()
    changed[0].tags["new"] = image(ARM, [Blob(b"pushed to the source")])
    changed[0].blobs.append(Blob(b"pushed to the source"))
    zot.become(changed)
    with pytest.raises(Refused):
        finalizing(zot)
    assert set(zot.source) <= set(zot.objects())
    zot.run()
    finalizing(zot)
    check_served(zot.registry(), changed)


def test_unknown_objects_and_uploads_stay_and_are_told(bucket: Bucket) -> None:
    prefix = {"zot": "zot/", "zot-without-prefix": "", "distribution": "docker/registry/v2/repositories/"}[
        bucket.layout
    ]
    upload = "app/_uploads/1/data" if bucket.layout == "distribution" else "app/.uploads/1"
    unreferenced = Digest.of(b"no manifest names it")
    hexadecimal = unreferenced.encoded
    blob = (
        f"docker/registry/v2/blobs/sha256/{hexadecimal[:2]}/{hexadecimal}/data"
        if bucket.layout == "distribution"
        else f"{prefix}app/blobs/sha256/{hexadecimal}"
    )
    extra = {f"{prefix}{upload}": b"half", f"{prefix}notes.txt": b"mine", blob: b"no manifest names it"}
    for key, data in extra.items():
        bucket.driver.write(key, data)
    assert {stay.reason for stay in planned(bucket).stays} >= {"upload", "unknown", "not-copied"}
    found = finalizing(bucket)
    assert {note.detail.partition(":")[0] for note in found.notes} >= {"upload", "unknown", "not-copied"}
    assert [problem.kind for problem in found.problems] == ["unknown-object"]
    there = bucket.objects()
    assert {key: there.get(key) for key in extra} == extra
    assert not {key for key in bucket.source if key in there} - of_ours(bucket)
    check_served(bucket.registry(), repositories())


def test_wrong_bytes_stay_with_the_repositories_that_name_them(tmp_path: Path) -> None:
    for layout in MAKE:
        directory = tmp_path / layout
        directory.mkdir()
        tree = MAKE[layout](repositories())
        key = min(key for key, data in tree.items() if data == SHARED.data)
        tree[key] = b"?" * len(SHARED.data)
        bucket = Bucket(directory, layout, tree)
        assert len(bucket.run().problems) == 1
        stubs = {at for at in tree if SHARED.digest.partition(":")[2] in at}
        found = finalizing(bucket)
        assert [problem.digest for problem in found.problems] == [SHARED.digest], layout
        there = bucket.objects()
        assert stubs <= set(there), layout
        links = {at for at in tree if at.endswith(("/link", "/index.json"))}
        assert links <= set(there), layout
        blobs = {at for at in tree if "/blobs/" in at} - stubs
        assert not blobs & set(there), layout
        assert finalizing(bucket).problems == bucket.run().problems == found.problems
        bucket.world.close()


def test_killed_as_the_last_word_is_written_it_tells_again_what_could_not_be_migrated(tmp_path: Path) -> None:
    tree = MAKE["zot"](repositories())
    key = min(key for key, data in tree.items() if data == SHARED.data)
    bucket = Bucket(tmp_path, "zot", tree | {key: b"?" * len(SHARED.data)})
    bucket.run()

    def die_once_the_journal_is_gone() -> None:
        if set(bucket.objects("storage/migrations")) == {STATE, PROBLEMS}:
            raise StorageUnavailable(STATE)

    dying = FaultyDriver(bucket.driver, [Fault("write", STATE, times=None, effect=die_once_the_journal_is_gone)])
    with pytest.raises(StorageUnavailable):
        finalizing(bucket, bucket.registry(driver=dying))
    found = finalizing(bucket)
    assert (found.state, [problem.digest for problem in found.problems]) == (Phase.FINALIZED, [SHARED.digest])
    bucket.world.close()


def test_an_object_that_was_cut_short_stays(tmp_path: Path) -> None:
    """It is none that was copied, and what is wrong with it is for its owner to see."""
    tree = MAKE["zot"](repositories())
    key = next(key for key, data in tree.items() if not data and SHARED.digest.partition(":")[2] in key)
    bucket = Bucket(tmp_path, "zot", tree | {key: SHARED.data[:100]})
    bucket.run()
    found = finalizing(bucket)
    assert [(problem.kind, problem.key) for problem in found.problems] == [("truncated-blob", key)]
    left = {at for at, data in bucket.objects("zot").items() if "/blobs/" in at}
    assert left == {key}
    check_served(bucket.registry(), repositories())
    bucket.world.close()


def test_what_a_repository_that_was_not_taken_lives_from_stays(tmp_path: Path) -> None:
    """Its name is none that Stowage could serve; its stub stands for bytes that another repository has."""
    tree = MAKE["zot"]([*repositories(), Repository("storage/app", {"v1": OTHER}, [], [ARM, SHARED])])
    bucket = Bucket(tmp_path, "zot", tree)
    bucket.run()
    shared = {key for key, data in tree.items() if SHARED.digest.partition(":")[2] in key}
    assert any(key.startswith("zot/storage/app/") for key in shared)
    stays = {stay.reason: stay.objects for stay in planned(bucket).stays}
    assert stays["not-taken"] == len([key for key in tree if key.startswith("zot/storage/app/")])
    found = finalizing(bucket)
    assert [problem.kind for problem in found.problems] == ["invalid-name"]
    there = set(bucket.objects())
    assert shared <= there
    assert {key for key in tree if key.startswith("zot/storage/app/")} <= there
    check_served(bucket.registry(), repositories())
    bucket.world.close()


@pytest.mark.parametrize("layout", MAKE)
def test_what_stowage_had_deleted_before_it_was_copied_stays(layout: str, tmp_path: Path) -> None:
    bucket = Bucket(tmp_path, layout)
    bucket.adopt()
    registry = bucket.registry()
    registry.manifests.delete("team/web/nested", Digest.parse(OTHER.digest), actor="client")
    registry.fold_waiting()
    bucket.run(registry)
    found = finalizing(bucket)
    assert found.state == Phase.FINALIZED
    there = bucket.objects()
    assert {key for key, data in bucket.source.items() if data == OTHER.data} <= set(there)
    assert "not-copied" in {note.detail.partition(":")[0] for note in found.notes}
    assert not {key for key, data in bucket.source.items() if data == SHARED.data} & set(there)
    check_served(bucket.registry(), repositories()[:2])
    bucket.world.close()


def test_while_clients_may_hold_addresses_of_source_objects_nothing_goes(zot: Bucket) -> None:
    before = zot.objects()
    redirects = {"redirect": "on", "redirect_expiry": 600}
    with reading(zot, storage=redirects) as context, pytest.raises(Unfinished, match="run it again after"):
        finalize(context)
    assert zot.objects() == before
    zot.world.clock.now += 601
    with reading(zot, storage=redirects) as context:
        assert finalize(context).state == Phase.FINALIZED


def test_a_copy_that_has_gone_is_made_again_before_its_source_object_goes(bucket: Bucket) -> None:
    bucket.driver.delete([COPY_OF_SHARED])
    with pytest.raises(Unfinished, match="made again"):
        finalizing(bucket)
    assert bucket.objects("storage/blobs")[COPY_OF_SHARED] == SHARED.data
    assert finalizing(bucket).state == Phase.FINALIZED
    check_served(bucket.registry(), repositories())


class AtTheLastMoment(DriverDecorator):
    """Does something before the state says that there is no way back."""

    def __init__(self, inner: StorageDriver, work: Callable[[], object]) -> None:
        super().__init__(inner)
        self._work = work

    def around(self, operation: str, key: str, call: Callable[[], T]) -> T:
        result = call()
        if (operation, key) == ("write", STATE) and b'"finalizing"' in self.inner.read(key, max_bytes=1 << 20)[0]:
            self._work()
        return result


def test_a_copy_that_a_client_deletes_at_the_last_moment_keeps_its_source_object(bucket: Bucket) -> None:
    """It was pushed again, and that joined the source object: what was planned does not count any more."""
    other = bucket.registry()
    done: list[bool] = []

    def delete_and_push_again() -> None:
        if done:
            return
        with other.backends.database.transaction() as connection:
            blob = blobs.lock(connection, SHARED.digest).get()
            assert blob is not None
            claim = other.blob_deletion.claim(connection, blob.id, COPY_OF_SHARED)
        assert claim is not None
        other.blob_deletion.delete(claim)
        done.append(True)

    registry = bucket.registry(driver=AtTheLastMoment(bucket.driver, delete_and_push_again))
    found = finalizing(bucket, registry)
    assert done
    assert found.state == Phase.FINALIZED
    assert bucket.objects("storage/blobs")[COPY_OF_SHARED] == SHARED.data
    check_served(bucket.registry(), repositories())


@pytest.mark.parametrize("operation", ["delete", "list", "write"])
@pytest.mark.parametrize("first", [1, 2])
def test_a_store_that_fails_is_told_and_the_next_run_goes_on(zot: Bucket, operation: str, first: int) -> None:
    driver = FaultyDriver(zot.driver, [Fault(operation, first=first, times=None)])
    with pytest.raises(StorageUnavailable):
        finalizing(zot, zot.registry(driver=driver))
    check_served(zot.registry(), repositories())
    assert finalizing(zot).state == Phase.FINALIZED
    check_served(zot.registry(), repositories())


def copied(bucket: Bucket) -> None:
    bucket.run(bucket.registry(), RunOptions())


@pytest.mark.parametrize(
    ("layout", "step"), [("zot", 13), *(pytest.param(layout, 1, marks=pytest.mark.stores) for layout in MAKE)]
)
def test_a_finalization_ends_as_if_it_had_not_been_killed(
    step: int, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.migration.finalize.finalize._BATCH", 3)
    kill_after_steps(
        tmp_path,
        layout,
        copied,
        finalizing,
        step=step,
        state=Phase.FINALIZED,
        check=served,
        when_killed=served,
        when_lost=lambda bucket: rebuild_registry(bucket.registry()),
        at_least=4,
    )


def served(bucket: Bucket) -> None:
    check_served(bucket.registry(), repositories())
