"""A token is asked for once, however many threads want it, and a failure is not repeated by each.

This is check 23 of mirrors.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from registry.upstream.errors import TokenUnavailable, UpstreamUnavailable
from registry.upstream.renewal import REMEMBERED, Renewal


class Source:
    """Gives numbers that last 100 seconds, or fails, and has the clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.asked = 0
        self.error: UpstreamUnavailable | None = None
        self.renewal = Renewal(self.load, lambda: self.now)

    def load(self, seconds: float) -> tuple[int, float]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.asked, 100.0


def test_a_value_is_renewed_at_four_fifths_of_its_life() -> None:
    source = Source()
    seen = []
    for second in (0, 79, 80, 100, 159, 160, 1000):
        source.now = 1000.0 + second
        seen.append(source.renewal.get().value)
    assert seen == [1, 1, 2, 2, 2, 3, 4]


def test_a_value_that_cannot_be_renewed_serves_until_its_end() -> None:
    source = Source()
    assert source.renewal.get().value == 1
    source.error = UpstreamUnavailable("no")
    source.now += 80
    assert [source.renewal.get().value for _ in range(3)] == [1, 1, 1]
    assert source.asked == 2
    source.now += REMEMBERED
    assert source.renewal.get().value == 1
    assert source.asked == 3
    source.now += 20
    with pytest.raises(UpstreamUnavailable):
        source.renewal.get()


@pytest.mark.parametrize(("seconds", "pause"), [(None, REMEMBERED), (1.0, REMEMBERED), (120.0, 120.0), (1e9, 3600.0)])
def test_a_failure_is_remembered_as_long_as_the_realm_says(seconds: float | None, pause: float) -> None:
    source = Source()
    source.error = TokenUnavailable("limited", seconds)
    for second in (0.0, 1.0, pause - 1):
        source.now = 1000.0 + second
        with pytest.raises(TokenUnavailable):
            source.renewal.get()
    assert source.asked == 1
    source.error = None
    source.now = 1000.0 + pause
    assert source.renewal.get().value == 2


def test_a_rejected_value_is_replaced_once() -> None:
    source = Source()
    old = source.renewal.get()
    source.renewal.reject(old)
    new = source.renewal.get()
    source.renewal.reject(old)
    assert (source.renewal.get(), new.value) == (new, 2)


def test_many_threads_are_one_request() -> None:
    source = Source()
    go_on = threading.Event()
    load = source.load

    def slowly(seconds: float) -> tuple[int, float]:
        go_on.wait()
        return load(seconds)

    renewal = Renewal(slowly, lambda: source.now)
    with ThreadPoolExecutor(20) as pool:
        first = [pool.submit(renewal.get) for _ in range(20)]
        go_on.set()
        assert {each.result().value for each in first} == {1}
        go_on.clear()
        source.now += 90
        renewing = pool.submit(renewal.get)
        while not renewal._lock.locked():
            pass
        assert {pool.submit(renewal.get).result().value for _ in range(10)} == {1}
        go_on.set()
        assert renewing.result().value == 2
    assert source.asked == 2
