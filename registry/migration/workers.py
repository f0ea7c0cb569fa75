"""Reading many objects at once, and no more than a given number at a time."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

A = TypeVar("A")
R = TypeVar("R")

_AHEAD = 4
"""Results for each thread that may wait for the one that takes them."""


class Workers:
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
