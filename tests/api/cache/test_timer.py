"""A timer that is set far more often than it rings: it rings once, at the time that was set last."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from registry.api.cache import timer
from registry.api.cache.timer import RestartableTimer

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    """An event loop whose time passes when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], None], Clock]] = []
        self.cancelled = 0

    def time(self) -> float:
        """Seconds."""
        return self.now

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Clock:
        """See asyncio; the handle is the clock itself, since no test has two timers."""
        self.timers.append((self.now + seconds, callback, self))
        return self

    def cancel(self) -> None:
        """Cancel the only timer."""
        self.timers.clear()
        self.cancelled += 1

    def until(self, end: float) -> None:
        """Let time pass, in steps of a quarter."""
        while self.now < end:
            self.now += 0.25
            due, self.timers = (
                [each for each in self.timers if each[0] <= self.now],
                [each for each in self.timers if each[0] > self.now],
            )
            for _, callback, _ in due:
                callback()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timer, "monotonic", clock.time)
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: clock)
    return clock


def _timer(clock: Clock) -> tuple[RestartableTimer, list[float]]:
    """One of 10 seconds, and when it rang."""
    rings: list[float] = []
    return RestartableTimer(10, lambda: rings.append(clock.now)), rings


def test_it_rings_once(clock: Clock) -> None:
    timer, rings = _timer(clock)
    timer.set()
    clock.until(50)
    assert rings == [10]
    assert clock.timers == []


def test_it_rings_so_long_after_it_was_set_last(clock: Clock) -> None:
    timer, rings = _timer(clock)
    for now in (0, 3, 9, 12, 18):
        clock.until(now)
        timer.set()
        assert len(clock.timers) == 1, "however often it is set"
    clock.until(50)
    assert rings == [28]


def test_it_does_not_ring_while_it_is_stopped_and_then_as_if_it_were_new(clock: Clock) -> None:
    timer, rings = _timer(clock)
    timer.set()
    clock.until(5)
    timer.stop()
    clock.until(30)
    assert rings == []
    timer.set()
    clock.until(35)
    timer.stop()
    clock.until(38)
    timer.set()
    clock.until(70)
    assert rings == [48]


def test_a_closed_one_leaves_nothing_behind(clock: Clock) -> None:
    timer, rings = _timer(clock)
    timer.close()
    timer.set()
    timer.close()
    assert clock.timers == []
    clock.until(50)
    assert (rings, clock.cancelled) == ([], 1)
