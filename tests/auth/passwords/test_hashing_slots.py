"""Hashing slots: processes take turns, and one that dies gives its slot back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING

import pytest

from registry.auth.passwords.hashing_pool import HashingPool
from registry.auth.passwords.hashing_slots import HashingSlots, slots_for
from tests.support.readable import is_readable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TIMEOUT = 20.0
SHORT = 0.2
"""Seconds in which what waits for a slot does not get it."""


class Holder:
    """A process that takes a slot, says so, and holds it until it is told to go on."""

    def __init__(self, take: Callable[[Callable[[], None]], None]) -> None:
        told, tell = os.pipe()
        wait, go = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            with contextlib.suppress(BaseException):

                def held() -> None:
                    os.write(tell, b"x")
                    os.read(wait, 1)

                take(held)
                os._exit(0)
            os._exit(1)
        os.close(tell)
        os.close(wait)
        self._told, self._go = told, go

    def has_slot(self, seconds: float) -> bool:
        """Whether it has taken one by then."""
        return is_readable(self._told, seconds)

    def let_go(self) -> None:
        os.write(self._go, b"x")
        assert os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]) == 0

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def close(self) -> None:
        os.close(self._told)
        os.close(self._go)
        with contextlib.suppress(ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


class Place:
    """Processes that share slots."""

    def __init__(self, slots: HashingSlots) -> None:
        self.slots = slots
        self.holders: list[Holder] = []

    def hold(self) -> Holder:
        def take(held: Callable[[], None]) -> None:
            with self.slots.hold():
                held()

        return self.add(take)

    def add(self, take: Callable[[Callable[[], None]], None]) -> Holder:
        self.holders.append(Holder(take))
        return self.holders[-1]


@pytest.fixture(params=[1, 2])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    made = Place(HashingSlots(request.param))
    yield made
    for holder in made.holders:
        with contextlib.suppress(ProcessLookupError):
            holder.close()


def fill(place: Place) -> list[Holder]:
    holders = [place.hold() for _ in range(place.slots._count)]
    assert all(holder.has_slot(TIMEOUT) for holder in holders)
    return holders


def test_one_more_waits_until_one_is_given_back(place: Place) -> None:
    holders = fill(place)
    late = place.hold()
    assert not late.has_slot(SHORT)
    for holder in holders:
        holder.let_go()
    assert late.has_slot(TIMEOUT)


def test_a_process_that_dies_gives_its_slot_back(place: Place) -> None:
    holders = fill(place)
    late = place.hold()
    assert not late.has_slot(SHORT)
    for holder in holders:
        holder.kill()
    assert late.has_slot(TIMEOUT)


def test_an_error_gives_it_back() -> None:
    place = Place(HashingSlots(1))
    with pytest.raises(ZeroDivisionError), place.slots.hold():
        raise ZeroDivisionError
    holder = place.hold()
    assert holder.has_slot(TIMEOUT)
    holder.close()


def test_a_pool_that_shares_waits_for_the_other_processes() -> None:
    place = Place(HashingSlots(1))

    def verify(held: Callable[[], None]) -> None:
        async def run() -> None:
            pool = HashingPool(1, 1)
            pool.share(place.slots)
            await pool.run(held, "192.0.2.1")

        asyncio.run(run())

    first = place.hold()
    assert first.has_slot(TIMEOUT)
    second = place.add(verify)
    assert not second.has_slot(SHORT)
    first.let_go()
    assert second.has_slot(TIMEOUT)
    for holder in place.holders:
        with contextlib.suppress(ProcessLookupError):
            holder.close()


@pytest.mark.parametrize(("cores", "slots"), [(1, 1), (2, 1), (3, 1), (4, 2), (64, 32)])
def test_half_of_the_cores_verify_passwords(cores: int, slots: int) -> None:
    assert slots_for(cores) == slots
