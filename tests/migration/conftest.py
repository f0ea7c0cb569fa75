"""Buckets of each layout, and a review of a tree, on the memory driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry.config.settings import Settings
from registry.migration.review.plan_file import Plan
from registry.migration.review.requests import Tally
from registry.migration.review.review import Options, Review
from registry.storage.memory import MemoryDriver
from registry.storage.middleware.metrics import MeasuredDriver
from tests.support.migrated_bucket import MAKE, Bucket
from tests.support.source_world import Tree, fill

Reviewing = Callable[..., Plan]


@pytest.fixture(params=MAKE)
def layout(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def bucket(layout: str, tmp_path: Path) -> Iterator[Bucket]:
    bucket = Bucket(tmp_path, layout)
    yield bucket
    bucket.world.close()


@pytest.fixture
def reviewing() -> Reviewing:
    """Reviews a tree; ``root`` is the root directory of the settings, below which the keys of the tree are."""

    def run(
        tree: Tree, options: Options | None = None, *, root: str = "zot", driver: MemoryDriver | None = None
    ) -> Plan:
        store = driver or MemoryDriver()
        fill(store, tree)
        tally = Tally()
        settings = Settings(storage={"driver": "s3", "root_directory": root, "s3": {"bucket": "b"}})  # type: ignore[arg-type]
        return Review(MeasuredDriver(store, tally.observe), settings, options or Options(), tally, bucket="b").run()

    return run
