"""The gate of a store: so many requests at once, and at once no for the next one where nothing comes back."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from registry.storage.errors import StorageUnavailable
from registry.storage.object_store import gate as gate_module
from registry.storage.object_store.gate import SILENT_SECONDS, StoreGate

LONG = 20.0


def test_a_silent_store_gets_no_further_request_and_one_that_answers_again_does() -> None:
    gate, go_on, inside = StoreGate(3), threading.Event(), threading.Semaphore(0)

    def ask() -> None:
        with gate.enter("key"):
            inside.release()
            go_on.wait(LONG)
            gate.move()

    with ThreadPoolExecutor(3) as pool:
        hanging = [pool.submit(ask) for _ in range(3)]
        for _ in range(3):
            assert inside.acquire(timeout=LONG)
        began = time.monotonic()
        with pytest.raises(StorageUnavailable, match="3 requests wait"), gate.enter("another"):
            pytest.fail("it was let in")
        first = time.monotonic() - began
        assert first < SILENT_SECONDS * 4
        began = time.monotonic()
        for _ in range(100):
            with pytest.raises(StorageUnavailable), gate.enter("another"):
                pytest.fail("it was let in")
        assert time.monotonic() - began < SILENT_SECONDS
        go_on.set()
        for call in hanging:
            call.result(LONG)
    with gate.enter("another"):
        pass


def test_while_a_store_works_a_request_waits_for_room() -> None:
    gate = StoreGate(1)
    stop = threading.Event()

    def send_slowly() -> None:
        with gate.enter("large"):
            while not stop.wait(0.05):
                gate.move()

    sending = threading.Thread(target=send_slowly)
    sending.start()
    ended = threading.Timer(SILENT_SECONDS * 1.5, stop.set)
    ended.start()
    time.sleep(0.1)
    with gate.enter("small"):
        assert stop.is_set()
    sending.join()


def test_a_store_is_not_silent_while_it_takes_no_longer_than_it_took_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "SILENT_SECONDS", 0.5)
    gate, is_inside = StoreGate(1), threading.Event()
    with gate.enter("slow"):
        time.sleep(1)
        gate.move()

    def ask() -> None:
        with gate.enter("as slow"):
            is_inside.set()
            time.sleep(1)
            gate.move()

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        assert is_inside.wait(LONG)
        with gate.enter("another"):
            pass
        asking.result(LONG)


def test_a_request_that_fails_does_not_make_a_store_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "SILENT_SECONDS", 0.1)
    gate, is_inside, go_on = StoreGate(1), threading.Event(), threading.Event()

    def fail() -> None:
        with gate.enter("hangs"):
            time.sleep(1)
            raise StorageUnavailable("hangs", "no answer")

    with pytest.raises(StorageUnavailable):
        fail()

    def ask() -> None:
        with gate.enter("hangs"):
            is_inside.set()
            go_on.wait(LONG)

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        assert is_inside.wait(LONG)
        began = time.monotonic()
        with pytest.raises(StorageUnavailable), gate.enter("another"):
            pytest.fail("it was let in")
        assert time.monotonic() - began < LONG / 4
        go_on.set()
        asking.result(LONG)


def test_a_request_within_another_needs_no_room_of_its_own() -> None:
    gate = StoreGate(1)
    with gate.enter("outer"), gate.enter("inner"):
        pass
    with gate.enter("again"):
        pass
