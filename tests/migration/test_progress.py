"""What is told of a phase while it goes on."""

from __future__ import annotations

import pytest

from registry.migration.progress import WINDOW_SECONDS, Meter, Progress


class Clock:
    """Seconds, as a test sets them."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def heard() -> list[Progress]:
    return []


def test_rates_and_the_time_that_is_left(clock: Clock, heard: list[Progress]) -> None:
    meter = Meter("copying", 100, 1000, heard.append, clock)
    for _ in range(10):
        clock.now += 1
        meter.add(2, 10)
    last = heard[-1]
    assert (last.phase, last.objects, last.of, last.bytes, last.of_bytes) == ("copying", 20, 100, 100, 1000)
    assert (last.per_second, last.bytes_per_second) == (2.0, 10.0)
    assert last.seconds_left == 90.0, "its bytes take longer than its objects"


def test_before_time_has_passed_there_is_no_rate(clock: Clock, heard: list[Progress]) -> None:
    Meter("copying", 10, 10, heard.append, clock).add(1, 1)
    assert (heard[-1].per_second, heard[-1].seconds_left) == (0.0, None)


def test_what_was_done_long_ago_does_not_count_for_the_rate(clock: Clock, heard: list[Progress]) -> None:
    meter = Meter("copying", 10_000, 10_000, heard.append, clock)
    meter.add(5000, 5000)
    for _ in range(int(2 * WINDOW_SECONDS)):
        clock.now += 1
        meter.add(1, 1)
    assert heard[-1].per_second == pytest.approx(1.0)


def test_at_the_end_nothing_is_left_and_more_than_was_known_is_no_error(clock: Clock, heard: list[Progress]) -> None:
    meter = Meter("copying", 2, 0, heard.append, clock)
    clock.now += 1
    meter.add(3, 50)
    assert (heard[-1].of, heard[-1].of_bytes, heard[-1].seconds_left) == (3, 50, 0.0)
