"""A real store that fails in every way during each phase: the same command again ends it, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from registry.config.settings import Settings
from registry.images.registry import Registry
from registry.migration.command import Run, running
from registry.migration.context import RunOptions
from registry.migration.report import Report
from registry.storage.errors import StorageError
from tests.replicas.conftest import Config
from tests.replicas.test_faults import WAYS
from tests.support.buckets import listing
from tests.support.fault_proxy import FaultProxy
from tests.support.migrated_bucket import check_served
from tests.support.s3_server import S3Server
from tests.support.source_world import Repository, distribution, per_repository, repositories

pytestmark = [pytest.mark.stores, pytest.mark.tools("versitygw")]

KINDS = ("ListObjectsV2", "GetObject", "PutObject", "CopyObject", "HeadObject")
SKIPS = (0, 5)
"""How many requests of a kind pass before the one that fails."""
TRIES = 1 + (1 + len(KINDS)) * len(SKIPS)
STRUCK = ("503", "reset", "answer lost", "response cut")
Work = Callable[[Run], Report]


def impatient(settings: Settings) -> Settings:
    """The same, where a request is sent once and soon given up."""
    assert settings.storage.s3 is not None
    s3 = settings.storage.s3.model_copy(update={"read_timeout": 0.5, "connect_timeout": 0.5, "attempts": 1})
    return settings.model_copy(update={"storage": settings.storage.model_copy(update={"s3": s3})})


def ended(settings: Settings, options: RunOptions, work: Work) -> tuple[Report, int]:
    """The report of the first try that did not fail, and how many did."""
    for failed in range(TRIES):
        try:
            with running(impatient(settings), options) as run:
                return work(run), failed
        except StorageError:
            continue
    raise AssertionError("it never worked")


def strike(way: str, proxy: FaultProxy, kinds: tuple[str, ...] = KINDS) -> None:
    """Have requests of every kind fail in that way, once each, early and later."""
    for kind in kinds:
        for skip in SKIPS:
            WAYS[way](proxy, kind, skip)


def migrating(way: str, store: S3Server, proxy: FaultProxy, config: Config) -> tuple[Settings, str, list[Repository]]:
    """Settings of a bucket that another registry filled, behind the proxy; the bucket, and its content."""
    make = per_repository if STRUCK.index(way) % 2 else distribution
    bucket, content = store.new_bucket(), repositories()
    client = store.client()
    for key, data in make(content).items():
        client.put_object(Bucket=bucket, Key=key, Body=data)
    client.close()
    config["storage"] = store.storage(bucket, proxy.url) | {"root_directory": "/"}
    settings = Settings(**config, migration={"parallel": 4})  # type: ignore[arg-type]
    return settings, bucket, content


def check(settings: Settings, content: list[Repository]) -> None:
    """All that the source had is served."""
    registry = Registry.open(settings)
    check_served(registry, content)
    registry.close()


@pytest.mark.parametrize("way", STRUCK)
def test_each_phase_ends_when_it_is_run_again(way: str, store: S3Server, proxy: FaultProxy, config: Config) -> None:
    settings, bucket, content = migrating(way, store, proxy, config)
    original = listing(store, bucket)
    failures = 0
    phases: tuple[tuple[str, RunOptions, Work], ...] = (
        ("adopted", RunOptions(adopt_only=True), Run.run),
        ("consolidated", RunOptions(), Run.run),
        ("rolled-back", RunOptions(), Run.rollback),
    )
    for state, options, work in phases:
        strike(way, proxy)
        report, failed = ended(settings, options, work)
        failures += failed
        proxy.clear()
        assert (report.state, report.problems) == (state, [])
        check(settings, content)
    assert failures > 2
    now = listing(store, bucket)
    assert {key: now.get(key) for key in original} == original


@pytest.mark.parametrize("way", STRUCK)
def test_finalize_ends_when_it_is_run_again(way: str, store: S3Server, proxy: FaultProxy, config: Config) -> None:
    settings, bucket, content = migrating(way, store, proxy, config)
    original = set(listing(store, bucket))
    with running(settings, RunOptions()) as run:
        assert run.run().state == "consolidated"
    strike(way, proxy, (*KINDS, "DeleteObjects"))
    report, failed = ended(settings, RunOptions(), Run.finalize)
    proxy.clear()
    assert (report.state, report.problems) == ("finalized", [])
    assert failed > 2
    check(settings, content)
    left = original & set(listing(store, bucket))
    indexes = {key for key in left if key.endswith(("/index.json", "/oci-layout"))}
    assert left == indexes, "source objects are gone; ours have some of their names"
