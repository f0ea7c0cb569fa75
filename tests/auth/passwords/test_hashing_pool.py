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

HERE = "192.0.2.1"


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
        accepted = [asyncio.ensure_future(pool.run(gate.work, HERE)) for _ in range(5)]
        await asyncio.sleep(0)
        refused = await asyncio.gather(*(pool.run(gate.work, HERE) for _ in range(4)), return_exceptions=True)
        gate.open()
        assert await asyncio.gather(*accepted) == [True] * 5
        assert await pool.run(lambda: 7, HERE) == 7
        pool.close()
        return list(refused)

    refused = asyncio.run(flood())
    assert [type(error) for error in refused] == [Unavailable] * 4
    assert isinstance(refused[0], Unavailable)
    assert refused[0].headers == {"Retry-After": "1"}


def test_clients_that_leave_do_not_make_room_for_what_has_begun(gate: Gate) -> None:
    async def leave() -> None:
        pool = HashingPool(1, 1)
        begun = asyncio.ensure_future(pool.run(gate.work, HERE))
        assert await asyncio.to_thread(gate.begun.acquire, timeout=60)
        begun.cancel()
        waiting = asyncio.ensure_future(pool.run(gate.work, HERE))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await pool.run(gate.work, HERE)
        waiting.cancel()  # it has not begun: its place is free
        await asyncio.sleep(0)
        again = asyncio.ensure_future(pool.run(gate.work, HERE))
        await asyncio.sleep(0)
        gate.open()
        assert await again
        pool.close()

    asyncio.run(leave())


def test_a_flood_from_one_address_neither_fills_the_pool_nor_goes_first(gate: Gate) -> None:
    async def flood() -> tuple[list[str], list[object]]:
        pool, done = HashingPool(1, 4), list[str]()

        async def login(crowd: str, name: str) -> None:
            await pool.run(gate.work, crowd)
            done.append(name)

        flooding = [asyncio.ensure_future(login(HERE, f"flood {number}")) for number in range(9)]
        await asyncio.sleep(0)
        others = [asyncio.ensure_future(login(f"192.0.2.{number}", f"other {number}")) for number in (2, 3)]
        await asyncio.sleep(0)
        gate.open()
        await asyncio.gather(*others)
        refused = await asyncio.gather(*flooding, return_exceptions=True)
        assert await pool.run(lambda: 7, HERE) == 7
        pool.close()
        return done, [each for each in refused if each is not None]

    done, refused = asyncio.run(flood())
    assert done == ["flood 0", "flood 1", "other 2", "other 3", "flood 2"]
    assert [type(each) for each in refused] == [Unavailable] * 6


def test_many_addresses_that_wait_for_one_each_keep_what_they_have(gate: Gate) -> None:
    async def fill() -> None:
        pool = HashingPool(1, 3)
        accepted = [asyncio.ensure_future(pool.run(gate.work, f"192.0.2.{number}")) for number in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await pool.run(gate.work, "192.0.2.9")
        accepted[2].cancel()
        late = asyncio.ensure_future(pool.run(gate.work, "192.0.2.9"))  # the other has left, and is not yet gone
        await asyncio.sleep(0)
        gate.open()
        await asyncio.gather(*accepted, late, return_exceptions=True)
        assert await pool.run(lambda: 7, "") == 7
        pool.close()

    asyncio.run(fill())


def test_an_error_is_the_callers() -> None:
    async def fail() -> None:
        pool = HashingPool(1, 0)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await pool.run(lambda: 1 // 0, HERE)
        pool.close()

    asyncio.run(fail())


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no niceness of their own elsewhere")
def test_its_threads_yield_to_the_event_loop() -> None:
    async def niceness() -> int:
        pool = HashingPool(1, 0)
        try:
            return await pool.run(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id()), HERE)
        finally:
            pool.close()

    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert asyncio.run(niceness()) == max(before, NICENESS)
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before
