"""Locks by key: one thread at a time for each, and nothing is kept for keys that are not in use."""

from __future__ import annotations

import threading

import pytest

from registry.images import keyed_locks
from registry.images.keyed_locks import KeyedLocks
from registry.oci.errors import Unavailable


def test_two_threads_with_one_key_take_turns() -> None:
    locks, inside, most = KeyedLocks(), 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(200):
            with locks.hold("app"):
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, locks._held) == (1, {})


def test_another_key_does_not_wait() -> None:
    locks = KeyedLocks()
    with locks.hold("one"), locks.hold("two"):
        assert sorted(locks._held) == ["one", "two"]
    assert locks._held == {}


def test_a_thread_that_waits_too_long_is_told_to_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyed_locks, "SECONDS", 0.01)
    locks, failed = KeyedLocks(), []

    def wait() -> None:
        try:
            with locks.hold("app"):
                pass
        except Unavailable as error:
            failed.append(error)

    with locks.hold("app"):
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join()
    assert len(failed) == 1
    assert locks._held == {}
