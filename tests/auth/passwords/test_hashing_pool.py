"""The hashing pool: its room, and what clients that leave take from it."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Iterator

import pytest

from registry.auth.passwords.hashing_pool import NICENESS, HashingPool
from registry.oci.errors import Unavailable


class Gate:
    """Work that goes on when it is opened."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self._open = threading.Event()

    def work(self) -> bool:
        self.begun.release()
        return self._open.wait(60)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open()


def test_more_than_may_wait_is_refused_at_once_with_a_time(gate: Gate) -> None:
    async def flood() -> list[object]:
        pool = HashingPool(2, 3)
        accepted = [asyncio.ensure_future(pool.run(gate.work)) for _ in range(5)]
        await asyncio.sleep(0)
        refused = await asyncio.gather(*(pool.run(gate.work) for _ in range(4)), return_exceptions=True)
        gate.open()
        assert await asyncio.gather(*accepted) == [True] * 5
        assert await pool.run(lambda: 7) == 7
        pool.close()
        return list(refused)

    refused = asyncio.run(flood())
    assert [type(error) for error in refused] == [Unavailable] * 4
    assert isinstance(refused[0], Unavailable)
    assert refused[0].headers == {"Retry-After": "1"}


def test_clients_that_leave_do_not_make_room_for_what_has_begun(gate: Gate) -> None:
    async def leave() -> None:
        pool = HashingPool(1, 1)
        begun = asyncio.ensure_future(pool.run(gate.work))
        assert await asyncio.to_thread(gate.begun.acquire, timeout=60)
        begun.cancel()
        waiting = asyncio.ensure_future(pool.run(gate.work))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await pool.run(gate.work)
        waiting.cancel()  # it has not begun: its place is free
        await asyncio.sleep(0)
        again = asyncio.ensure_future(pool.run(gate.work))
        await asyncio.sleep(0)
        gate.open()
        assert await again
        pool.close()

    asyncio.run(leave())


def test_an_error_is_the_callers() -> None:
    async def fail() -> None:
        pool = HashingPool(1, 0)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await pool.run(lambda: 1 // 0)
        pool.close()

    asyncio.run(fail())


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no niceness of their own elsewhere")
def test_its_threads_yield_to_the_event_loop() -> None:
    async def niceness() -> int:
        pool = HashingPool(1, 0)
        try:
            return await pool.run(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        finally:
            pool.close()

    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert asyncio.run(niceness()) == max(before, NICENESS)
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before
