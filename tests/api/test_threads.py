"""The pool of threads for short calls: one at work, more only while it waits."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest

from registry.api.threads import ASIDE, STALL, ThreadPool
from registry.oci.errors import Unavailable
from registry.waiting import aside, waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONG = 20.0


@contextmanager
def pool(most: int = 8) -> Iterator[ThreadPool]:
    """A pool for the length of a block."""
    threads = ThreadPool(most, "test", LONG)
    try:
        yield threads
    finally:
        threads.close(LONG)


class Crowd:
    """Counts how many calls are in it at once."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0
        self._lock = threading.Lock()

    def visit(self, stay: Callable[[], object]) -> None:
        """Be in it while ``stay`` runs."""
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        stay()
        with self._lock:
            self.now -= 1


def busy() -> None:
    """Use the interpreter for a moment that is shorter than a stall."""
    until = time.monotonic() + STALL / 40
    while time.monotonic() < until:
        pass


def meet_in_turn(barrier: threading.Barrier) -> None:
    """Wait until as many threads do as are to meet, and say so."""
    with waiting:
        barrier.wait(LONG)


def wait_in_turn(event: threading.Event) -> None:
    """Wait, and say so."""
    with waiting:
        assert event.wait(LONG)


def test_calls_return_and_raise_what_they_do() -> None:
    async def main(threads: ThreadPool) -> None:
        assert await threads.run(partial(int, "7")) == 7
        with pytest.raises(ValueError, match="x"):
            await threads.run(partial(int, "x"))
        assert await asyncio.gather(*[threads.run(partial(divmod, n, 7)) for n in range(200)]) == [
            divmod(n, 7) for n in range(200)
        ]

    with pool() as threads:
        asyncio.run(main(threads))


def test_a_call_that_a_thread_takes_at_once_is_not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(threads: ThreadPool) -> None:
        loop, event = asyncio.get_running_loop(), threading.Event()
        timers: list[float] = []
        monkeypatch.setattr(loop, "call_later", lambda seconds, *_: timers.append(seconds))
        first = threads.run(partial(event.wait, LONG))
        assert timers == []
        second = threads.run(event.set)  # waits behind it, and may have to be given a thread later
        assert timers == [STALL]
        threads._watch(loop)
        while not second.done():
            await asyncio.sleep(0)
            threads.give_turn()
        await first

    with pool() as threads:
        asyncio.run(main(threads))


def test_calls_begin_in_the_order_in_which_they_came() -> None:
    began: list[int] = []

    async def main(threads: ThreadPool) -> None:
        await asyncio.gather(*[threads.run(partial(began.append, number)) for number in range(100)])

    with pool(1) as threads:
        asyncio.run(main(threads))
    assert began == list(range(100))


def test_short_calls_are_made_by_few_threads() -> None:
    crowd = Crowd()
    threads_seen: set[str] = set()

    def call() -> None:
        threads_seen.add(threading.current_thread().name)
        crowd.visit(busy)

    async def main(threads: ThreadPool) -> None:
        for _ in range(20):
            await asyncio.gather(*[threads.run(call) for _ in range(20)])

    with pool(32) as threads:
        asyncio.run(main(threads))
    assert len(threads_seen) < 16, threads_seen  # 20 at once; a busy machine may stall some of them


def test_a_call_that_says_it_waits_lets_another_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.api.threads.STALL", 10 * LONG)  # it is not noticed otherwise
    event = threading.Event()

    async def main(threads: ThreadPool) -> None:
        waits = [threads.run(partial(wait_in_turn, event)) for _ in range(5)]
        await threads.run(event.set)  # behind five calls that end only after it
        await asyncio.gather(*waits)

    with pool() as threads:
        asyncio.run(asyncio.wait_for(main(threads), LONG))


def test_a_call_that_waits_without_saying_so_is_noticed() -> None:
    event = threading.Event()

    async def main(threads: ThreadPool) -> None:
        waits = [threads.run(partial(event.wait, LONG)) for _ in range(5)]
        await threads.run(event.set)
        assert await asyncio.gather(*waits) == [True] * 5

    with pool() as threads:
        asyncio.run(asyncio.wait_for(main(threads), LONG))


def test_no_more_than_the_most_work_at_once() -> None:
    crowd = Crowd()

    async def main(threads: ThreadPool) -> None:
        await asyncio.gather(*[threads.run(partial(crowd.visit, partial(time.sleep, STALL * 5))) for _ in range(30)])

    with pool(3) as threads:
        asyncio.run(main(threads))
    assert crowd.most == 3


def test_who_stops_waiting_for_a_call_does_not_disturb_it() -> None:
    event, done = threading.Event(), threading.Event()

    def call() -> None:
        assert event.wait(LONG)
        done.set()

    async def main(threads: ThreadPool) -> None:
        future = threads.run(call)
        await asyncio.sleep(STALL)
        future.cancel()
        event.set()
        assert await threads.run(lambda: 1) == 1

    with pool() as threads:
        asyncio.run(main(threads))
    assert done.wait(LONG)


def test_closing_waits_for_what_was_begun() -> None:
    ended: list[int] = []

    def call(number: int) -> None:
        time.sleep(STALL * 2)
        ended.append(number)

    async def main(threads: ThreadPool) -> None:
        asyncio.gather(*[threads.run(partial(call, number)) for number in range(10)]).cancel()

    threads = ThreadPool(2, "test", LONG)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main(threads))
    threads.close(LONG)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert sorted(ended) == list(range(10))


def test_closing_ends_also_while_calls_lend_their_turns() -> None:
    ended: list[int] = []

    def call(number: int) -> None:
        with waiting:
            time.sleep(STALL)
        ended.append(number)

    async def main(threads: ThreadPool) -> None:
        asyncio.gather(*[threads.run(partial(call, number)) for number in range(40)]).cancel()

    threads = ThreadPool(4, "test", LONG)
    asyncio.run(main(threads))  # the loop is closed before the calls have ended
    closing = threading.Thread(target=partial(threads.close, LONG), daemon=True)
    closing.start()
    closing.join(LONG)
    assert not closing.is_alive()
    assert sorted(ended) == list(range(40))


def test_a_call_that_no_thread_takes_is_given_up_and_what_gives_back_is_not() -> None:
    go_on = threading.Event()
    at_work = threading.Barrier(3)
    ended: list[str] = []

    def hang() -> None:
        at_work.wait(LONG)
        go_on.wait(LONG)

    async def main(threads: ThreadPool) -> None:
        hanging = [threads.run(hang) for _ in range(2)]
        await asyncio.to_thread(at_work.wait, LONG)
        freeing = threads.end(lambda: ended.append("freed"))
        waiting_calls = [threads.run(lambda: ended.append("begun")) for _ in range(50)]
        for call in waiting_calls:
            with pytest.raises(Unavailable) as refused:
                await asyncio.wait_for(call, LONG)
            assert int(refused.value.headers["Retry-After"]) > 0
        assert not freeing.done()
        go_on.set()
        await asyncio.gather(*hanging, freeing)
        await threads.run(lambda: ended.append("later"))

    threads = ThreadPool(2, "test", 0.1)
    asyncio.run(main(threads))
    threads.close(LONG)
    assert ended == ["freed", "later"]


def test_threads_that_wait_for_a_store_are_not_among_those_that_all_share() -> None:
    go_on = threading.Event()

    def ask_the_store() -> None:
        with aside, waiting:
            go_on.wait(LONG)

    async def main(threads: ThreadPool) -> None:
        hanging = [threads.run(ask_the_store) for _ in range(2 * ASIDE)]
        for _ in range(20):
            assert await asyncio.wait_for(threads.run(lambda: 1), LONG) == 1
        assert not any(call.done() for call in hanging)
        further = [threads.run(ask_the_store) for _ in range(2)]  # these are: so many, and no more, step aside
        last = threads.run(lambda: 2)
        done, _ = await asyncio.wait([last], timeout=0.2)
        assert not done
        go_on.set()
        await asyncio.gather(*hanging, *further)
        assert await last == 2

    threads = ThreadPool(2, "test", LONG)
    asyncio.run(main(threads))
    assert threads._aside == 0
    threads.close(LONG)


def test_closing_does_not_wait_for_ever_for_a_call_that_hangs() -> None:
    go_on = threading.Event()

    async def main(threads: ThreadPool) -> None:
        _ = threads.run(lambda: go_on.wait(LONG))

    threads = ThreadPool(2, "test", LONG)
    asyncio.run(main(threads))
    began = time.monotonic()
    threads.close(0.1)
    assert time.monotonic() - began < LONG / 2
    go_on.set()


def test_a_closed_pool_takes_no_call() -> None:
    async def main(threads: ThreadPool) -> None:
        threads.close(LONG)
        with pytest.raises(RuntimeError):
            await threads.run(lambda: 1)

    asyncio.run(main(ThreadPool(4, "test", LONG)))


def test_waiting_without_a_turn_does_nothing() -> None:
    with waiting, aside:
        assert waiting.turn is None


def test_the_thread_that_was_idle_last_gets_the_next_call() -> None:
    async def calls() -> Counter[int]:
        with pool() as threads:
            gate = threading.Barrier(8)
            await asyncio.gather(*[threads.run(partial(meet_in_turn, gate)) for _ in range(8)])
            served: Counter[int] = Counter()
            for _ in range(50):
                served[await threads.run(threading.get_ident)] += 1
                await asyncio.sleep(STALL / 4)
            return served

    assert asyncio.run(calls()).most_common(1)[0][1] > 25


def test_a_thread_that_hangs_at_the_close_ends_with_its_call() -> None:
    began, gate, thread = threading.Event(), threading.Event(), []

    def hang() -> None:
        thread.append(threading.current_thread())
        began.set()
        gate.wait(LONG)

    async def calls() -> None:
        threads = ThreadPool(2, "test", LONG)
        hanging = threads.run(hang)
        await asyncio.to_thread(began.wait, LONG)
        threads.close(0.05)
        gate.set()
        await hanging

    asyncio.run(calls())
    thread[0].join(LONG)
    assert not thread[0].is_alive()
