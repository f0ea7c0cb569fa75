"""What a run may do in which state, and what a plan that was kept covers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from registry.config.file import ConfigError
from registry.migration.context import RunOptions
from registry.migration.report import Refused
from registry.migration.review.plan_file import SavedPlan
from registry.migration.review.requests import Tally
from registry.migration.review.review import Options, Review
from registry.oci.errors import Unavailable
from registry.storage.middleware.metrics import MeasuredDriver
from tests.support.migrated_bucket import MAKE, Bucket, check_served
from tests.support.payloads import Blob, image
from tests.support.registry_world import push_blob, push_manifest
from tests.support.source_world import (
    AMD,
    NOTHING,
    ON_AMD,
    PLAIN,
    SHARED,
    Repository,
    data_key,
    fill,
    ours,
    path,
    repositories,
)

STATE = "storage/migrations/0001/state.json"


@pytest.fixture(params=MAKE)
def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> Bucket:
    return Bucket(tmp_path, str(request.param))


def planned(bucket: Bucket, file: Path) -> RunOptions:
    """What a review of the bucket as it is keeps."""
    tally = Tally()
    driver = MeasuredDriver(bucket.driver, tally.observe)
    Review(driver, bucket.settings(), Options(), tally, bucket="b").run().write(file)
    return RunOptions(SavedPlan.read(file), adopt_only=True)


def move(bucket: Bucket, state: str) -> None:
    document = json.loads(bucket.driver.read(STATE, max_bytes=9999)[0])
    bucket.driver.write(STATE, json.dumps(document | {"state": state}).encode())


def test_a_bucket_of_stowage_alone_has_nothing_to_migrate(tmp_path: Path) -> None:
    bucket = Bucket(tmp_path, "distribution", ours())
    assert bucket.run().state == ""
    assert bucket.objects() == bucket.source


@pytest.mark.parametrize(("state", "advice"), [("rolling-back", "--rollback"), ("finalizing", "--finalize")])
def test_a_run_is_refused_where_another_course_was_taken(state: str, advice: str, bucket: Bucket) -> None:
    bucket.adopt()
    move(bucket, state)
    before = bucket.objects()
    with pytest.raises(Refused, match=advice):
        bucket.run()
    assert bucket.objects() == before


def test_after_the_end_nothing_is_left_to_do(bucket: Bucket) -> None:
    bucket.adopt()
    move(bucket, "finalized")
    before = bucket.objects()
    assert bucket.run().state == "finalized"
    assert bucket.objects() == before


def test_after_a_rollback_the_next_migration_takes_what_the_source_did_since(bucket: Bucket) -> None:
    bucket.run()
    registry = bucket.registry()
    mine = image(AMD, [Blob(b"mine")])
    push_blob(registry, b"mine", "app")
    push_manifest(registry, mine, "own", name="app")
    registry.manifests.untag("team/web", "stable", actor="client")
    registry.fold_waiting()
    assert bucket.process().rollback().state == "rolled-back"
    with pytest.raises(Unavailable):
        push_manifest(bucket.registry(), mine, "refused", name="app")
    content = repositories()
    content[0].tags["own"] = mine
    content[0].blobs.append(Blob(b"mine"))
    del content[1].tags["stable"]
    check_served(bucket.registry(), content)
    before = MAKE[bucket.layout](content)
    content[2].tags["v2"] = PLAIN
    content[2].blobs += [AMD, NOTHING]
    del content[0].tags["amd"]
    content[0].untagged.append(ON_AMD)
    after = MAKE[bucket.layout](content)
    fill(bucket.driver, {key: data for key, data in after.items() if before.get(key) != data})
    bucket.driver.delete(before.keys() - after.keys())
    found = bucket.run()
    assert (found.state, found.problems) == ("consolidated", [])
    assert "storage/migrations/0002/state.json" in bucket.objects()
    check_served(bucket.registry(), content)
    push_manifest(bucket.registry(), mine, "again", name="app")
    assert bucket.run().notes == []


def test_a_plan_covers_the_bucket_that_it_was_made_of_whatever_stowage_does(bucket: Bucket, tmp_path: Path) -> None:
    options = planned(bucket, tmp_path / "plan")
    registry = bucket.registry()
    push_blob(registry, b"mine", "app")
    push_manifest(registry, image(Blob(b"mine"), [Blob(b"mine")]), "own", name="app")
    registry.fold_waiting()
    fill(bucket.driver, {"app/.uploads/1234": b"half", "team/.sync/1/x": b""})
    assert bucket.run(options=options).state == "adopted"
    bucket.world.clock.now += 60
    bucket.registry().fold_waiting()
    assert bucket.run(options=options).state == "adopted"
    check_served(bucket.registry(), repositories()[1:])


@pytest.mark.parametrize("layout", MAKE)
def test_whatever_else_has_changed_is_named_before_anything_is_written(layout: str, tmp_path: Path) -> None:
    bucket = Bucket(tmp_path, layout)
    tree = bucket.source
    options = planned(bucket, tmp_path / "plan")
    if layout == "distribution":
        link = "docker/registry/v2/repositories/app/_manifests/tags/v9/current/link"
        fill(bucket.driver, {data_key(SHARED.digest): SHARED.data, link: ON_AMD.digest.encode()})
        named = {"app: changed since", f"blobs sha256:{SHARED.digest[7:9]}...: others than in the plan"}
    else:
        key = next(key for key in tree if key.endswith(f"app/blobs/{path(SHARED.digest)}"))
        fill(bucket.driver, {key: SHARED.data})
        bucket.driver.delete([key for key in tree if "nested" in key])
        named = {"app: changed since", "team/web/nested: gone since"}
    before = bucket.objects()
    with pytest.raises(Refused, match="not as it was reviewed") as refused:
        bucket.run(options=options)
    assert named <= set(refused.value.names)
    assert bucket.objects() == before


def test_a_repository_that_came_since_is_named(bucket: Bucket, tmp_path: Path) -> None:
    options = planned(bucket, tmp_path / "plan")
    bucket.become([*repositories(), Repository("new", {"v1": ON_AMD}, [], [AMD, SHARED])])
    with pytest.raises(Refused) as refused:
        bucket.run(options=options)
    assert "new: not in the plan" in refused.value.names


def test_a_plan_of_another_bucket_is_refused(bucket: Bucket, tmp_path: Path) -> None:
    options = planned(bucket, tmp_path / "plan")
    bucket.root = "elsewhere" if bucket.root == "/" else "/"
    with pytest.raises(Refused) as refused:
        bucket.run(options=options)
    assert refused.value.names[0].startswith("the plan is of a ")


@pytest.mark.parametrize("break_it", ["cut", "changed", "empty", "other", "nothing", "directory"])
def test_a_plan_that_is_not_whole_is_a_mistake_of_usage(break_it: str, tmp_path: Path) -> None:
    bucket, file = Bucket(tmp_path, "zot"), tmp_path / "plan"
    planned(bucket, file)
    data = file.read_bytes()
    broken = {
        "cut": data[: len(data) // 2],
        "changed": data.replace(b'"app"', b'"apt"'),
        "empty": b"",
        "other": b"{}\n" + data,
    }
    if break_it in broken:
        file.write_bytes(broken[break_it])
    else:
        file = tmp_path if break_it == "directory" else tmp_path / "nothing"
    with pytest.raises(ConfigError, match="--plan"):
        SavedPlan.read(file)
