"""A collection of a bucket that was migrated: what the source registry has stays, and the way back is open."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from registry.images.migration_journal.documents import Phase
from registry.storage.middleware.faults import Fault, FaultyDriver
from tests.support.collection import settle
from tests.support.migrated_bucket import Bucket, check_served
from tests.support.registry_world import REPLICAS_KIND, open_world
from tests.support.rollback import back, change, check_source, source_tree
from tests.support.source_world import TREE, repositories

NOW = {"lease": 0, "grace": 0, "undelete_window": 0}


@pytest.fixture(params=["memory", REPLICAS_KIND])
def bucket(request: pytest.FixtureRequest, layout: str, tmp_path: Path) -> Iterator[Bucket]:
    made = Bucket(tmp_path, layout, world=open_world(request, tmp_path, request.param))
    yield made
    made.world.close()


@pytest.mark.parametrize("consolidated", [False, True], ids=["adopted", "consolidated"])
def test_originals_are_untouched_and_the_source_serves_again(bucket: Bucket, *, consolidated: bool) -> None:
    """Check 21 of lifecycle.md, section 7: adopt, delete, collect, roll back."""
    if consolidated:
        assert bucket.run().state == Phase.CONSOLIDATED
    else:
        bucket.adopt()
    content = change(bucket.registry())
    registry = bucket.registry()
    registry.manifests.delete("brand/new", registry.manifests.find("brand/new", "v1").digest, actor="client")
    registry.fold_waiting()
    content = [each for each in content if each.name != "brand/new"]
    originals = _originals(bucket)
    driver = FaultyDriver(bucket.driver, [Fault("delete*", "zot*/blobs/*"), Fault("delete*", f"{TREE}/*")])
    bucket.world.clock.now += 1
    removed = settle(bucket.registry(driver=driver, **NOW), untagged_after=0.0)
    assert removed
    assert not driver.struck, "no delete of an original was tried"
    assert _originals(bucket) == originals
    check_served(bucket.registry(), content)
    found = back(bucket)
    assert (found.state, found.problems) == (Phase.ROLLED_BACK, [])
    check_source(bucket, content)
    assert _originals(bucket) == originals


def _originals(bucket: Bucket) -> dict[str, bytes]:
    """The blobs of the source, as they were before the migration."""
    tree = source_tree(bucket)
    return {key: tree[key] for key in bucket.source if fnmatchcase(key, "*/blobs/*") and key in tree}


def test_what_nobody_changed_is_served_as_before(bucket: Bucket) -> None:
    bucket.adopt()
    before = source_tree(bucket)
    settle(bucket.registry(**NOW))
    bucket.world.clock.now += 10
    settle(bucket.registry(**NOW))
    assert source_tree(bucket) == before
    check_served(bucket.registry(), repositories())
