"""The gate of a store: so many requests at once, and at once no for the next one where nothing comes back."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from registry.storage.errors import StorageUnavailable
from registry.storage.object_store import gate as gate_module
from registry.storage.object_store.gate import (
    MOST_SILENT_SECONDS,
    REMEMBERED_SECONDS,
    SILENT_SECONDS,
    TIMES,
    StoreGate,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG = 20.0
BIT = 0.001


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(gate_module, "monotonic", clock)
    return clock


@contextmanager
def hanging(gate: StoreGate, number: int) -> Iterator[None]:
    """So many requests of other threads are under way in the block."""
    inside, go_on = threading.Semaphore(0), threading.Event()

    def ask() -> None:
        with gate.enter("hangs"):
            inside.release()
            assert go_on.wait(LONG)

    threads = [threading.Thread(target=ask) for _ in range(number)]
    for thread in threads:
        thread.start()
    try:
        for _ in threads:
            assert inside.acquire(timeout=LONG)
        yield
    finally:
        go_on.set()
        for thread in threads:
            thread.join(LONG)


def is_refused(gate: StoreGate) -> bool:
    try:
        with gate.enter("another"):
            return False
    except StorageUnavailable as error:
        return "requests wait" in error.reason


def answered_after(gate: StoreGate, clock: Clock, seconds: float) -> None:
    """A request that the store answers."""
    with gate.enter("answered"):
        clock.now += seconds
        gate.move()


def test_a_silent_store_gets_no_further_request_and_one_that_answers_again_does(clock: Clock) -> None:
    gate = StoreGate(3)
    with hanging(gate, 3):
        clock.now += SILENT_SECONDS
        assert is_refused(gate)
        assert is_refused(gate)
    assert not is_refused(gate)


def test_a_silent_store_that_has_room_is_asked(clock: Clock) -> None:
    gate = StoreGate(3)
    with hanging(gate, 2):
        clock.now += SILENT_SECONDS
        with hanging(gate, 1):
            assert is_refused(gate)  # that one was let in tells nothing of the store


def test_while_a_store_works_a_request_waits_for_room(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, waits = StoreGate(1), threading.Event()
    ended: list[bool] = []
    wait = gate._changed.wait

    def note(seconds: float | None = None) -> bool:
        waits.set()
        return wait(seconds)

    monkeypatch.setattr(gate._changed, "wait", note)
    asking = threading.Thread(target=lambda: ended.append(is_refused(gate)))
    with hanging(gate, 1):
        asking.start()
        for _ in range(3):
            assert waits.wait(LONG)
            waits.clear()
            assert ended == []
            clock.now += SILENT_SECONDS - BIT
            gate.move()  # a byte has come: the request looks again, and waits again
            with gate._changed:
                gate._changed.notify()
        assert waits.wait(LONG)
    asking.join(LONG)
    assert ended == [False]


@pytest.mark.parametrize(
    ("slowest", "patience"),
    [
        (SILENT_SECONDS / TIMES / 2, SILENT_SECONDS),
        (SILENT_SECONDS, TIMES * SILENT_SECONDS),
        (MOST_SILENT_SECONDS, MOST_SILENT_SECONDS),
    ],
)
def test_a_store_is_silent_after_several_times_as_long_as_it_took_lately(
    clock: Clock, slowest: float, patience: float
) -> None:
    gate = StoreGate(1)
    answered_after(gate, clock, slowest)
    with hanging(gate, 1):
        clock.now += patience - BIT
        assert gate._most_silent() == patience
        clock.now += 2 * BIT
        assert is_refused(gate)


def test_how_long_a_store_took_is_forgotten_after_a_while(clock: Clock) -> None:
    gate = StoreGate(1)
    answered_after(gate, clock, SILENT_SECONDS)
    clock.now += REMEMBERED_SECONDS + BIT
    assert gate._most_silent() == SILENT_SECONDS
    answered_after(gate, clock, SILENT_SECONDS / 2)
    with hanging(gate, 1):
        assert gate._most_silent() == TIMES * SILENT_SECONDS / 2
        clock.now += TIMES * SILENT_SECONDS / 2 + BIT
        assert is_refused(gate)


def test_a_request_that_fails_does_not_make_a_store_slow(clock: Clock) -> None:
    gate = StoreGate(1)

    def fail() -> None:
        with gate.enter("fails"):
            clock.now += SILENT_SECONDS
            raise StorageUnavailable("fails", "no answer")

    with pytest.raises(StorageUnavailable):
        fail()
    with hanging(gate, 1):
        clock.now += SILENT_SECONDS
        assert is_refused(gate)


def test_a_request_within_another_needs_no_room_of_its_own() -> None:
    gate = StoreGate(1)
    with gate.enter("outer"), gate.enter("inner"):
        pass
    with gate.enter("again"):
        pass
