"""Parallel work: many calls that wait for storage, a bounded number at a time.

Tests: ``tests/migration/test_walk.py``.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Self, TypeVar

from registry.cores import cores
from registry.waiting import aside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from registry.storage.driver import Capabilities

A = TypeVar("A")
R = TypeVar("R")

AT_ONCE = 16
"""Calls of one piece of work that are under way at the same time."""


def map_parallel(capabilities: Capabilities, function: Callable[[A], R], items: Sequence[A]) -> list[R]:
    """``function`` of each, in order; the first error ends it, when what is under way has ended."""
    if capabilities.stat_is_local or len(items) < 2:  # noqa: PLR2004 - one needs no company
        return [function(item) for item in items]
    with aside, ThreadPoolExecutor(min(AT_ONCE, len(items)), "several", cores.use_all) as pool:
        return list(pool.map(function, items))


_AHEAD = 4
"""Results for each thread that may wait for the one that takes them."""


class WorkerPool:
    """A bounded pool of threads. A context manager; what has not begun when it is left is dropped."""

    def __init__(self, parallel: int) -> None:
        self.parallel = parallel
        self._pool = ThreadPoolExecutor(parallel, thread_name_prefix="migration")

    def each(self, function: Callable[[A], R], items: Iterable[A]) -> Iterator[R]:
        """``function`` of each item, in order; items are taken as there is room. The first error ends it."""
        waiting: deque[Future[R]] = deque()
        for item in items:
            waiting.append(self._pool.submit(function, item))
            if len(waiting) >= self.parallel * _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._pool.shutdown(cancel_futures=True)
