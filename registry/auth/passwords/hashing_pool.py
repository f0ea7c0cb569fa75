"""*Hashing pool*: threads that verify passwords and do nothing else, so that a flood of logins slows only logins."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections import OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from registry.cores import cores
from registry.oci.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.auth.passwords.hashing_slots import HashingSlots

T = TypeVar("T")

ALONE: Final = 2
"""Threads where one process serves; of several, of which there is one for each core, each has one."""
WAITING: Final = 64
"""Verifications that wait for a thread; beyond, a login is answered 503 at once."""
NICENESS: Final = 10
"""What the threads yield to the event loop, which answers requests that need no hash."""


class HashingPool:
    """For one event loop.

    Crowds, each the clients of one address, take turns: a flood from one of them delays a login from another address by
    one verification, and takes no room from it.
    """

    def __init__(self, threads: int = ALONE, waiting: int = WAITING) -> None:
        self._free = threads
        self._most = waiting
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        """The turns that each crowd waits for; the crowd whose turn is next comes first."""
        self._slots: HashingSlots | None = None
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="password", initializer=_yield_to_the_rest)

    async def run(self, work: Callable[[], T], crowd: str) -> T:
        """What ``work`` returns or raises, from a thread. Raises Unavailable if too many wait, most of them of it."""
        loop = asyncio.get_running_loop()
        await self._turn(loop, crowd)
        try:
            future = self._executor.submit(work if self._slots is None else partial(_in_slot, self._slots, work))
        except BaseException:  # it is closed
            self._give_turn()
            raise
        future.add_done_callback(lambda _: _tell(loop, self._give_turn))
        return await asyncio.wrap_future(future)

    def share(self, slots: HashingSlots) -> None:
        """Verify passwords in turn with other processes. For a pool of one thread, before ``run``."""
        self._slots = slots

    def has_room(self, crowd: str) -> bool:
        """Whether ``run`` would take one more verification of this crowd now."""
        return bool(self._free) or not self._is_full() or self._loser(crowd) is not None

    def close(self) -> None:
        """Give up what waits; what has begun ends by itself."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _turn(self, loop: asyncio.AbstractEventLoop, crowd: str) -> None:
        """Return when a thread is free for this crowd, which has to ``_give_turn`` then."""
        if self._free:
            self._free -= 1
            return
        self._make_room(crowd)
        turn = loop.create_future()
        self._waiting.setdefault(crowd, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it was given in the same moment
                self._give_turn()
            elif turn in self._waiting.get(crowd, ()):
                self._remove(crowd, turn)
            raise

    def _make_room(self, crowd: str) -> None:
        """Let the crowd that waits for most lose its last turn. Raises Unavailable if it is this one."""
        if not self._is_full():
            return
        loser = self._loser(crowd)
        if loser is None:
            raise no_room()
        turn = self._waiting[loser][-1]
        self._remove(loser, turn)
        if not turn.done():
            turn.set_exception(no_room())

    def _is_full(self) -> bool:
        return sum(map(len, self._waiting.values())) >= self._most

    def _loser(self, crowd: str) -> str | None:
        """The crowd that loses a turn to this one; None if none waits for that much more."""
        busiest = max(self._waiting, key=lambda each: len(self._waiting[each]), default=crowd)
        has_more = len(self._waiting.get(busiest, ())) > len(self._waiting.get(crowd, ())) + 1
        return busiest if has_more else None

    def _give_turn(self) -> None:
        """A thread is free."""
        while self._waiting:
            crowd = next(iter(self._waiting))
            turn = self._waiting[crowd][0]
            self._waiting.move_to_end(crowd)
            self._remove(crowd, turn)
            if not turn.done():  # its client may have left just now
                turn.set_result(None)
                return
        self._free += 1

    def _remove(self, crowd: str, turn: asyncio.Future[None]) -> None:
        self._waiting[crowd].remove(turn)
        if not self._waiting[crowd]:
            del self._waiting[crowd]


def no_room() -> Unavailable:
    """The answer to a login for which there is no room."""
    return Unavailable("too many passwords wait to be checked; try again", headers={"Retry-After": "1"})


def _in_slot(slots: HashingSlots, work: Callable[[], T]) -> T:
    with slots.hold():
        return work()


def _tell(loop: asyncio.AbstractEventLoop, function: Callable[[], object]) -> None:
    with contextlib.suppress(RuntimeError):  # it is closed: none waits
        loop.call_soon_threadsafe(function)


def _yield_to_the_rest() -> None:
    cores.use_all()
    if sys.platform == "linux":  # where each thread has a niceness of its own
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
