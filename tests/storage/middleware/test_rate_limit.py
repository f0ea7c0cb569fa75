"""The driver that keeps a pace: how long each operation waits, by a clock that the test sets."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from registry.storage.driver import Capabilities, StorageDriver
from registry.storage.memory import MemoryDriver
from registry.storage.middleware.rate_limit import BURST_SECONDS, Pace, RateLimitedDriver

RATE = 10.0
INTERVAL = 1 / RATE


class Clock:
    """Goes on while a caller sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(seconds)
        self.now += seconds


class Store(MemoryDriver):
    """Copies in parts above 100 bytes, and deletes three at once."""

    capabilities: Capabilities = replace(MemoryDriver.capabilities, copy_bytes=100, copy_part_bytes=50, delete_batch=3)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def driver(clock: Clock) -> RateLimitedDriver:
    return RateLimitedDriver(Store(), RATE, Pace(RATE, clock=clock, sleep=clock.sleep))


def test_requests_come_one_after_the_other_at_the_rate(driver: RateLimitedDriver, clock: Clock) -> None:
    for number in range(50):
        driver.write(f"a/{number}", b"x")
    assert clock.now - 1000 == pytest.approx(49 * INTERVAL)


def test_what_was_not_asked_for_is_saved_for_a_tenth_of_a_second_only(clock: Clock) -> None:
    pace = Pace(100, clock=clock, sleep=clock.sleep)
    clock.now += 3600
    for _ in range(200):
        pace.wait(1)
    assert clock.now - 4600 == pytest.approx(199 / 100 - BURST_SECONDS)


def test_all_threads_together_keep_the_rate() -> None:
    """The clock stands still, so that each hears how long it has to wait, in whatever order they come."""
    waits: list[float] = []
    pace = Pace(RATE, clock=lambda: 5.0, sleep=waits.append)
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(pace.wait, 1) for _ in range(80)]:
            done.result()
    assert sorted(waits) == pytest.approx([number * INTERVAL for number in range(1, 80)])


def read_slowly(driver: StorageDriver) -> None:
    with driver.open("there") as reader:
        while reader.read(1):
            pass


@pytest.mark.parametrize(
    ("operation", "requests"),
    [
        (lambda driver: driver.stat("there"), 1),
        (lambda driver: driver.read("there", max_bytes=1000), 1),
        (read_slowly, 1),
        (lambda driver: list(driver.list("many")), 3),
        (lambda driver: list(driver.children("")), 2),
        (lambda driver: driver.delete([]), 0),
        (lambda driver: driver.delete(iter(["many/0001", "many/0002", "many/0003"])), 1),
        (lambda driver: driver.delete(["a", "b", "c", "d"]), 2),
        (lambda driver: driver.copy("there", "b", size=100, if_etag="1"), 1),
        (lambda driver: driver.copy("there", "b", size=101, if_etag="1"), 2 + 3),
    ],
    ids=["stat", "read", "open", "list", "children", "none", "delete", "deletes", "copy", "parts"],
)
def test_an_operation_waits_for_as_many_requests_as_it_makes(
    driver: RateLimitedDriver, clock: Clock, operation: Callable[[StorageDriver], object], requests: int
) -> None:
    driver.inner.write("there", b"x" * 100)
    for number in range(2000):
        driver.inner.write(f"many/{number:04d}", b"x")
    operation(driver)
    driver.stat("there")
    assert clock.now - 1000 == pytest.approx(requests * INTERVAL)
