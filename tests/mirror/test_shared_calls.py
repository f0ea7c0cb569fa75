"""Threads that want the same at once have one call, and one that comes later has its own."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from registry.mirror.shared_calls import SharedCalls


class Slow:
    """Ends when a test lets it, and counts its calls."""

    def __init__(self, error: Exception | None = None) -> None:
        self.count = 0
        self.begun, self.may_end = threading.Event(), threading.Event()
        self._error = error

    def __call__(self) -> int:
        self.count += 1
        self.begun.set()
        assert self.may_end.wait(60)
        if self._error is not None:
            raise self._error
        return self.count


def test_all_have_the_result_of_one() -> None:
    shared: SharedCalls[int] = SharedCalls()
    slow = Slow()
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(shared.run, "a", slow)
        assert slow.begun.wait(60)
        rest = [pool.submit(shared.run, "a", slow) for _ in range(7)]
        assert shared.run("b", lambda: 7) == 7, "what is wanted of something else waits for nothing"
        while any(not each.running() for each in rest):
            threading.Event().wait(0.001)
        threading.Event().wait(0.1)
        slow.may_end.set()
        assert {each.result(60) for each in (first, *rest)} == {1}
    assert shared.run("a", slow) == 2


def test_all_have_the_error_of_one_and_the_next_tries_again() -> None:
    shared: SharedCalls[int] = SharedCalls()
    slow = Slow(KeyError("a"))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(shared.run, "a", slow)
        assert slow.begun.wait(60)
        second = pool.submit(shared.run, "a", slow)
        while not second.running():
            threading.Event().wait(0.001)
        threading.Event().wait(0.1)
        slow.may_end.set()
        for each in (first, second):
            with pytest.raises(KeyError):
                each.result(60)
    assert slow.count == 1
    assert shared.run("a", lambda: 3) == 3
