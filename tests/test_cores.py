"""The threads of a worker share a core where each core has a worker; others use every core."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import pytest

from registry.cores import Cores

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads are bound to cores on Linux alone")


def in_a_thread(function: Callable[[], T]) -> T:
    """What it returns, in a thread of its own: the core that this is bound to is no other thread's."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def own() -> set[int]:
    """The cores of the calling thread."""
    return os.sched_getaffinity(0)


@pytest.mark.parametrize("place", range(len(own())))
def test_a_worker_has_the_core_of_its_place(place: int) -> None:
    def share() -> set[int]:
        Cores().share(place, len(own()))
        return own()

    assert in_a_thread(share) == {sorted(own())[place]}


def test_threads_that_are_begun_later_share_it_but_for_those_that_use_all() -> None:
    before, cores = own(), Cores()

    def share() -> tuple[set[int], set[int]]:
        cores.share(0, len(before))
        with ThreadPoolExecutor(1) as bound, ThreadPoolExecutor(1, "free", cores.use_all) as free:
            return bound.submit(own).result(), free.submit(own).result()

    assert in_a_thread(share) == ({min(before)}, before)
    assert own() == before


@pytest.mark.parametrize("more", [-1, 1])
def test_nothing_is_bound_where_there_is_no_worker_for_each_core(more: int) -> None:
    def share() -> set[int]:
        Cores().share(0, len(own()) + more)
        return own()

    assert in_a_thread(share) == own()


def test_a_system_that_refuses_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: int, _cores: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    cores = Cores()
    cores.share(0, len(own()))
    cores.use_all()
    assert not cores._all


def test_a_thread_that_was_never_bound_keeps_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    def use_all() -> set[int]:
        os.sched_setaffinity(0, {min(own())})
        Cores().use_all()
        return own()

    assert in_a_thread(use_all) == {min(own())}
