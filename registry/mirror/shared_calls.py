"""*Shared calls*: of several threads that want the same at once, one does it, and all have its result or error."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Generic, TypeVar

from registry.waiting import aside

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

T = TypeVar("T")


class SharedCalls(Generic[T]):
    """Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[Hashable, Future[T]] = {}

    def run(self, key: Hashable, call: Callable[[], T]) -> T:
        """What ``call`` returns, or what one returns or raises that another thread has begun and not ended."""
        with self._lock:
            running = self._calls.get(key)
            mine: Future[T] = Future()
            if running is None:
                self._calls[key] = mine
        if running is not None:
            with aside:
                return running.result()
        try:
            result = call()
        except BaseException as error:
            self._end(key)
            mine.set_exception(error)
            raise
        self._end(key)
        mine.set_result(result)
        return result

    def _end(self, key: Hashable) -> None:
        with self._lock:
            del self._calls[key]
