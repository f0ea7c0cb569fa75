"""Prices follow the table of the configuration, times the rate that was measured."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from registry.config.sections import MigrationSettings, PricesSettings
from registry.config.settings import load_settings
from registry.migration.review.counts import Counts, Work
from registry.migration.review.estimate import GIB, Estimator, Prices, Rate
from registry.migration.review.requests import Requests, Tally
from registry.storage.driver import Capabilities
from registry.storage.memory import MemoryDriver


def test_each_kind_of_request_has_its_price_for_a_thousand() -> None:
    table = PricesSettings(lists=1, heads=10, gets=100, puts=1000, copies=10_000, deletes=100_000)
    assert Prices(table).of(Requests(1, 1, 1, 1, 1, 1)) == 111.111
    assert Prices(table).of(Requests(list=2500)) == 2.5


def test_bytes_are_priced_by_the_gib() -> None:
    prices = Prices(PricesSettings(gib_read=0.09, gib_month=0.02))
    assert prices.of(Requests(), 10 * GIB) == 0.9
    assert prices.month(GIB // 2) == 0.01


def test_the_defaults_are_those_of_s3_standard() -> None:
    requests = Requests(list=1000, head=1000, get=1000, put=1000, copy=1000, delete=1000)
    assert Prices(MigrationSettings().prices).of(requests, GIB) == pytest.approx(0.005 * 3 + 0.0004 * 2)


def test_prices_can_be_set_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_MIGRATION__PRICES__GIB_MONTH", "0.5")
    settings = load_settings(None).migration
    assert settings.prices == PricesSettings(gib_month=0.5)
    assert Prices(settings.prices).month(GIB) == 0.5


def test_time_is_listings_one_by_one_and_the_rest_by_the_rate() -> None:
    rate = Rate(requests_per_second=100.0, seconds_per_listing=0.5, bytes_per_second=1000.0)
    assert rate.seconds(Requests(list=4, get=200, put=100), 5000) == 4 * 0.5 + 3 + 5
    unmeasured = Rate(requests_per_second=None, seconds_per_listing=0.5)
    assert unmeasured.seconds(Requests(list=4), 5000) == 2
    assert unmeasured.seconds(Requests(get=1), 0) is None


def _estimate(work: Work, capabilities: Capabilities = MemoryDriver.capabilities) -> tuple[int, int]:
    estimating = Estimator(
        work, Counts(), 2500, Prices(PricesSettings()), Rate(requests_per_second=1.0, seconds_per_listing=1.0), 2.0
    )
    found = estimating.estimate(Requests(), 0, 0.0, capabilities, link_requests=0)
    assert found.finalize.requests.list == 3
    return found.consolidate.requests.copy, found.finalize.requests.delete


def test_what_is_too_large_for_one_copy_is_copied_in_parts() -> None:
    in_parts = replace(MemoryDriver.capabilities, copy_part_bytes=GIB)
    assert _estimate(Work(uncopied=3), in_parts) == (3, 0)
    assert _estimate(Work(uncopied=3, copied_in_parts=[6 * GIB, 7 * GIB + 1]), in_parts) == (1 + 8 + 10, 0)


def test_deletions_are_batched_as_the_store_can() -> None:
    many = replace(MemoryDriver.capabilities, delete_batch=1000)
    assert _estimate(Work(deleted=2001)) == (0, 2001)
    assert _estimate(Work(deleted=2001), many) == (0, 3)


def test_requests_are_counted_by_kind_in_every_thread_and_what_is_no_request_left_out() -> None:
    tally = Tally()

    def observe() -> None:
        for kind in ("list", "get", "head", "get", None):
            for _ in range(100):
                tally.observe("s3", "operation", kind, 0.5, failed=False)

    threads = [threading.Thread(target=observe) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tally.requests == Requests(list=400, head=400, get=800)
    assert tally.requests.total == 1600
    assert tally.requests + Requests(put=1) == Requests(list=400, head=400, get=800, put=1)
