"""A real store that fails in every way during each phase: the same command again ends it, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from registry.config import Settings
from registry.images.core import Core
from registry.migration.context import RunOptions
from registry.migration.report import Report
from registry.migration.run import Run, running
from registry.storage.errors import StorageError
from tests.far.conftest import Config
from tests.far.test_faults import WAYS
from tests.migration.adopting import check_served
from tests.migration.filling import listing
from tests.migration.world import distribution, per_repository, repositories
from tests.stores.fault_proxy import FaultProxy
from tests.stores.s3_server import S3Server

pytestmark = [pytest.mark.stores, pytest.mark.tools("versitygw")]

KINDS = ("ListObjectsV2", "GetObject", "PutObject", "CopyObject", "HeadObject")
SKIPS = (0, 5)
"""How many requests of a kind pass before the one that fails."""
TRIES = 1 + len(KINDS) * len(SKIPS)
STRUCK = ("503", "reset", "answer lost", "response cut")
Work = Callable[[Run], Report]


def ended(settings: Settings, options: RunOptions, work: Work) -> tuple[Report, int]:
    """The report of the first try that did not fail, and how many did."""
    for failed in range(TRIES):
        try:
            with running(settings, options) as run:
                return work(run), failed
        except StorageError:
            continue
    raise AssertionError("it never worked")


@pytest.mark.parametrize("way", STRUCK)
def test_each_phase_ends_when_it_is_run_again(
    way: str, store: S3Server, proxy: FaultProxy, config: Config, tmp_path: Path
) -> None:
    make = per_repository if STRUCK.index(way) % 2 else distribution
    bucket, content = store.new_bucket(), repositories()
    client = store.client()
    for key, data in make(content).items():
        client.put_object(Bucket=bucket, Key=key, Body=data)
    client.close()
    original = listing(store, bucket)
    config["storage"] = store.storage(bucket, proxy.url) | {"root_directory": "/"}
    config["storage"]["s3"] |= {"read_timeout": 0.5, "connect_timeout": 0.5, "attempts": 1}
    settings = Settings(**config, migration={"parallel": 4})  # type: ignore[arg-type]
    failures = 0
    phases: tuple[tuple[str, RunOptions, Work], ...] = (
        ("adopted", RunOptions(adopt_only=True), Run.run),
        ("consolidated", RunOptions(), Run.run),
        ("rolled-back", RunOptions(), Run.rollback),
    )
    for state, options, work in phases:
        for kind in KINDS:
            for skip in SKIPS:
                WAYS[way](proxy, kind, skip)
        report, failed = ended(settings, options, work)
        failures += failed
        proxy.clear()
        assert (report.state, report.problems) == (state, [])
        core = Core.open(settings)
        check_served(core, content)
        core.close()
    assert failures > 2
    now = listing(store, bucket)
    assert {key: now.get(key) for key in original} == original
