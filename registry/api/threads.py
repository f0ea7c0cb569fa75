"""*Threads*: a pool for short calls whose threads take cooperative turns.

A push makes hundreds of system calls, and at each of them runnable threads would contend for the interpreter lock. So
one thread works while it makes progress. A further one begins when every thread at work waits: it has lent its turn
(``registry.waiting``), or has been with its call for STALL seconds.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from math import inf
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from registry.oci.errors import Unavailable
from registry.waiting import waiting

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

STALL = 0.002
"""Seconds after which a call is taken to be waiting for something."""
POLL = 0.002
"""Seconds between two looks at whether a pool that closes has ended its calls."""
ASIDE = 4
"""Times as many threads as may work, which wait for a store besides them, at most."""


class _Call(NamedTuple):
    function: Callable[[], Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    until: float
    """When it is given up, if no thread has begun it (monotonic)."""

    def execute(self) -> None:
        try:
            result = self.function()
        except BaseException as error:  # noqa: BLE001 - every error goes to the caller that waits
            self._tell(_fail, error)
        else:
            self._tell(_resolve, result)

    def _tell(self, how: Callable[[asyncio.Future[Any], Any], None], what: object) -> None:
        try:
            self.loop.call_soon_threadsafe(how, self.future, what)
        except RuntimeError:
            return  # the loop is closed: no caller waits


class ThreadPool:
    """Runs calls in the order in which they come. ``run`` and ``end`` are for the thread of one event loop."""

    def __init__(self, most: int, name: str, patience: float) -> None:
        """``most`` threads at once, however many of them wait, but for those that have stepped aside.

        ``patience``: seconds that a call waits for one.
        """
        self._most = most
        self._name = name
        self._patience = patience
        self._calls: deque[_Call] = deque()
        self._ends: deque[_Call] = deque()
        """Calls that give something back: they go first, and are never given up."""
        self._lock = threading.Lock()
        self._turns: set[_Turn] = set()
        self._aside = 0
        """Threads among those with a turn that wait for a store and are not counted."""
        self._workers: list[_Worker] = []
        self._idle: list[_Worker] = []
        """Those that wait for a turn. The last one gets the next: the processor still has its data."""
        self._watching = False
        self._closed = False
        self._ended = False
        """Each thread ends as soon as it has nothing to do."""

    def run(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Begin a call; the future has what it returns or raises, or Unavailable where no thread came in time.

        Raises RuntimeError once the pool is closed.
        """
        return self._add(self._calls, function, monotonic() + self._patience)

    def end(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """As ``run``, for what frees something: it is done before all that only begins, however long it has to wait."""
        return self._add(self._ends, function, inf)

    def close(self, seconds: float) -> None:
        """Take no more calls, and wait until every call has ended, but not longer than this."""
        self._closed = True
        deadline = monotonic() + seconds
        while (self._has_calls() or self._turns) and monotonic() < deadline:
            self.give_turn()
            sleep(POLL)
        with self._lock:
            self._ended = True
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.give(None)
        for worker in self._workers:
            worker.join(max(0.0, deadline - monotonic()))

    def _add(self, calls: deque[_Call], function: Callable[[], T], until: float) -> asyncio.Future[T]:
        if self._closed:
            raise RuntimeError("the pool of threads is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        calls.append(_Call(function, future, loop, until))
        if not self._give_turn() and not self._watching:
            self._watching = True
            loop.call_later(STALL, self._watch, loop)
        return future

    def _has_calls(self) -> bool:
        return bool(self._calls or self._ends)

    def give_turn(self) -> None:
        """Let one more thread work, if a call waits and no thread is free for it."""
        if self._calls or self._ends:
            self._give_turn()

    def _give_turn(self) -> bool:
        """Returns whether one thread works now and no other, so that it takes the call that waits for certain."""
        with self._lock:
            if not self._is_due():
                return False
            is_first = not self._turns
            turn = _Turn(self)
            self._turns.add(turn)
            worker = self._idle.pop() if self._idle else self._add_worker()
        worker.give(turn)
        return is_first

    def _add_worker(self) -> _Worker:
        worker = _Worker(self._serve, f"{self._name}-{len(self._workers)}")
        self._workers.append(worker)
        return worker

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        self.give_turn()
        self._give_up()
        self._watching = self._has_calls()
        if self._watching:
            loop.call_later(STALL, self._watch, loop)

    def _give_up(self) -> None:
        """Answer the callers that have waited for too long: all threads are with calls that hang."""
        now = monotonic()
        while self._calls and self._calls[0].until < now:
            with self._lock:
                if not self._calls or self._calls[0].until >= now:
                    return
                call = self._calls.popleft()
            message = f"no thread was free for {self._patience:g} seconds; try again"
            _fail(call.future, Unavailable(message, headers={"Retry-After": "2"}))

    def step_aside(self) -> bool:
        """Count one thread less. Returns whether there was room for one more that is not counted."""
        with self._lock:
            is_there = self._aside < ASIDE * self._most
            self._aside += is_there
        if is_there:
            self.give_turn()
        return is_there

    def come_back(self) -> None:
        """Count it again; there may be more than should be for as long as its call lasts."""
        with self._lock:
            self._aside -= 1

    def _is_due(self) -> bool:
        """Whether a call waits, and one more thread may work: as far as is known, each that does waits."""
        turns = self._turns
        if not (self._calls or self._ends) or len(turns) - self._aside >= self._most:
            return False
        if turns:
            recent = monotonic() - STALL
            for turn in turns:
                if turn.since > recent:
                    return False
        return True

    def _serve(self, worker: _Worker) -> None:
        while (turn := worker.wait()) is not None:
            waiting.give(turn)
            while (call := self._next(worker, turn)) is not None:
                call.execute()
                del call  # what it holds is not kept while this thread waits

    def _next(self, worker: _Worker, turn: _Turn) -> _Call | None:
        """The next call for the thread with this turn; None ends the turn: nothing to do, or another is doing it."""
        with self._lock:
            self._turns.remove(turn)
            if not self._is_due():
                if self._ended:
                    worker.give(None)
                else:
                    self._idle.append(worker)
                return None
            turn.since = monotonic()
            self._turns.add(turn)
            return (self._ends or self._calls).popleft()


class _Worker:
    """One thread of the pool, which waits for a turn on a lock of its own.

    Threads that wait on one queue wake each other: each that gets something lets the next one look.
    """

    def __init__(self, serve: Callable[[_Worker], None], name: str) -> None:
        self._turn: _Turn | None = None
        self._given = threading.Lock()
        self._given.acquire()
        self._thread = threading.Thread(target=serve, args=(self,), name=name, daemon=True)
        self._thread.start()

    def give(self, turn: _Turn | None) -> None:
        """Let it work; None lets it end. It has taken what it was given before."""
        self._turn = turn
        self._given.release()

    def wait(self) -> _Turn | None:
        """What it is given."""
        self._given.acquire()
        return self._turn

    def join(self, seconds: float) -> None:
        """Wait until its thread has ended, at most so long."""
        self._thread.join(seconds)


class _Turn:
    """The right of one thread to work."""

    def __init__(self, pool: ThreadPool) -> None:
        self._pool = pool
        self._steps = 0
        """How often it has stepped aside and not come back."""
        self._is_aside = False
        self.since = monotonic()
        """When its thread was last known to work and not to wait; 0.0 while it waits."""

    def lend(self) -> None:
        """See ``registry.waiting.Turn``."""
        self.since = 0.0
        self._pool.give_turn()

    def take_back(self) -> None:
        """See ``registry.waiting.Turn``. A thread that works meanwhile ends its call, so two run for a moment."""
        self.since = monotonic()

    def step_aside(self) -> None:
        """See ``registry.waiting.Turn``."""
        self._steps += 1
        if self._steps == 1:
            self._is_aside = self._pool.step_aside()

    def come_back(self) -> None:
        """See ``registry.waiting.Turn``."""
        self._steps -= 1
        if self._is_aside and not self._steps:
            self._is_aside = False
            self._pool.come_back()


def _resolve(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
