"""*Interruption*: the end of a wait for another machine, from a thread that knows that nothing wants the answer.

A thread works ``with`` its interruption. Code below it that waits says ``with interruptible(end):``, where ``end`` ends
the wait, as a rule by the end of a connection; in a thread without an interruption this does nothing.

Tests: ``tests/upstream/test_interruption.py``.
"""

from __future__ import annotations

import contextlib
import threading
import time
from time import monotonic
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SLICE: Final = 0.2
"""Seconds of a wait for a lock, after which it looks whether it was interrupted."""


class Interrupted(Exception):
    """What the thread waited for is not wanted any more."""


class _Own(threading.local):
    """The interruption of the calling thread; None if it has none."""

    value: Interruption | None = None


_own = _Own()


class Interruption:
    """A context manager for one thread at a time; ``interrupt`` in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._end: Callable[[], object] | None = None
        self._outer: list[Interruption | None] = []

    @property
    def is_over(self) -> bool:
        """Whether ``interrupt`` was called."""
        return self._over.is_set()

    def interrupt(self) -> None:
        """End what the thread waits for, now and from now on: it gets Interrupted."""
        with self._lock:  # so that no connection is ended which the thread has given back meanwhile
            self._over.set()
            end, self._end = self._end, None
            if end is not None:
                with contextlib.suppress(OSError, RuntimeError, ValueError):
                    end()

    def require(self) -> None:
        """Raises Interrupted."""
        if self._over.is_set():
            raise Interrupted

    @contextlib.contextmanager
    def ending(self, end: Callable[[], object]) -> Iterator[None]:
        """See ``interruptible``."""
        with self._lock:
            self.require()
            before, self._end = self._end, end
        try:
            yield
        except Exception as error:
            if self._over.is_set():
                raise Interrupted from error
            raise
        finally:
            with self._lock:
                self._end = before
        self.require()

    def sleep(self, seconds: float) -> None:
        """Wait so long. Raises Interrupted."""
        self._over.wait(seconds)
        self.require()

    def __enter__(self) -> Self:
        self._outer.append(_own.value)
        _own.value = self
        return self

    def __exit__(self, *exc: object) -> None:
        _own.value = self._outer.pop()


def interruptible(end: Callable[[], object]) -> contextlib.AbstractContextManager[None]:
    """A wait that ``end`` ends, in any thread. The block raises Interrupted then, whatever came of it.

    ``end`` is quick, and may raise OSError, RuntimeError or ValueError where the wait has ended by itself.
    """
    own = _own.value
    return contextlib.nullcontext() if own is None else own.ending(end)


def sleep(seconds: float) -> None:
    """Wait so long. Raises Interrupted."""
    own = _own.value
    if own is None:
        time.sleep(seconds)
    else:
        own.sleep(seconds)


def acquire(lock: threading.Lock, seconds: float) -> bool:
    """Take a lock, as its own method does with a timeout. Raises Interrupted."""
    own = _own.value
    if own is None:
        return lock.acquire(timeout=max(seconds, 0.0))
    deadline = monotonic() + seconds
    while not lock.acquire(timeout=min(max(deadline - monotonic(), 0.0), _SLICE)):
        own.require()
        if monotonic() >= deadline:
            return False
    return True
