"""A store that fails once, anywhere in a run: the command is not finished, and the same command ends it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from registry.storage.errors import StorageError, StorageUnavailable, Throttled
from registry.storage.middleware.faults import Fault, FaultyDriver, When
from tests.support.kills import objects, rows
from tests.support.migrated_bucket import MAKE, Bucket, check_served
from tests.support.source_world import repositories

SAMPLED = 73
EVERY = pytest.param(1, id="every-call", marks=pytest.mark.stores)


def started(directory: Path, layout: str) -> Bucket:
    directory.mkdir()
    bucket = Bucket(directory, layout)
    bucket.world.clock.now = 1_800_000_000.0
    return bucket


@pytest.mark.parametrize(
    ("moment", "effect"),
    [(When.BEFORE, Throttled), (When.AFTER, StorageUnavailable)],
    ids=["throttled", "answer-lost"],
)
@pytest.mark.parametrize("layout", MAKE)
@pytest.mark.parametrize("step", [pytest.param(SAMPLED, id="sample"), EVERY])
def test_a_run_that_failed_is_ended_by_the_next(
    step: int, layout: str, moment: When, effect: type[StorageError], tmp_path: Path
) -> None:
    whole = started(tmp_path / "whole", layout)
    counting = FaultyDriver(whole.driver)
    whole.run(whole.registry(driver=counting))
    expected_objects, expected_rows = objects(whole), rows(whole)
    whole.world.close()
    failed = 0
    for first in range(1 + len(layout) % step, counting.calls.total() + 1, step):
        bucket = started(tmp_path / f"failed-{first}", layout)
        fault = Fault(first=first, moment=moment, effect=effect)
        with contextlib.suppress(StorageError):
            bucket.run(bucket.registry(driver=FaultyDriver(bucket.driver, [fault])))
            failed -= 1
        failed += 1
        found = bucket.run(bucket.registry())
        assert (found.state, found.problems) == ("consolidated", []), first
        assert objects(bucket) == expected_objects, first
        assert rows(bucket) == expected_rows, first
        check_served(bucket.registry(), repositories())
        bucket.world.close()
    assert failed > 1
