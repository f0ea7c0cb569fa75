"""How fast a collection deletes, and when it has to stop."""

from __future__ import annotations

import threading

import pytest

from registry.maintenance.collection.budget import Budget, Stopped


class Waits(threading.Event):
    """An event that is waited for by a clock of the test."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def wait(self, timeout: float | None = None) -> bool:
        self.now += timeout or 0.0
        return self.is_set()


def test_so_many_objects_a_second_are_deleted_and_no_more() -> None:
    stop = Waits()
    budget = Budget(100, stop=stop, now=lambda: stop.now)
    for _ in range(10):
        budget.take(50)
    assert stop.now == pytest.approx(4.5, abs=0.2), "the first part needs no wait"


def test_without_a_rate_nothing_waits() -> None:
    stop = Waits()
    budget = Budget(None, stop=stop, now=lambda: stop.now)
    budget.take(1_000_000)
    budget.take(1)
    assert stop.now == 0


def test_a_run_stops_before_it_waits_and_while_it_waits() -> None:
    class Ends(Waits):
        def wait(self, timeout: float | None = None) -> bool:
            self.set()
            return super().wait(timeout)

    ending = Ends()
    budget = Budget(1, stop=ending, now=lambda: ending.now)
    budget.take(10)
    with pytest.raises(Stopped):
        budget.take(1)
    with pytest.raises(Stopped):
        budget.look()


def test_each_part_asks_whether_the_run_is_still_its_own() -> None:
    asked = []
    budget = Budget(None, require_mine=lambda: asked.append(1))
    budget.take(1)
    budget.take(1)
    assert len(asked) == 2
