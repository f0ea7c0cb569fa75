"""The way back over the memory driver: the source serves what Stowage did, whatever was pushed and deleted since."""

from __future__ import annotations

import json
from collections import deque
from functools import partial
from pathlib import Path

import pytest

from registry.images.migration_journal.documents import Phase
from registry.images.records.folding import ABANDONED_SECONDS
from registry.migration.journal import MigrationJournal
from registry.migration.report import Refused
from registry.migration.review.requests import Tally
from registry.migration.rollback.rollback import REASON
from registry.oci.digest import Digest
from registry.oci.errors import Unavailable
from registry.storage.errors import StorageError
from registry.storage.middleware.faults import Fault, FaultyDriver
from registry.storage.middleware.metrics import MeasuredDriver
from tests.support.migrated_bucket import Bucket, check_served
from tests.support.payloads import Blob, image
from tests.support.registry_world import push_blob
from tests.support.rollback import (
    LAYER,
    NEW_CONFIG,
    PUSHED,
    back,
    change,
    check_source,
    give_back_untaken,
    planned,
    push,
    running,
    source_tree,
    tags_of_source,
)
from tests.support.source_world import (
    AMD,
    ATTACHED,
    EMPTY_JSON,
    NOTHING,
    ON_AMD,
    OTHER,
    SBOM,
    SHARED,
    TREE,
    data_key,
    path,
    repositories,
)

# ---- nothing pushed since


def test_where_nothing_was_pushed_the_source_is_as_it_was_and_no_blob_was_asked_for(
    layout: str, bucket: Bucket
) -> None:
    bucket.adopt()
    driver = FaultyDriver(bucket.driver)
    found = back(bucket, bucket.registry(driver=driver))
    assert (found.state, found.problems) == (Phase.ROLLED_BACK, [])
    assert source_tree(bucket) == bucket.source
    assert (found.counts["copied"], found.counts["deleted"]) == (0, 0)
    assert found.counts["written"] == (3 if layout == "zot-without-prefix" else 0)
    assert driver.calls["copy"] == driver.calls["open"] == driver.calls["delete"] == 0
    check_served(bucket.registry(), repositories())


def test_after_it_was_consolidated_too(layout: str, bucket: Bucket) -> None:
    assert bucket.run().state == Phase.CONSOLIDATED
    driver = FaultyDriver(bucket.driver)
    back(bucket, bucket.registry(driver=driver))
    assert source_tree(bucket) == bucket.source
    assert driver.calls["copy"] == driver.calls["open"] == 0
    check_served(bucket.registry(), repositories())


def test_a_second_rollback_does_nothing(bucket: Bucket) -> None:
    bucket.adopt()
    change(bucket.registry())
    back(bucket)
    before = bucket.objects()
    driver = FaultyDriver(bucket.driver)
    assert back(bucket, bucket.registry(driver=driver)).state == Phase.ROLLED_BACK
    assert driver.calls["write"] == 0
    assert bucket.objects() == before


# ---- what was done since


def test_what_was_pushed_moved_and_deleted_since_is_what_the_source_serves(layout: str, bucket: Bucket) -> None:
    bucket.adopt()
    content = change(bucket.registry())
    found = back(bucket)
    assert (found.state, found.problems) == (Phase.ROLLED_BACK, [])
    check_source(bucket, content)
    check_served(bucket.registry(), content)
    now, links = bucket.objects(), f"{TREE}/repositories"
    kept = {key for key in bucket.source if "/blobs/" in key}
    assert {key: now[key] for key in kept} == {key: bucket.source[key] for key in kept}
    if layout == "distribution":
        for gone in (
            f"{links}/team/web/_manifests/tags/stable/current/link",
            f"{links}/app/_manifests/revisions/{path(ATTACHED.digest)}/link",
            f"{links}/app/_layers/{path(SBOM.digest)}/link",
        ):
            assert gone in bucket.source
            assert gone not in now
        assert now[data_key(SBOM.digest)] == SBOM.data
        assert found.counts["copied"] == 3
    else:
        assert found.counts["copied"] == 3 + 4


def test_it_goes_on_through_several_threads(bucket: Bucket) -> None:
    bucket.adopt()
    content = change(bucket.registry())
    assert back(bucket, parallel=4).problems == []
    check_source(bucket, content)


def test_our_index_is_kept_where_its_key_is_given_back(layout: str, bucket: Bucket) -> None:
    bucket.adopt()
    change(bucket.registry())
    before = bucket.objects()
    back(bucket)
    now = bucket.objects()
    for name in ("app", "team/web", "brand/new"):
        kept = now.get(f"storage/migrations/0001/repositories/{name}/.ours")
        if layout == "zot-without-prefix":
            assert kept == before[f"{name}/index.json"]
            assert b"io.stowage" not in now[f"{name}/index.json"]
        else:
            assert kept is None
            assert now[f"{name}/index.json"] == before[f"{name}/index.json"]


def test_what_was_given_back_is_known_and_not_read_again_by_whoever_looks_first(bucket: Bucket) -> None:
    bucket.adopt()
    content = change(bucket.registry())
    back(bucket)
    registry = bucket.registry(driver=FaultyDriver(bucket.driver, [Fault("read", "*/index.json", times=None)]))
    for repository in content:
        assert registry.manifests.tags(repository.name, last="", count=100)[0] == sorted(repository.tags)


def test_without_a_database_what_was_given_back_is_read_again_and_stays_read_only(
    bucket: Bucket, tmp_path: Path
) -> None:
    from registry.maintenance.rebuild import rebuild_registry

    bucket.adopt()
    content = change(bucket.registry())
    back(bucket)
    bucket.world.url = f"sqlite:///{tmp_path / 'new.db'}"
    registry = bucket.registry()
    assert rebuild_registry(registry).problems == []
    check_served(registry, content)
    with pytest.raises(Unavailable, match="given back"):
        push_blob(registry, b"too late", "app")


def test_a_second_migration_begins_with_what_the_rollback_gave_back_and_ends_the_read_only_time(
    layout: str, bucket: Bucket
) -> None:
    bucket.adopt()
    content = change(bucket.registry())
    back(bucket)
    driver = FaultyDriver(bucket.driver)
    found = bucket.adopt(bucket.registry(driver=driver))
    assert (found.state, found.problems, found.changed) == (Phase.ADOPTED, [], [])
    assert driver.calls["copy"] == driver.calls["open"] == 0
    registry = bucket.registry()
    check_served(registry, content)
    push(registry, "app", OTHER, [SHARED, AMD, Blob(b'{"architecture": "arm64"}')], "again")
    registry.fold_waiting()
    content[0].tags["again"] = OTHER
    assert back(bucket).problems == []
    check_source(bucket, content)


def test_what_only_stowage_had_beside_a_source_that_was_not_taken_yet_is_added_and_nothing_removed(
    bucket: Bucket,
) -> None:
    give_back_untaken(bucket)
    content = repositories()
    content[0].tags["new"] = PUSHED
    check_source(bucket, content)


# ---- refusals


def test_from_the_cut_on_nothing_is_taken_and_the_reason_is_told(bucket: Bucket) -> None:
    bucket.adopt()
    running = bucket.registry()
    push_blob(running, b"in time", "app")
    back(bucket)
    with pytest.raises(Unavailable, match="given back"):
        push_blob(running, b"too late", "app")
    with pytest.raises(Unavailable, match="given back"):
        running.manifests.untag("app", "v1", actor="client")
    state = json.loads(bucket.objects("storage/migrations")["storage/migrations/0001/state.json"])
    assert (state["state"], state["read_only"]["reason"]) == ("rolled-back", REASON)


@pytest.mark.parametrize("phase", [Phase.FINALIZING, Phase.FINALIZED])
def test_once_source_objects_are_deleted_there_is_no_way_back(phase: Phase, bucket: Bucket) -> None:
    bucket.adopt()
    journal = MigrationJournal(bucket.driver)
    journal.resume()
    journal.move(phase)
    with pytest.raises(Refused, match="no way back"):
        back(bucket)
    with pytest.raises(Refused, match="no way back"):
        planned(bucket)


@pytest.mark.parametrize("layout", ["zot", "distribution"])
def test_what_the_source_changed_since_it_was_taken_has_to_be_taken_first(layout: str, bucket: Bucket) -> None:
    bucket.adopt()
    content = repositories()
    content[0].tags["v3"] = ON_AMD
    del content[1].tags["stable"]
    bucket.become(content)
    before = bucket.objects()
    with pytest.raises(Refused) as refused:
        back(bucket)
    assert refused.value.names == ["app", "team/web"]
    assert planned(bucket).changed == ["app", "team/web"]
    assert bucket.objects() == before
    bucket.adopt()
    bucket.world.clock.now += ABANDONED_SECONDS + 1  # the pass has ended, and no process folds what it removed
    back(bucket)
    check_source(bucket, content)


def test_losses_are_listed_and_refused_and_left_out_once_they_are_accepted(layout: str, bucket: Bucket) -> None:
    bucket.adopt()
    registry = bucket.registry()
    strange = Blob(b"by another name", "sha512")
    made = image(AMD, [strange])
    push(registry, "app", made, [strange, AMD], "odd")
    push(registry, "app", PUSHED, [NEW_CONFIG, LAYER], "new")
    registry.fold_waiting()
    content = repositories()
    content[0].tags |= {"odd": made, "new": PUSHED}
    if layout != "distribution":
        assert planned(bucket).losses == []
        back(bucket)
        check_source(bucket, content)
        return
    assert [loss.digest for loss in planned(bucket).losses] == [strange.digest, made.digest]
    before = bucket.objects()
    with pytest.raises(Refused, match="accept-loss") as refused:
        back(bucket)
    assert len(refused.value.names) == 2
    assert bucket.objects() == before
    push_blob(bucket.registry(), b"nothing was shut", "app")
    assert back(bucket, accept_loss=True).problems == []
    del content[0].tags["odd"]
    check_source(bucket, content)


@pytest.mark.parametrize("layout", ["distribution"])
def test_a_loss_that_is_pushed_between_the_look_and_the_cut_takes_the_cut_back(bucket: Bucket) -> None:
    bucket.adopt()
    running = bucket.registry()
    strange = Blob(b"by another name", "sha512")

    def pushing() -> None:
        push(running, "app", image(AMD, [strange]), [strange, AMD], "odd")
        running.fold_waiting()

    cutting = Fault("write", "storage/migrations/0001/state.json", first=1, effect=pushing)
    with pytest.raises(Refused, match="accept-loss"):
        back(bucket, bucket.registry(driver=FaultyDriver(bucket.driver, [cutting])))
    push_blob(running, b"nothing is shut", "app")
    state = json.loads(bucket.objects("storage/migrations")["storage/migrations/0001/state.json"])
    assert (state["state"], state["read_only"]) == ("adopted", None)
    running.fold_waiting()
    assert back(bucket, accept_loss=True).state == Phase.ROLLED_BACK


# ---- what it costs


def test_a_dry_run_writes_nothing_and_says_what_the_rollback_then_does(layout: str, bucket: Bucket) -> None:
    bucket.adopt()
    change(bucket.registry())
    before = bucket.objects()
    tally = Tally()
    plan = running(
        bucket, bucket.registry(driver=MeasuredDriver(bucket.driver, tally.observe)), tally=tally
    ).plan_rollback()
    assert bucket.objects() == before
    driver = FaultyDriver(bucket.driver)
    found = back(bucket, bucket.registry(driver=driver))
    told = (plan.repositories, plan.copied, plan.copied_bytes, plan.written, plan.deleted)
    assert told == tuple(
        found.counts[name] for name in ("repositories", "copied", "copied_bytes", "written", "deleted")
    )
    assert plan.requests.copy == driver.calls["copy"]
    assert plan.requests.put == driver.calls["write"]
    assert plan.requests.delete >= driver.calls["delete"]
    assert plan.price > 0
    assert plan.seconds is not None
    assert {stay.reason for stay in plan.stays} == {"deleted", "ours"}
    deleted = next(stay for stay in plan.stays if stay.reason == "deleted")
    assert (deleted.objects, deleted.bytes) == (3, len(ATTACHED.data) + len(SBOM.data) + len(EMPTY_JSON.data))
    json.dumps(plan.document(), default=str)


# ---- bytes that are wrong


@pytest.mark.parametrize("layout", ["zot", "zot-without-prefix"])
def test_an_unverified_source_is_read_first_and_one_with_other_bytes_is_a_problem(layout: str, bucket: Bucket) -> None:
    bucket.adopt()
    registry = bucket.registry()
    registry.blobs.mount("brand/new", Digest(SHARED.digest), "app")
    registry.blobs.mount("brand/new", Digest(AMD.digest), "app")
    registry.blobs.mount("other/new", Digest(NOTHING.digest), "team/web")
    push(registry, "brand/new", image(AMD, [SHARED]), [AMD], "v1")
    registry.fold_waiting()
    plan = planned(bucket)
    assert (plan.hashed, plan.hashed_bytes) == (2, len(SHARED.data))
    driver = FaultyDriver(bucket.driver)
    assert back(bucket, bucket.registry(driver=driver)).problems == []
    assert driver.calls["open"] == 2
    assert tags_of_source(bucket)["brand/new"] == {"v1": image(AMD, [SHARED]).digest}


def test_an_object_that_was_found_wrong_and_pushed_again_is_mended(layout: str, bucket: Bucket) -> None:
    prefix = "zot/" if layout == "zot" else ""
    key = data_key(SHARED.digest) if layout == "distribution" else f"{prefix}app/blobs/{path(SHARED.digest)}"
    bucket.driver.write(key, bytes(len(SHARED.data)))
    bucket.adopt()
    registry = bucket.registry()
    digest = Digest(SHARED.digest)
    with registry.blobs.read(registry.blobs.open("app", digest)) as reader, pytest.raises(StorageError):
        deque(iter(partial(reader.read, 1 << 20), b""), maxlen=0)
    push_blob(registry, SHARED.data, "app")
    registry.fold_waiting()
    found = back(bucket)
    assert (found.problems, found.counts["copied"]) == ([], 1)
    assert bucket.objects()[key] == SHARED.data
    check_source(bucket, repositories())
