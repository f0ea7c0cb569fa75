"""Where a migration is, told from its journal: before it, in it, and without writing anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.images.migration_journal.documents import UnknownJournal
from registry.migration.status import status
from registry.storage.middleware.faults import Fault, FaultyDriver
from tests.support.migrated_bucket import MAKE, Bucket
from tests.support.source_world import BLOBS, FIRST, MANIFESTS, fill, path, repositories


@pytest.mark.parametrize("layout", MAKE)
def test_each_step_is_told_with_what_goes_on(layout: str, tmp_path: Path) -> None:
    bucket = Bucket(tmp_path, layout)
    none = status(bucket.driver)
    assert (none.migration, none.state, none.next) == (None, "none", "registry migrate-s3-storage --dry-run")

    pushing = Fault("list", "", first=3, effect=lambda: fill(bucket.driver, {"zot/app/.uploads/1": b""}))
    bucket.adopt(bucket.registry(driver=FaultyDriver(bucket.driver, [pushing])))
    moving = status(bucket.driver)
    assert (moving.state, moving.passes, moving.repositories) == ("adopting", 1, 3)
    assert moving.next.endswith("once nothing writes to the source any more")

    bucket.adopt()
    before = bucket.objects()
    found = status(bucket.driver)
    assert bucket.objects() == before
    assert (found.migration, found.state, found.passes, found.taken) == ("0001", "adopted", 2, 3)
    assert (found.blobs, found.copied, found.problems) == (len(BLOBS) + len(MANIFESTS), 0, 0)
    assert found.read_only is None


def test_problems_are_counted(tmp_path: Path) -> None:
    tree = MAKE["zot"](repositories())
    del tree[f"zot/app/blobs/{path(FIRST.digest)}"]
    bucket = Bucket(tmp_path, "zot", tree)
    bucket.adopt()
    assert status(bucket.driver).problems == 1


def test_a_journal_of_a_later_release_is_not_guessed_at(tmp_path: Path) -> None:
    bucket = Bucket(tmp_path, "zot")
    bucket.driver.write("storage/migrations/0001/state.json", b'{"version":2}')
    with pytest.raises(UnknownJournal):
        status(bucket.driver)
    with pytest.raises(UnknownJournal):
        bucket.adopt()
